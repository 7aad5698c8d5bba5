"""Splits: what is kept apart is apart, whatever the table and the seed."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cellhermes as ch
from cellhermes.io._graphs import TAB3
from cellhermes.train.questions._splits import SETTINGS, WAYS

PARTS = ["train", "valid", "test"]
GENES = [f"G{i}" for i in range(20)]
LINES = [f"L{i}" for i in range(12)]
THIRDS = (0.5, 0.25, 0.25)


def fitness() -> pd.DataFrame:
    return pd.DataFrame(itertools.product(GENES, LINES), columns=["gene", "cell_line"]).assign(answer="Yes", effect=0.5)


def combinations(genes: list[str]) -> pd.DataFrame:
    pairs = [f"{b}+{a}" if i % 2 else f"{a}+{b}" for i, (a, b) in enumerate(itertools.combinations(genes, 2))]
    return pd.DataFrame({"perturbation": [*genes, *pairs] * 2, "gene": "HBZ", "answer": "Yes"})


def seen_in_training(frame: pd.DataFrame, column: str) -> set[str]:
    return {gene for value in frame.loc[frame["split"] == "train", column] for gene in value.split("+")}


# ---- independent checks, with sets and loops


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_unseen_cell_lines_are_unseen(seed: int) -> None:
    found = ch.train.questions.split(fitness(), "groups", columns="cell_line", seed=seed)
    lines = {part: set(found.loc[found["split"] == part, "cell_line"]) for part in PARTS}
    assert all(lines.values())
    assert lines["train"].isdisjoint(lines["valid"] | lines["test"])
    assert lines["valid"].isdisjoint(lines["test"])
    assert found.drop(columns="split").equals(fitness())


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_unseen_genes_are_unseen_also_within_combinations(seed: int) -> None:
    found = ch.train.questions.split(combinations(GENES), "unseen_genes", columns="perturbation", seed=seed)
    genes = [{g for v in found.loc[found["split"] == part, "perturbation"] for g in v.split("+")} for part in PARTS]
    assert all(genes)
    assert not any(a & b for a, b in itertools.combinations(genes, 2))
    n_dropped = len(combinations(GENES)) - len(found)
    assert found.attrs["dropped"] == {"genes of different parts": n_dropped}


@given(st.integers(0, 1000), st.sampled_from([0, 1, 2, None]))
@settings(max_examples=40, deadline=None)
def test_combinations_have_as_many_seen_genes_as_they_say(seed: int, n_seen: int | None) -> None:
    found = ch.train.questions.split(
        combinations(GENES), "unseen_combinations", n_seen=n_seen, fractions=THIRDS, seed=seed
    )
    trained = seen_in_training(found, "perturbation")
    whole = {frozenset(v.split("+")) for v in found.loc[found["split"] == "train", "perturbation"]}
    asked = found[found["split"] != "train"]
    for value, count in zip(asked["perturbation"], asked["n_seen"], strict=True):
        genes = frozenset(value.split("+"))
        assert len(genes) == 2
        assert genes not in whole
        assert len(genes & trained) == count
    assert set(asked["n_seen"]) == ({0, 1, 2} if n_seen is None else {n_seen})
    assert found.loc[found["split"] == "train", "n_seen"].isna().all()


def test_a_pair_is_the_same_the_other_way_round() -> None:
    pairs = list(itertools.combinations(GENES, 2))
    frame = pd.DataFrame(pairs + [(b, a) for a, b in pairs], columns=["gene_a", "gene_b"])
    found = ch.train.questions.split(frame, "groups", columns=["gene_a", "gene_b"], unordered=True)
    half = len(pairs)
    assert found["split"].tolist()[:half] == found["split"].tolist()[half:]


def test_rows_that_ask_the_same_are_together() -> None:
    frame = pd.concat([fitness(), fitness().assign(answer="No", effect=0.1)], ignore_index=True)
    found = ch.train.questions.split(frame, "random")
    assert (found.groupby(["gene", "cell_line"])["split"].nunique() == 1).all()
    assert found.groupby("cell_line")["split"].nunique().max() == 3  # at random otherwise


@pytest.mark.parametrize("how", ["random", "unseen_genes"])
def test_order_of_the_rows_does_not_count(how: str) -> None:
    frame = fitness()
    shuffled = frame.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(
        ch.train.questions.split(frame, how), ch.train.questions.split(shuffled, how).sort_index()
    )


def test_same_seed_same_split_and_other_seed_another() -> None:
    first, again, other = (
        ch.train.questions.split(fitness(), "groups", columns="gene", seed=seed)["split"].tolist() for seed in (1, 1, 2)
    )
    assert first == again != other


def test_nothing_is_written_into_the_frame() -> None:
    frame = fitness()
    ch.train.questions.split(frame, "cell_fitness/unseen_gene")
    pd.testing.assert_frame_equal(frame, fitness())


@given(st.integers(3, 200), st.integers(1, 8), st.integers(1, 8), st.integers(1, 8))
def test_shares_are_as_asked_for_and_no_part_is_empty(n: int, a: int, b: int, c: int) -> None:
    fractions = np.array([a, b, c]) / (a + b + c)
    frame = pd.DataFrame({"donor": np.arange(n)})
    if n * fractions[0] < 2:  # the others may leave nothing for training
        return
    counts = ch.train.questions.split(frame, "groups", columns="donor", fractions=fractions)["split"].value_counts()
    assert all(abs(counts[part] - n * share) <= 2 for part, share in zip(PARTS, fractions, strict=True))


def test_a_part_may_be_left_out() -> None:
    assert set(ch.train.questions.split(fitness(), "groups", columns="gene", fractions=(0.8, 0, 0.2))["split"]) == {
        "train",
        "test",
    }


# ---- errors


def test_check_sees_a_leak_of_each_kind() -> None:
    check, error = ch.train.questions.check_split, ch.train.questions.LeakError
    pairs = pd.DataFrame({"a": ["X", "Y"], "b": ["Y", "X"], "split": ["train", "test"]})
    check(pairs, ["a", "b"])
    with pytest.raises(error, match=r"1 of 1 values of a and b .* \('X', 'Y'\)"):
        check(pairs, ["a", "b"], unordered=True)
    with pytest.raises(error, match="2 of 2 values"):
        check(pairs, ["a", "b"], genes=True)
    joined = pd.DataFrame({"p": ["X+Y", "Y"], "split": ["train", "valid"]})
    check(joined, "p")
    with pytest.raises(error, match="such as 'Y'"):
        check(joined, "p", genes=True)


def test_a_split_that_leaks_is_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    from cellhermes.train.questions import _splits

    def broken(members: list, *_: object) -> dict:  # a gene's part is asked for often, and answered at random
        return type("Random", (dict,), {"__missing__": lambda _, gene: next(turn)})()

    turn = itertools.cycle([0, 1, 2, 2, 1, 0, 0])
    monkeypatch.setattr(_splits, "_of_genes", broken)
    with pytest.raises(ch.train.questions.LeakError):
        ch.train.questions.split(combinations(GENES), "unseen_genes", columns="perturbation")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda f: ch.train.questions.split(f, "groups", columns="donor"), "no column ['donor']"),
        (
            lambda f: ch.train.questions.split(f.assign(donor=[None] + [1] * (len(f) - 1)), "groups", columns="donor"),
            "no value in 1 of 240",
        ),
        (lambda f: ch.train.questions.split(f[:24], "groups", columns="gene"), "2 gene cannot be split"),
        (lambda f: ch.train.questions.split(f, "groups", columns="gene", fractions=(0.5, 0.2)), "add up to 1"),
        (lambda f: ch.train.questions.split(f, "groups", columns="gene", fractions=(0.5, 0.2, 0.2)), "add up to 1"),
        (
            lambda f: ch.train.questions.split(f, "unseen_combinations", columns="gene"),
            "no row is left for valid and test",
        ),
        (
            lambda f: ch.train.questions.split(f, "unseen_combinations", columns="gene", n_seen=3),
            "expected 0, 1, 2 or None",
        ),
        (
            lambda f: ch.train.questions.split(f.assign(gene="A+B+C"), "unseen_combinations", columns="gene"),
            "more than two genes",
        ),
        (lambda f: ch.train.questions.split(f, "fitness"), "No split 'fitness'. Known: random, groups, "),
        (lambda f: ch.train.questions.split(f, "fitness"), "cell_fitness/unseen_gene"),
        (lambda f: ch.train.questions.split(f, "groups"), "how='groups' needs columns="),
        (lambda f: ch.train.questions.split(f, "random", columns="gene"), "how='random' takes no columns."),
        (lambda f: ch.train.questions.split(f, "cell_fitness/unseen_gene", columns="gene"), "takes no columns."),
        (lambda f: ch.train.questions.split(f, "unseen_genes", unordered=True), "takes no unordered."),
        (lambda f: ch.train.questions.split(f, "groups", columns="gene", n_seen=0), "takes no n_seen."),
        (lambda f: ch.train.questions.split(f, "unseen_combinations", columns=["gene", "b"]), "expected one column"),
        (lambda f: ch.train.questions.check_split(f, "gene"), "Split it first"),
        (lambda f: ch.train.questions.check_split(f.assign(split="dev"), "gene"), "has ['dev']"),
    ],
)
def test_what_cannot_be_split_says_why(call, said: str) -> None:
    with pytest.raises((KeyError, ValueError)) as error:
        call(fitness())
    assert said in str(error.value)


# ---- settings


def test_there_are_the_thirteen_settings_of_the_paper() -> None:
    of_the_paper = [name for name in SETTINGS if not name.startswith("t_cell")]
    assert len(of_the_paper) == 13
    tasks = {name.partition("/")[0] for name in SETTINGS} - {"perturbation"}
    assert tasks <= {*ch.text.Task.names()}
    assert {name.split("/")[0] for name in of_the_paper if name.startswith("genetic")} == {
        name for name in ch.text.Task.names() if name.startswith("genetic")
    }


def frame_for(setting: str) -> pd.DataFrame:
    if setting.startswith("perturbation"):
        return combinations(GENES).merge(pd.DataFrame({"cell_line": LINES}), how="cross")
    if setting.startswith("cell_fitness"):
        return fitness()
    if setting.startswith("genetic"):
        return pd.DataFrame(itertools.combinations(GENES, 2), columns=["gene_a", "gene_b"])
    if setting.startswith("gene_set"):
        return pd.DataFrame(itertools.product(GENES, ["x", "y"]), columns=["gene", "category"])
    return pd.DataFrame({"cell": np.arange(60), "clonotype": np.arange(60) // 3})


@pytest.mark.parametrize("setting", SETTINGS)
def test_each_setting_keeps_apart_what_it_names(setting: str) -> None:
    found = ch.train.questions.split(frame_for(setting), setting)
    assert set(found["split"]) == set(PARTS)
    apart = {
        "perturbation/unseen_gene": lambda row: row["perturbation"].split("+"),
        "perturbation/unseen_combination": lambda row: [frozenset(row["perturbation"].split("+"))],
        "perturbation/unseen_cell_line": lambda row: [row["cell_line"]],
        "cell_fitness/unseen_cell_line": lambda row: [row["cell_line"]],
        "cell_fitness/unseen_gene": lambda row: [row["gene"]],
        "genetic_interaction": lambda row: [frozenset((row["gene_a"], row["gene_b"]))],
        "gene_set": lambda row: [(row["gene"], row["category"])],
        "t_cell_reactivity/cell": lambda row: [row["cell"]],
        "t_cell_reactivity/clonotype": lambda row: [row["clonotype"]],
    }[re.sub(r"^(genetic_interaction|gene_set)_.*", r"\1", setting)]
    part_of: dict[object, str] = {}
    for row in found.to_dict("records"):
        for thing in apart(row):
            assert part_of.setdefault(thing, row["split"]) == row["split"]


def test_random_split_takes_missing_values_as_equal() -> None:
    cells = [f"cell {i}" for i in range(20)]
    half = pd.Categorical(["B (half 1)", "B (half 2)", None, None] * 5)
    frame = pd.DataFrame({"cell": cells, "half": half, "note": ["a", None] * 10})
    found = ch.train.questions.split(frame, "random", fractions=(0.5, 0, 0.5))
    assert found["split"].value_counts().to_dict() == {"train": 10, "test": 10}
    pd.testing.assert_frame_equal(found.drop(columns="split"), frame)
    twice = pd.concat([frame, frame], ignore_index=True)
    assert (ch.train.questions.split(twice, "random").groupby("cell")["split"].nunique() == 1).all()


def test_split_by_group_names_the_column_with_missing_values() -> None:
    frame = pd.DataFrame({"clone_id": ["1", None, "2"]})
    with pytest.raises(ValueError, match=r"'clone_id' has no value in 1 of 3 rows; fill or leave them out"):
        ch.train.questions.split(frame, "groups", columns="clone_id")


def test_genes_with_blanks_around_the_plus_are_the_same_genes() -> None:
    """``A + B`` holds A and B: neither may be tested as unseen while a combination written so trains."""
    singles = [f"G{i}" for i in range(20)]
    frame = pd.DataFrame({"perturbation": [*singles, *(f"{a} + {b}" for a, b in itertools.pairwise(singles))]})
    found = ch.train.questions.split(frame, "unseen_genes", columns="perturbation")
    of = {
        part: {g.strip() for p in rows for g in p.split("+")} for part, rows in found.groupby("split")["perturbation"]
    }
    assert set(of) == set(PARTS)
    assert not of["test"] & of["train"]
    assert not of["valid"] & of["train"]
    with pytest.raises(ch.train.questions.LeakError, match="1 of 2 values"):
        ch.train.questions.check_split(
            pd.DataFrame({"perturbation": ["A + B", "B"], "split": ["train", "test"]}), "perturbation", genes=True
        )
    seen = ch.train.questions.split(frame, "unseen_combinations")
    trained = {g.strip() for p in seen.query("split == 'train'")["perturbation"] for g in p.split("+")}
    tested = seen[seen["split"] != "train"]
    assert [sum(g.strip() in trained for g in p.split("+")) for p in tested["perturbation"]] == tested[
        "n_seen"
    ].tolist()


# ---- settings and what readers write


def contigs(folder):
    rows = ["barcode,contig_id,chain,v_gene,j_gene,productive,cdr3,cdr3_nt,reads,umis"]
    for i in range(40):  # twenty receptors of two cells; ten alpha chains, of two receptors each
        alpha, beta = (
            f"TGTGC{'ACGT'[i // 4 % 4]}{'ACGT'[i // 16]}TTC",
            f"TGTGC{'ACGT'[i // 2 % 4]}{'ACGT'[i // 8 % 4]}{'ACGT'[i // 32]}TTC",
        )
        rows += [
            f"C{i}-1,a{i},TRA,TRAV1,TRAJ1,True,CAF,{alpha},9,3",
            f"C{i}-1,b{i},TRB,TRBV1,TRBJ1,True,CAF,{beta},9,3",
        ]
    return ch.io.read_contigs(written(folder, "contigs.csv", rows))


def written(folder, name, rows):
    path = folder / name
    path.write_text("\n".join(rows) + "\n")
    return path


def fitness_of_lines(folder):
    rows = [",".join(["", *(f"G{i} ({i})" for i in range(30))])]
    rows += [",".join([f"ACH-{line}", *(str(-1.0 * (i % 2)) for i in range(30))]) for line in range(12)]
    return ch.io.read_depmap(written(folder, "CRISPRGeneEffect.csv", rows))


def effects(folder):
    genes = [f"G{i}" for i in range(12)]
    rows = ["perturbation,cell_line,gene,log2fc,padj"]
    rows += [f"{a} + {b},L{line},HBZ,1.5,0.01" for a, b in itertools.combinations(genes, 2) for line in range(12)]
    rows += [f"{a},L{line},HBZ,1.5,0.01" for a in genes for line in range(12)]
    return ch.io.read_perturbation_effects(written(folder, "effects.csv", rows))


def categories(folder):
    rows = ["gene,disease"] + [f"G{i},disease {i % 4}" for i in range(40)]
    return ch.io.read_gene_categories(written(folder, "categories.csv", rows))


def interactions(folder):
    row = dict.fromkeys(TAB3, "-") | {"Organism ID Interactor A": "9606", "Organism ID Interactor B": "9606"}
    ends = ["Official Symbol Interactor A", "Official Symbol Interactor B"]
    row["Experimental System"] = "Synthetic Lethality"
    rows = ["\t".join({**row, **dict(zip(ends, pair, strict=True))}.values()) for pair in itertools.pairwise(GENES)]
    return ch.io.read_genetic_interactions(written(folder, "biogrid.tab3.txt", ["#" + "\t".join(row), *rows]))


@pytest.mark.parametrize(
    ("settings", "read"),
    [
        ("t_cell_reactivity", contigs),
        ("cell_fitness", fitness_of_lines),
        ("perturbation", effects),
        ("gene_set", categories),
        ("genetic_interaction", interactions),
    ],
)
def test_settings_take_what_readers_write(tmp_path, settings, read) -> None:
    frame = read(tmp_path)
    names = [name for name in SETTINGS if name.startswith(settings)]
    assert names
    for name in names:
        assert set(ch.train.questions.split(frame, name)["split"]) == set(PARTS), name


def test_a_clonotype_is_in_one_part_and_shared_chains_are_counted(tmp_path, caplog) -> None:
    caplog.set_level("INFO", "cellhermes")
    found = ch.train.questions.split(contigs(tmp_path), "t_cell_reactivity/clonotype", fractions=(0.5, 0.25, 0.25))
    assert (found.groupby("clone_id", observed=True)["split"].nunique() == 1).all()
    train = found[found["split"] == "train"]
    rest = found[found["split"] != "train"]
    expected = {}
    for chain in ("IR_VJ_1_junction", "IR_VDJ_1_junction"):
        sequences = sorted(set(rest[chain]))
        expected[chain] = (sum(any(s == t for t in train[chain]) for s in sequences), len(sequences))
    assert found.attrs["shared"] == expected
    assert expected["IR_VJ_1_junction"][0] > 0 == expected["IR_VDJ_1_junction"][0]
    assert f"{expected['IR_VJ_1_junction'][0]} of {expected['IR_VJ_1_junction'][1]} IR_VJ_1_junction" in caplog.text


def test_a_frame_without_clonotypes_says_what_they_may_be_called() -> None:
    with pytest.raises(KeyError, match="neither 'clonotype' nor 'clone_id'"):
        ch.train.questions.split(pd.DataFrame({"cell": ["a", "b"]}), "t_cell_reactivity/clonotype")


def test_a_gene_inside_a_double_is_seen_however_it_is_joined() -> None:
    genes = ["KLF1", "MAP2K6", "FEV", "BAK1", "TP53", "CEBPA", "JUN", "FOSB"]
    pairs = [f"{a}+{b}" for i, a in enumerate(genes) for b in genes[:i]]
    for joined in ("+", "_", " + "):
        frame = pd.DataFrame({"perturbation": [*genes, *(pair.replace("+", joined) for pair in pairs)], "gene": "HBZ"})
        found = ch.train.questions.split(frame.assign(answer="Yes"), "unseen_genes", columns="perturbation")
        parts = {
            part: {gene for name in rows["perturbation"] for gene in re.split(r"[ +_]+", name)}
            for part, rows in found.groupby("split")
        }
        assert not parts["train"] & parts["test"]
        assert parts["train"] | parts["test"] | parts["valid"] == {*genes}
        again = ch.train.questions.split(frame.assign(answer="Yes"), "unseen_combinations", fractions=(0.5, 0.25, 0.25))
        assert set(again.loc[again["split"] == "test", "n_seen"]) == {0, 1, 2}


def test_the_docstring_lists_every_way_and_setting() -> None:
    text = ch.train.questions.split.__doc__
    for name in (*WAYS, *SETTINGS):
        kind = re.sub("^(genetic_interaction|gene_set)", "", name)
        assert f'``"{name}"``' in text or f"``...{kind}``" in text, name


def test_a_setting_of_combinations_takes_how_many_genes_are_seen() -> None:
    frame, how = combinations(GENES), "perturbation/unseen_combination"
    found = ch.train.questions.split(frame, how, n_seen=1, fractions=THIRDS)
    assert set(found["n_seen"].dropna()) == {1}
    same = ch.train.questions.split(frame, "unseen_combinations", n_seen=1, fractions=THIRDS)
    pd.testing.assert_frame_equal(found, same)
