from __future__ import annotations

import gzip
import logging
import zipfile

import networkx as nx
import pytest

import cellhermes as ch
from cellhermes.io._graphs import TAB3

LINES = [
    # symbols, type, organisms
    ("TP53", "MDM2", "physical", "9606", "9606"),
    ("MDM2", "TP53", "physical", "9606", "9606"),  # the same pair the other way round
    ("TP53", "MDM2", "physical", "9606", "9606"),  # another paper
    ("TP53", "TP53", "physical", "9606", "9606"),
    ("LONELY", "LONELY", "physical", "9606", "9606"),
    ("EP300", "Trp53", "physical", "9606", "10090"),
    ("Crebbp", "Trp53", "physical", "10090", "10090"),
    ("BRCA1", "PARP1", "genetic", "9606", "9606"),
    ("-", "PARP1", "physical", "9606", "9606"),
    ("EP300", "TP53", "physical", "9606", "9606"),
]


def tab3(lines=LINES, columns=TAB3) -> str:
    fields = dict.fromkeys(columns, "-")
    names = [f"Official Symbol Interactor {side}" for side in "AB"]
    names += ["Experimental System Type", *[f"Organism ID Interactor {side}" for side in "AB"]]
    rows = [fields | {n: v for n, v in zip(names, line, strict=True) if n in fields} for line in lines]
    table = [["#" + columns[0], *columns[1:]], *[list(row.values()) for row in rows]]
    return "".join("\t".join(row) + "\n" for row in table)


def edge_set(graph):
    return {frozenset(edge) for edge in graph.edges}


@pytest.fixture
def biogrid(tmp_path):
    path = tmp_path / "biogrid.tab3.txt"
    path.write_text(tab3(), "utf-8")
    return path


def test_biogrid_keeps_human_physical_interactions_once_and_counts_the_rest(biogrid, caplog):
    caplog.set_level(logging.INFO, "cellhermes")
    graph = ch.io.read_biogrid(biogrid)
    assert isinstance(graph, nx.Graph)
    assert edge_set(graph) == {frozenset(("TP53", "MDM2")), frozenset(("TP53", "EP300"))}
    assert graph.graph["dropped"] == {
        "other organism": 2,
        "not physical": 1,
        "no symbol": 1,
        "self-loop": 2,
        "repeated": 2,
    }
    assert graph.graph["rows"] == len(LINES) == sum(graph.graph["dropped"].values()) + graph.number_of_edges()
    assert graph.graph["source"] == "biogrid.tab3.txt"
    assert "2 edges of 4 genes" in caplog.text


def test_biogrid_keeps_a_gene_that_only_binds_itself_as_a_node(biogrid):
    graph = ch.io.read_biogrid(biogrid)
    assert graph.degree("LONELY") == 0
    assert sorted(graph) == ["EP300", "LONELY", "MDM2", "TP53"]


def test_biogrid_filters_can_be_changed(biogrid):
    assert edge_set(ch.io.read_biogrid(biogrid, evidence="genetic")) == {frozenset(("BRCA1", "PARP1"))}
    assert edge_set(ch.io.read_biogrid(biogrid, organism=10090)) == {frozenset(("Crebbp", "Trp53"))}
    assert ch.io.read_biogrid(biogrid, organism=None, evidence=None).number_of_edges() == 5
    with pytest.raises(ValueError, match="evidence='Physical'; expected 'physical', 'genetic' or None"):
        ch.io.read_biogrid(biogrid, evidence="Physical")


def test_compression_is_told_by_content_not_by_name(biogrid, tmp_path):
    expected = edge_set(ch.io.read_biogrid(biogrid))
    zipped = tmp_path / "zipped.txt"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(biogrid, "BIOGRID-ALL.tab3.txt")
    packed = tmp_path / "packed.txt"
    packed.write_bytes(gzip.compress(biogrid.read_bytes()))
    assert edge_set(ch.io.read_biogrid(zipped)) == edge_set(ch.io.read_biogrid(packed)) == expected


