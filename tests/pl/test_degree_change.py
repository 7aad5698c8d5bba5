"""Bars of the genes with the largest changes."""

import cellhermes as ch
from cellhermes import get


def test_bars_are_the_largest_changes_by_size(drawn):
    ax = ch.pl.degree_change(drawn, "B", "NK", n_genes=8)
    table = get.degree_change(drawn, "B", "NK").head(8)
    genes = [t.get_text() for t in ax.get_yticklabels()]
    assert set(genes) == set(table.index)
    assert [bar.get_width() for bar in ax.containers[0]] == table.loc[genes, "change"].tolist()
    assert table.loc[genes, "change"].is_monotonic_increasing


def test_degrees_in_both_groups_stand_at_the_bars(drawn):
    ax = ch.pl.degree_change(drawn, "B", "NK", n_genes=3)
    table = get.degree_change(drawn, "B", "NK")
    for gene, text in zip([t.get_text() for t in ax.get_yticklabels()], ax.texts, strict=True):
        assert text.get_text() == f"{table.loc[gene, 'degree_reference']} → {table.loc[gene, 'degree']}"


def test_change_between_halves_is_drawn_where_it_is_known(drawn):
    ax = ch.pl.degree_change(drawn, "B", "NK", n_genes=8)
    table = get.degree_change(drawn, "B", "NK")
    genes = [t.get_text() for t in ax.get_yticklabels()]
    assert [bar.get_width() for bar in ax.containers[1]] == table.loc[genes, "null_change"].tolist()
    assert ax.get_legend().get_texts()[0].get_text() == "between halves of B"
    other = ch.pl.degree_change(drawn, "NK", "B")  # of which no halves were made
    assert len(other.containers) == 1
    assert other.get_legend() is None
