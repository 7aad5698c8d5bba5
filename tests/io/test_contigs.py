"""Contigs of T-cell receptors: against a loop over lines, on real contigs, and on tables that are not right."""

import csv
import gzip
import time
from collections import Counter, defaultdict
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cellhermes as ch
from cellhermes.io._contigs import AIRR, TENX

ARM = {"TRA": "VJ", "TRG": "VJ", "TRB": "VDJ", "TRD": "VDJ"}
FLAGS = ("is_cell", "high_confidence", "full_length", "productive")


def contig(barcode, number, chain, junction, umis=3, reads=10, **changes):
    row = {
        "barcode": barcode, "is_cell": "True", "contig_id": f"{barcode}_contig_{number}", "high_confidence": "True",
        "length": "500", "chain": chain, "v_gene": f"{chain}V1", "d_gene": "None", "j_gene": f"{chain}J1",
        "c_gene": f"{chain}C", "full_length": "True", "productive": "True", "cdr3": f"C{junction[:2]}F",
        "cdr3_nt": junction, "reads": str(reads), "umis": str(umis), "raw_clonotype_id": "clonotype1",
    }  # fmt: skip
    return row | changes


def write(path: Path, rows: list[dict[str, str]], sep: str = ",") -> Path:
    lines = "\n".join([sep.join(rows[0]), *(sep.join(row.values()) for row in rows)]) + "\n"
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
    return path


def slow(rows: list[dict[str, str]], arms: str, field: str = "cdr3_nt"):
    """By cell its chains in order, and its clonotype as a set of cells; from the rows, one by one."""
    chains = defaultdict(lambda: {"VJ": [], "VDJ": []})
    for row in rows:
        if all(row[flag] == "True" for flag in FLAGS) and row["chain"] in ARM and row["cdr3_nt"] not in ("None", ""):
            chains[row.get("sample", ""), row["barcode"]][ARM[row["chain"]]].append(row)
    for cell in chains.values():
        for one in cell.values():
            one.sort(key=lambda r: (-int(r["umis"]), -int(r["reads"]), r["cdr3_nt"], r["contig_id"]))
    first = {cell: {arm: (one[0][field] if one else "") for arm, one in both.items()} for cell, both in chains.items()}
    same = {
        "all": lambda a, b: a == b,
        "VJ": lambda a, b: a["VJ"] == b["VJ"] != "",
        "VDJ": lambda a, b: a["VDJ"] == b["VDJ"] != "",
        "any": lambda a, b: a["VJ"] == b["VJ"] != "" or a["VDJ"] == b["VDJ"] != "",
    }[arms]
    clones = {}
    for cell, receptor in first.items():  # breadth first; one step is enough unless either chain may join
        if cell in clones or not same(receptor, receptor):
            continue
        members, waiting = {cell}, [cell]
        while waiting:
            now = first[waiting.pop()]
            new = {other for other in first if other not in members and same(first[other], now)}
            members |= new
            waiting += new
        clones |= dict.fromkeys(members, frozenset(members))
    return chains, clones


def clones_of(frame: pd.DataFrame) -> dict[tuple[str, str], frozenset]:
    frame = frame.assign(sample=frame.get("sample", ""))[frame["clone_id"].notna()]
    cells = pd.Series([*zip(frame["sample"], frame["barcode"], strict=True)], frame.index)
    return {cell: frozenset(part) for _, part in cells.groupby(frame["clone_id"], observed=True) for cell in part}


ROWS = st.lists(
    st.builds(
        lambda cell, chain, junction, umis, reads, flag: (cell, chain, junction, umis, reads, flag),
        st.integers(0, 7), st.sampled_from(["TRA", "TRB", "TRG", "TRD", "IGH", "Multi"]),
        st.sampled_from(["TGTAA", "TGTCC", "TGTGG", "None"]), st.integers(1, 3), st.integers(1, 3),
        st.sampled_from([*[""] * 6, *FLAGS]),
    ),
    min_size=1, max_size=40,
)  # fmt: skip