def test_an_archive_with_several_files_asks_which(biogrid, tmp_path):
    path = tmp_path / "BIOGRID-ORGANISM.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(biogrid, "human.txt")
        archive.writestr("mouse.txt", tab3(LINES[:1]))
    with pytest.raises(ValueError, match=r"has 2 files. Pass one of them as member=: human.txt, mouse.txt"):
        ch.io.read_biogrid(path)
    with pytest.raises(ValueError, match=r"has no file 'fly.txt'. Pass one of them"):
        ch.io.read_biogrid(path, member="fly.txt")
    assert ch.io.read_biogrid(path, member="mouse.txt").number_of_edges() == 1


def test_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "crlf.txt"
    path.write_bytes(tab3().replace("\n", "\r\n").encode())
    graph = ch.io.read_biogrid(path)
    assert graph.number_of_edges() == 2
    # the last column is that of an organism's name; a symbol in the last column must lose its \r too
    path.write_bytes(b"a\tb\r\nTP53\tMDM2\r\n")
    assert list(ch.io.read_edges(path).edges) == [("TP53", "MDM2")]


@pytest.mark.parametrize("column", [TAB3[7], TAB3[12], TAB3[36], TAB3[0]])
def test_a_missing_tab3_column_is_named_with_file_and_line(tmp_path, column):
    path = tmp_path / "short.txt"
    path.write_text(tab3(columns=tuple(name for name in TAB3 if name != column)), "utf-8")
    with pytest.raises(ValueError, match=rf"short\.txt, line 1: no column '{column}' .*37 columns.* Found: "):
        ch.io.read_biogrid(path)


@pytest.mark.parametrize(("change", "found"), [(lambda row: row[:-2], 35), (lambda row: [*row, "x"], 38)])
def test_a_line_with_another_number_of_tabs_is_shown_with_file_and_line(tmp_path, change, found):
    lines = tab3().splitlines()
    lines[4] = "\t".join(change(lines[4].split("\t")))
    path = tmp_path / "broken.txt"
    path.write_text("\n".join(lines), "utf-8")
    with pytest.raises(
        ValueError, match=rf"broken\.txt, line 5: {found} columns, expected 37 as in line 1. Text: .*TP53"
    ):
        ch.io.read_biogrid(path)


@pytest.mark.parametrize("content", ["", tab3([]), tab3([LINES[5]])], ids=["empty", "header", "mouse"])
def test_a_file_without_edges_is_an_error(tmp_path, content):
    path = tmp_path / "none.txt"
    path.write_text(content, "utf-8")
    with pytest.raises(ValueError, match="is empty|no edge that can be used. Dropped lines: "):
        ch.io.read_biogrid(path)


@pytest.mark.parametrize("kind", ["gzip", "zip"])
def test_an_interrupted_download_is_an_error(tmp_path, kind):
    path = tmp_path / "half"
    if kind == "gzip":
        path.write_bytes(gzip.compress(tab3().encode())[:-20])
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", tab3())
        path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="half is damaged or not complete: .* Download it again"):
        ch.io.read_biogrid(path)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        ch.io.read_biogrid(tmp_path / "nowhere.txt")


def test_genuine_biogrid_rows_are_read(data_dir):
    graph = ch.io.read_biogrid(data_dir / "biogrid_tab3_sample.txt")
    assert frozenset(("MAP2K4", "FLNC")) in edge_set(graph)
    assert frozenset(("MYPN", "ACTN2")) in edge_set(graph)
    assert graph.graph["rows"] == graph.number_of_edges() == 5
    assert graph.graph["dropped"] == {}


def test_the_whole_biogrid_edge_table_is_read(data_dir):
    graph = ch.io.read_edges(data_dir / "biogrid_4.4.232_human_edges.tsv.gz")
    assert graph.number_of_edges() == graph.graph["rows"] == 908467
    assert len(graph) == 22622


def test_the_string_edge_table_is_read(data_dir):
    graph = ch.io.read_edges(data_dir / "string_v12_human_800_edges.tsv.gz", columns=["symbol_b", "symbol_a"])
    assert graph.number_of_edges() == 156186
    assert graph.has_edge("A1BG", "AHSG")


# ---- STRING


