"""Negatives: none is known, none is in two parts, and names tell little."""

import itertools

import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import cellhermes as ch


def hub(n: int = 40) -> pd.DataFrame:
    """One gene with a fifth of the pairs, and others."""
    genes = [f"G{i}" for i in range(n)]
    rows = [("HUB", gene) for gene in genes[: n // 4]] + [(genes[i], genes[(7 * i + 3) % n]) for i in range(n)]
    return pd.DataFrame(rows, columns=["gene_a", "gene_b"]).query("gene_a != gene_b").assign(answer="Yes")


def pairs_of(frame: pd.DataFrame) -> list[frozenset[str]]:
    return [frozenset(pair) for pair in zip(frame["gene_a"], frame["gene_b"], strict=True)]


@given(st.integers(0, 500), st.sampled_from([0.5, 1.0, 2.0]))
@settings(max_examples=25, deadline=None)
def test_negatives_are_new_pairs_of_genes_of_their_part(seed: int, ratio: float) -> None:
    frame = ch.train.questions.split(
        hub(), "groups", columns=["gene_a", "gene_b"], unordered=True, fractions=(0.6, 0.2, 0.2), seed=seed
    )
    found = ch.train.questions.sample_negatives(frame, ratio=ratio, seed=seed)
    yes, no = (found[found["answer"] == answer] for answer in ("Yes", "No"))
    assert not set(pairs_of(yes)) & set(pairs_of(no))
    assert len(set(pairs_of(no))) == len(no)
    assert all(len(pair) == 2 for pair in pairs_of(no))
    for part in ("train", "valid", "test"):
        there = yes[yes["split"] == part]
        asked = no[no["split"] == part]
        assert len(asked) == round(ratio * len(there))
        assert {*asked["gene_a"], *asked["gene_b"]} <= {*there["gene_a"], *there["gene_b"]}


def test_unseen_genes_stay_unseen() -> None:
    pairs = pd.DataFrame(itertools.combinations([f"G{i}" for i in range(40)], 2), columns=["gene_a", "gene_b"])
    frame = pairs.sample(frac=0.3, random_state=0).assign(answer="Yes")
    frame = ch.train.questions.split(frame, "unseen_genes", columns=["gene_a", "gene_b"], fractions=(0.5, 0.25, 0.25))
    found = ch.train.questions.sample_negatives(frame)
    ch.train.questions.check_split(found, ["gene_a", "gene_b"], genes=True)


def test_a_hub_is_in_many_negatives_too() -> None:
    frame = hub(100)
    found = ch.train.questions.sample_negatives(frame)
    share = {
        answer: rows[["gene_a", "gene_b"]].eq("HUB").any(axis=1).mean() for answer, rows in found.groupby("answer")
    }
    assert share["No"] > share["Yes"] / 3


def test_what_is_known_elsewhere_is_no_negative() -> None:
    frame = pd.DataFrame({"gene_a": ["A", "C"], "gene_b": ["B", "D"], "answer": "Yes"})
    known = pd.DataFrame({"gene_a": ["A", "D", "C"], "gene_b": ["C", "A", "B"]})
    found = ch.train.questions.sample_negatives(frame, known=known, ratio=0.5)
    assert set(pairs_of(found[found["answer"] == "No"])) == {frozenset("BD")}
    with pytest.raises(ValueError, match="only 1 of 2 negatives"):
        ch.train.questions.sample_negatives(frame, known=known)


def test_frames_with_other_answers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"has \['No'\]; expected pairs with the answer 'Yes' only"):
        ch.train.questions.sample_negatives(hub().assign(answer="No"))
    with pytest.raises(KeyError, match="no column"):
        ch.train.questions.sample_negatives(hub().drop(columns="gene_b"))


@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from(["Yes", "No"])), min_size=1, max_size=60),
    st.integers(0, 9),
)
def test_balance_keeps_as_many_of_each_answer_in_each_group(rows: list[tuple[str, str]], seed: int) -> None:
    frame = pd.DataFrame(rows, columns=["perturbation", "answer"])
    counts = frame.value_counts().unstack(fill_value=0).reindex(columns=["Yes", "No"], fill_value=0)
    expected = counts.min(axis=1)
    assume(expected.any())
    found = ch.train.questions.balance(frame, within=["perturbation"], seed=seed)
    for name, rows_of in found.groupby("perturbation"):
        assert set(rows_of["answer"].value_counts()) == {expected[name]}
    assert set(found["perturbation"]) == set(expected.index[expected > 0])
    assert found.index.is_monotonic_increasing
    assert frame.loc[found.index].equals(found)


def test_nothing_left_is_an_error() -> None:
    frame = pd.DataFrame({"perturbation": ["x", "y"], "answer": ["Yes", "No"]})
    with pytest.raises(ValueError, match="nothing is left"):
        ch.train.questions.balance(frame, within=["perturbation"])


def test_parts_are_balanced_apart() -> None:
    frame = pd.DataFrame({"answer": ["Yes", "No", "No", "Yes", "Yes", "No"], "split": ["train"] * 3 + ["test"] * 3})
    assert ch.train.questions.balance(frame).groupby(["split", "answer"]).size().tolist() == [1, 1, 1, 1]
    assert len(ch.train.questions.balance(frame, ratio=2)) == 6