@pytest.mark.parametrize("arms", ["all", "any", "VJ", "VDJ"])
@settings(max_examples=12, deadline=None)
@given(drawn=ROWS)
def test_clonotypes_and_chains_are_those_of_a_loop(tmp_path_factory, arms, drawn):
    rows = [contig("KEEP-1", 0, "TRA", "TGTTT"), contig("KEEP-1", 1, "TRB", "TGTAT")]
    for i, (cell, chain, junction, umis, reads, flag) in enumerate(drawn, 2):
        rows.append(contig(f"CELL-{cell}", i, chain, junction, umis, reads, **({flag: "False"} if flag else {})))
    path = write(tmp_path_factory.mktemp("contigs") / "contigs.csv", rows)
    frame = ch.io.read_contigs(path, receptor_arms=arms)
    chains, clones = slow(rows, arms)
    assert clones_of(frame) == clones
    assert {*frame["barcode"]} == {barcode for _, barcode in chains}
    for row in frame.to_dict("records"):
        cell = chains["", row["barcode"]]
        for arm, one in cell.items():
            found = [row[f"IR_{arm}_{i}_junction"] for i in (1, 2) if not pd.isna(row[f"IR_{arm}_{i}_junction"])]
            assert found == [r["cdr3_nt"] for r in one[:2]]
        n_vj, n_vdj = len(cell["VJ"]), len(cell["VDJ"])
        named = {(1, 1): "single pair", (2, 1): "extra VJ", (1, 2): "extra VDJ", (2, 2): "two full chains"}
        several = "multichain" if max(n_vj, n_vdj) > 2 else "orphan VDJ" if not n_vj else "orphan VJ"
        assert row["chain_pairing"] == named.get((n_vj, n_vdj), several)
        if not pd.isna(row["clone_id"]):
            assert row["clone_id_size"] == len(clones["", row["barcode"]])
    counts = frame["clone_id"].astype(str)[frame["clone_id"].notna()].value_counts()
    by_number = counts[sorted(counts.index, key=int)]
    assert by_number.is_monotonic_decreasing
    assert [*by_number.index] == [str(i) for i in range(len(by_number))]
    assert len(rows) == frame.attrs["rows"]
    assert sum(frame.attrs["dropped"].values()) == len(rows) - sum(
        map(len, (r for c in chains.values() for r in c.values()))
    )


def test_order_of_the_lines_changes_nothing(tmp_path):
    rng = np.random.default_rng(0)
    drawn = [
        rng.integers(20, size=80),
        rng.choice(["TRA", "TRB"], 80),
        rng.integers(4, size=80),
        rng.integers(1, 4, 80),
    ]
    rows = [
        contig(f"C{cell}-1", i, chain, f"TGT{'ACGT'[k]}", umis)
        for i, (cell, chain, k, umis) in enumerate(zip(*drawn, strict=True))
    ]
    one = ch.io.read_contigs(write(tmp_path / "a.csv", rows)).sort_index()
    two = ch.io.read_contigs(write(tmp_path / "b.tsv.gz", rows[::-1], "\t")).sort_index()
    pd.testing.assert_frame_equal(one, two)


def test_real_contigs_as_a_loop_finds_them(data_dir):
    path = data_dir / "tcr_contigs_lung_blood.tsv.gz"
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    start = time.process_time()
    frame = ch.io.read_contigs(path)
    assert time.process_time() - start < 5  # 0.6 s when it was written
    with gzip.open(path, "rt") as file:
        rows = [*csv.DictReader(file, delimiter="\t")]
    best = {}
    for row in rows:
        key = row["sample"], row["barcode"], ARM.get(row["chain"])
        rank = (-int(row["umis"]), -int(row["reads"]), row["cdr3_nt"])
        if key[2] and (key not in best or rank < best[key][0]):
            best[key] = rank, row["cdr3_nt"]
    cells = {key[:2] for key in best}
    receptor = {cell: tuple(best.get((*cell, arm), (0, ""))[1] for arm in ("VJ", "VDJ")) for cell in cells}
    sizes = Counter(receptor.values())
    assert len(frame) == len(cells)
    assert frame["clone_id"].nunique() == len(sizes)
    assert frame.index.is_unique
    samples = frame["sample"]
    for (sample, barcode), size in zip(
        zip(samples, frame["barcode"], strict=True), frame["clone_id_size"], strict=True
    ):
        assert size == sizes[receptor[sample, barcode]]
    assert frame.attrs["dropped"] == {"no chain of a T-cell receptor": 1}
    patients = {name: name[:3] for name in samples.unique()}
    apart = ch.io.read_contigs(path, within=patients)
    owners = pd.DataFrame({"clone": apart["clone_id"], "patient": apart["sample"].map(patients)}).drop_duplicates()
    assert owners["clone"].is_unique
    assert apart["clone_id"].nunique() == len({(patients[s], receptor[s, b]) for s, b in cells})


def test_splits_by_clonotype_leave_no_receptor_on_both_sides(data_dir):
    frame = ch.io.read_contigs(data_dir / "tcr_contigs_lung_blood.tsv.gz", receptor_arms="any").iloc[:4000]
    split = ch.train.questions.split(frame[["clone_id", "barcode"]], "groups", columns="clone_id")
    for arm in ("VJ", "VDJ"):
        parts = split["split"].groupby(frame[f"IR_{arm}_1_junction"], observed=True).nunique()
        assert parts.max() == 1


def test_files_by_sample_and_names_that_fit(tmp_path):
    rows = [contig("AAAC-1", 1, "TRA", "TGTAA"), contig("AAAC-1", 2, "TRB", "TGTCC")]
    files = {name: write(tmp_path / f"{name}.csv", rows) for name in ("blood", "tumour")}
    frame = ch.io.read_contigs(files, within={"blood": "p1", "tumour": "p2"}, names="{barcode}-{sample}")
    assert [*frame.index] == ["AAAC-1-blood", "AAAC-1-tumour"]
    assert [*frame["clone_id"]] == ["0", "1"]
    assert [*ch.io.read_contigs(files)["clone_id"]] == ["0", "0"]
    with pytest.raises(ValueError, match="1 cells would share a name, such as 'AAAC-1'"):
        ch.io.read_contigs(files, names="{barcode}")


