"""Readers of explanations: fresh tables in the order that is promised."""

import re

import pytest

import cellhermes as ch

TASK = "t_cell_reactivity"


@pytest.fixture
def cells(adata, tiny):
    adata = adata[:6].copy()
    ch.pp.cell_sentences(adata, n_genes=5)
    ch.tl.explain(adata, tiny, TASK)
    return adata


def test_importance_is_the_layer_in_falling_order_with_positions_of_the_sentence(cells):
    table = ch.get.importance(cells)
    assert len(table) == 30
    for cell, rows in table.groupby("cell"):
        genes = cells.obs["cell_sentence"][cell].split()
        assert rows["importance"].is_monotonic_decreasing
        assert [genes[i - 1] for i in rows["position"]] == rows["gene"].tolist()
        assert rows["importance"].tolist() == cells[cell, rows["gene"].tolist()].layers["explain"].toarray()[0].tolist()
    one = ch.get.importance(cells, cells.obs_names[2], n_top=2)
    assert one.equals(table[table["cell"] == cells.obs_names[2]].head(2).reset_index(drop=True))


def test_readers_give_what_is_stored_and_never_the_table_itself(cells):
    table = ch.get.explain(cells)
    answer = table["answer"].iloc[0]
    assert set(ch.get.explain(cells, answer=answer)["answer"]) == {answer}
    heads = ch.get.explain(cells, "heads")
    assert heads.equals(cells.uns["explain"]["heads"])
    heads.loc[:, "entropy"] = -1
    assert (cells.uns["explain"]["heads"]["entropy"] >= 0).all()


def test_html_shades_genes_in_the_order_of_the_sentence_and_escapes_names(cells):
    cells.obs_names = ["a<b", *cells.obs_names[1:]]
    text = ch.get.sentence_html(cells, "a<b")
    assert re.findall(r">([^<>]+)</span>", text) == cells.obs["cell_sentence"].iloc[0].split()
    assert "a&lt;b" in text
    assert "a<b" not in text
    assert text._repr_html_() == text
    shades = [float(x) for x in re.findall(r"rgba\([\d,]+,([\d.]+)\)", text)]
    values = ch.get.importance(cells, "a<b").sort_values("position")["importance"].to_numpy()
    assert shades == pytest.approx((0.8 * values / values.max()).tolist(), abs=0.006)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: ch.get.importance(a, "nobody"), "1 cells are not explained, such as 'nobody'; 6 are"),
        (lambda a: ch.get.importance(a, key="other"), r"layers\['other'\]` is no explanation"),
        (lambda a: ch.get.explain(a, answer="Maybe"), "No explained cell has the answer 'Maybe'"),
        (lambda a: ch.get.explain(a, key="other"), r"layers\['other'\]` is no explanation. Run `ch.tl.explain"),
        (lambda a: ch.get.explain(a, "reasons"), "Run `ch.tl.reasons"),
        (ch.get.faithfulness, "Run `ch.tl.faithfulness"),
        (lambda a: ch.get.faithfulness(a, "quality"), "Run `ch.tl.faithfulness"),
    ],
)
def test_what_is_not_there_is_said_with_the_call_that_makes_it(cells, call, message):
    with pytest.raises(KeyError, match=message):
        call(cells)
