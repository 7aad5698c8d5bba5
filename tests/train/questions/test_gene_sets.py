"""Questions of gene sets: every gene is dealt out, and none crosses a split."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cellhermes as ch


def table(sizes: list[int]) -> pd.DataFrame:
    rows = [(f"G{i}", f"category {k}") for k, size in enumerate(sizes) for i in range(size)]
    return pd.DataFrame(rows, columns=["gene", "category"])


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 12), st.integers(1, 3), st.integers(0, 5))
def test_each_gene_is_shown_as_often_as_asked(sizes: list[int], n_genes: int, n_repeats: int, seed: int) -> None:
    min_genes = min(3, n_genes)
    options = {"n_genes": n_genes, "min_genes": min_genes, "n_repeats": n_repeats, "max_questions": 1000}
    if max(sizes) < min_genes:
        with pytest.raises(ValueError, match="lower min_genes"):
            ch.train.questions.gene_set_questions(table(sizes), **options)
        return
    found = ch.train.questions.gene_set_questions(table(sizes), **options, seed=seed)
    for k, size in enumerate(sizes):
        lists = [genes.split() for genes in found.loc[found["answer"] == f"category {k}", "genes"]]
        shown = sorted(gene for genes in lists for gene in genes)
        assert shown == (sorted([f"G{i}" for i in range(size)] * n_repeats) if size >= min_genes else [])
        assert all(len(set(genes)) == len(genes) >= min_genes for genes in lists)
        # as short as asked for, unless that would leave too few for another list
        assert all(len(genes) <= max(n_genes, 2 * min_genes - 1) for genes in lists)


def test_no_gene_of_a_category_crosses_the_split() -> None:
    frame = ch.train.questions.split(table([40, 60, 30]), "gene_set_disease", fractions=(0.6, 0.2, 0.2))
    found = ch.train.questions.gene_set_questions(frame, n_genes=5)
    assert set(found["split"]) == {"train", "valid", "test"}
    part_of = frame.set_index(["category", "gene"])["split"].to_dict()
    for row in found.itertuples():
        assert {part_of[row.answer, gene] for gene in row.genes.split()} == {row.split}


def test_a_frame_that_leaks_is_refused() -> None:
    frame = pd.concat([table([9]).assign(split=part) for part in ("train", "test")])
    with pytest.raises(ch.train.questions.LeakError):
        ch.train.questions.gene_set_questions(frame)


def test_small_categories_are_left_out_and_counted() -> None:
    found = ch.train.questions.gene_set_questions(table([2, 9]))
    assert set(found["answer"]) == {"category 1"}
    assert found.attrs["dropped"] == {"category with too few genes": 1}
    with pytest.raises(KeyError, match="category"):
        ch.train.questions.gene_set_questions(pd.DataFrame({"gene": ["A"]}))


def test_at_most_so_many_questions_of_a_category() -> None:
    assert len(ch.train.questions.gene_set_questions(table([40]), n_genes=4, max_questions=6)) == 6


def test_questions_fit_the_task() -> None:
    found = ch.train.questions.gene_set_questions(table([30, 30]))
    task = ch.text.Task.load("gene_set_disease").with_answers(found["answer"].unique())
    prompts = task.prompts(found)
    assert [len(prompt.spans) for prompt in prompts] == [len(genes.split()) for genes in found["genes"]]
    assert task.answers_of(found) == found["answer"].tolist()
    assert np.unique(found["answer"]).tolist() == sorted(task.answers)