def test_a_column_keeps_clonotypes_apart_and_amino_acids_join_them(tmp_path):
    rows = [
        contig(f"C{i}-1", 1, "TRB", junction, cdr3="CAF", donor=donor)
        for i, (junction, donor) in enumerate([("TGTAA", "x"), ("TGTCC", "x"), ("TGTCC", "y")])
    ]
    path = write(tmp_path / "contigs.csv", rows)
    assert ch.io.read_contigs(path)["clone_id"].tolist() == ["1", "0", "0"]
    assert ch.io.read_contigs(path, sequence="aa")["clone_id"].tolist() == ["0", "0", "0"]
    assert ch.io.read_contigs(path, within="donor")["clone_id"].nunique() == 3


def test_airr_tables_say_the_same(tmp_path):
    rows = [
        contig("A-1", 1, "TRA", "TGTAA", 2), contig("A-1", 2, "TRB", "TGTCC", 9),
        contig("B-1", 1, "TRB", "TGTCC", 1), contig("B-1", 2, "TRB", "TGTGG", 5, productive="False"),
    ]  # fmt: skip
    expected = ch.io.read_contigs(write(tmp_path / "contigs.csv", rows))
    theirs = {ours: column for column, ours in AIRR.items() if column not in ("umi_count", "locus")}
    shown = [
        {theirs[ours]: row[column] for column, ours in TENX.items() if ours in theirs}
        | {"productive": row["productive"][0], "is_cell": "T"}
        for row in rows
    ]
    found = ch.io.read_contigs(write(tmp_path / "airr_rearrangement.tsv", shown, "\t"))
    assert found.attrs.pop("format") == "AIRR"
    assert found.attrs["dropped"] == {"not productive": 1}
    pd.testing.assert_frame_equal(found, expected)


def test_clonotypes_join_cells_and_survive_h5ad(tmp_path):
    rows = [contig("A-1", 1, "TRA", "TGTAA"), contig("A-1", 2, "TRB", "TGTCC"), contig("B-1", 1, "IGH", "TGTCC")]
    frame = ch.io.read_contigs(write(tmp_path / "contigs.csv", rows))
    assert frame.attrs["cells"] == {"single pair": 1, "no IR": 1}
    adata = ad.AnnData(np.ones((2, 1), np.float32), obs=pd.DataFrame(index=["A-1", "B-1"]))
    adata.obs = adata.obs.join(frame)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    read = ad.read_h5ad(tmp_path / "cells.h5ad").obs
    assert read["clone_id"].isna().tolist() == [False, True]
    assert read["IR_VDJ_1_junction"].iloc[0] == "TGTCC"
    assert read["clone_id_size"].iloc[0] == 1


@pytest.mark.parametrize(
    ("changes", "options", "error", "message"),
    [
        ({"productive": "maybe"}, {}, ValueError, r"column 'productive' has \['maybe'\]; expected True or False"),
        ({"umis": "many"}, {}, ValueError, "no numbers, such as 'many'"),
        ({"umis": "1e18"}, {}, ValueError, "column 'umis' has '1e18'; expected a count"),
        ({"contig_id": "A-1_contig_2"}, {}, ValueError, "1 contigs occur twice.*name the column.*sample="),
        ({}, {"sample": "library"}, KeyError, "no column 'library' with the sample"),
        ({}, {"within": "donor"}, KeyError, "no column 'donor' for within="),
        ({}, {"within": {"other": "x"}}, KeyError, "no donor for the samples"),
        ({}, {"receptor_arms": "both"}, ValueError, "receptor_arms='both' is not known"),
        ({}, {"sequence": "dna"}, ValueError, "sequence='dna' is not known"),
    ],
)
def test_tables_and_arguments_that_are_not_right(tmp_path, changes, options, error, message):
    rows = [contig("A-1", 1, "TRA", "TGTAA", **changes), contig("A-1", 2, "TRB", "TGTCC")]
    with pytest.raises(error, match=message):
        ch.io.read_contigs(write(tmp_path / "contigs.csv", rows), **options)


def test_another_table_an_empty_one_and_one_without_receptors(tmp_path):
    path = tmp_path / "contigs.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"no column 'barcode', 'contig_id', .*contig annotations of Cell Ranger"):
        ch.io.read_contigs(path)
    write(path, [contig("A-1", 1, "TRA", "None"), contig("A-1", 2, "IGH", "TGTCC")])
    with pytest.raises(ValueError, match="can be used. Dropped: no chain of a T-cell receptor: 1, no junction: 1"):
        ch.io.read_contigs(path)
    with pytest.raises(ValueError, match="empty mapping"):
        ch.io.read_contigs({})
    with pytest.raises(FileNotFoundError):
        ch.io.read_contigs(tmp_path / "none.csv")