@pytest.fixture
def string(tmp_path):
    links, info = tmp_path / "links.txt.gz", tmp_path / "info.txt.gz"
    names = {"TP53": "ENSP1", "MDM2": "ENSP2", "EP300": "ENSP3"}
    rows = [("TP53", "MDM2", 999), ("MDM2", "TP53", 999), ("TP53", "EP300", 700), ("MDM2", "EP300", 699)]
    text = "".join(f"9606.{names[a]} 9606.{names[b]} {score}\n" for a, b, score in rows)
    links.write_bytes(gzip.compress(f"protein1 protein2 combined_score\n{text}9606.ENSP1 9606.ENSP9 900\n".encode()))
    text = "".join(f"9606.{name}\t{symbol}\t100\tannotation of it\n" for symbol, name in names.items())
    header = "#string_protein_id\tpreferred_name\tprotein_size\tannotation\n"
    info.write_bytes(gzip.compress((header + text).encode()))
    return links, info


def test_string_links_become_symbols_above_a_score(string):
    links, info = string
    graph = ch.io.read_string(links, info=info)
    assert edge_set(graph) == {frozenset(("TP53", "MDM2")), frozenset(("TP53", "EP300"))}
    assert graph.graph["dropped"] == {"score below 700": 1, "no symbol": 1, "repeated": 1}
    assert ch.io.read_string(links, info=info, min_score=0).number_of_edges() == 3


def test_string_identifiers_without_the_info_file_are_refused(string):
    with pytest.raises(ValueError, match=r"line 2: '9606.ENSP1' is an identifier of STRING. Pass .* as info="):
        ch.io.read_string(string[0])


def test_string_links_that_have_symbols_need_no_info_file(tmp_path):
    path = tmp_path / "links.txt"
    path.write_text("protein1 protein2 neighborhood combined_score\nTP53 MDM2 0 999\n")
    assert list(ch.io.read_string(path).edges) == [("TP53", "MDM2")]
    path.write_text("protein1 protein2 combined_score\nTP53 MDM2 0.9\n")
    with pytest.raises(ValueError, match=r"line 2: the score '0.9' is no whole number"):
        ch.io.read_string(path)
    path.write_text("protein1 protein2 score\nTP53 MDM2 900\n")
    with pytest.raises(ValueError, match=r"line 1: no column 'combined_score'"):
        ch.io.read_string(path)


# ---- any table


def test_columns_are_chosen_by_name_or_number(tmp_path):
    path = tmp_path / "edges.csv"
    path.write_text('score,"from","to"\n1,"TP53","MDM2"\n2,"EP300","TP53"\n')
    expected = {frozenset(("TP53", "MDM2")), frozenset(("TP53", "EP300"))}
    assert edge_set(ch.io.read_edges(path, sep=",", columns=["from", "to"])) == expected
    assert edge_set(ch.io.read_edges(path, sep=",", columns=(1, 2))) == expected
    with pytest.raises(ValueError, match=r"no column 'target' \(asked for with columns=.* Found: 'score, from, to'"):
        ch.io.read_edges(path, sep=",", columns=["from", "target"])
    with pytest.raises(ValueError, match=r"line 1: 1 columns with sep='\\t'; expected columns \[1, 2\]"):
        ch.io.read_edges(path, columns=(1, 2))
    with pytest.raises(ValueError, match="expected two that differ, by name or by number"):
        ch.io.read_edges(path, sep=",", columns=["from"])


def test_a_table_without_header_keeps_its_first_line(tmp_path):
    path = tmp_path / "edges.tsv"
    path.write_text("TP53\tMDM2\nTP53\tEP300\n")
    assert ch.io.read_edges(path, header=False).number_of_edges() == 2
    with pytest.raises(ValueError, match="columns have numbers only where header=False"):
        ch.io.read_edges(path, header=False, columns=["a", "b"])


def test_symbols_with_blanks_are_left_out_and_counted(tmp_path):
    path = tmp_path / "edges.tsv"
    path.write_text("a\tb\nTP53\tMDM2\nTP53\tprotein complex\n\tTP53\n")
    assert ch.io.read_edges(path).graph["dropped"] == {"no symbol": 2}
