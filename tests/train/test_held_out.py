"""What is held out is not in training: counted here from the words of the files, not in the package's way."""

import json
from collections import defaultdict
from functools import partial
from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
from typer.testing import CliRunner

import cellhermes as ch
from cellhermes.cli import app
from cellhermes.text import Prompt, QAPair
from cellhermes.text._template import kinds
from cellhermes.train import _held_out, _run_file

GENES = [f"G{i}" for i in range(60)]


def told_by(prompt, answer, task, source):
    """Links that a pair tells, read word by word; the question itself first."""
    words = [line.replace(":", " : ").split() for line in prompt.splitlines()]
    links = [tuple(source.split())] if task == "masked_link" else []
    for line in words:
        if "Direct" in line[:1]:
            colon = line.index(":")
            gene = line[colon - 2] if line[colon - 3] == "of" and task == "masked_link" else source
            links += [(gene, other) for other in line[colon + 1 :] if other != "none"]
    said = answer.replace(":", "").split()
    if task == "neighbors":
        links += [(source, other) for other in said]
    if task == "link_list":
        links += [(source, other) for other in said if other not in ("Yes", "No")]
    if task == "walk":
        links += list(pairwise([source, *said]))
    return [tuple(sorted(link)) for link in links]


def leaks(train, held):
    """Cells, links and genes of held-out pairs that stand in training pairs, by what asks for them."""
    cells = {p.source for p in train if p.task in ("masked_genes", "next_genes")}
    links = {link for p in train for link in told_by(p.prompt.text, p.answer, p.task, p.source)}
    nodes = {p.source for p in train if p.task == "masked_node"}
    found = defaultdict(int)
    for p in held:
        told = told_by(p.prompt.text, p.answer, p.task, p.source)
        if p.task in ("masked_genes", "next_genes"):
            found["cells"] += p.source in cells
        elif p.task == "masked_link":
            found["links"] += told[0] in links
        else:
            found["links"] += sum(link in links for link in told)
            found["nodes"] += p.task == "masked_node" and p.source in nodes
        found["held out"] += 1
    return dict(found)


@pytest.fixture
def graph():
    return nx.relabel_nodes(nx.gnm_random_graph(60, 240, seed=1), dict(enumerate(GENES)))


@pytest.fixture
def corpus(tmp_path, adata, graph):
    """A corpus of all four objectives, made from the shell."""
    adata[:60].write_h5ad(tmp_path / "cells.h5ad")
    (tmp_path / "graph.tsv").write_text("a\tb\n" + "".join(f"{a}\t{b}\n" for a, b in graph.edges))
    words = ["--cells", tmp_path / "cells.h5ad", "--graph", tmp_path / "graph.tsv", "--mixture", "all"]
    done = CliRunner().invoke(app, ["pairs", *map(str, [tmp_path / "c.jsonl", *words])])
    assert done.exit_code == 0, done.output
    return tmp_path / "c.jsonl"


@pytest.fixture
def fitted(monkeypatch):
    seen = {}
    monkeypatch.setattr(_run_file, "fit", lambda pairs, *_, **options: seen.update(pairs=pairs, **options))
    return seen


def test_a_run_holds_out_cells_edges_and_genes(corpus, fitted, caplog):
    """Of pairs that are drawn one by one, nearly all are answered by training pairs; of these none is."""
    caplog.set_level("INFO", "cellhermes")
    everything = list(ch.train.corpus.Pairs.read(corpus))
    chosen = set(np.random.default_rng(0).choice(len(everything), 100, replace=False).tolist())
    alone = [pair for i, pair in enumerate(everything) if i in chosen]
    before = leaks([pair for i, pair in enumerate(everything) if i not in chosen], alone)
    assert before["cells"] == sum(pair.task in ("masked_genes", "next_genes") for pair in alone) > 0
    assert before["links"] > 0.9 * sum(pair.task == "masked_link" for pair in alone) > 0
    config = corpus.with_name("run.toml")
    config.write_text('out = "a"\n[[pairs]]\npath = "c.jsonl"\n[evaluation]\nheld_out = 100\n')
    ch.train.run(config)
    (train,), held = fitted["pairs"].values(), fitted["evaluation"]
    after = leaks(train, held)
    assert after == {"held out": len(held)} | dict.fromkeys(after.keys() - {"held out"}, 0)
    assert {"cells", "links", "nodes"} <= after.keys()
    assert 100 <= len(held) < 110
    assert "held out: " in caplog.text
    assert len(train) + len(held) > 0.9 * len(everything), "lists lose a link, and few questions are left out"
    by_prompt = {pair.prompt.text: pair for pair in everything}
    assert all(pair == by_prompt[pair.prompt.text] for pair in held)
    said = caplog.text
    for kind in ("cells", "edges", "genes"):
        n = len({_held_out.unit(pair)[1] for pair in held if _held_out.unit(pair)[0] == kind})
        assert f"{n} {kind}" in said


def test_all_pairs_of_a_cell_are_held_out_together(corpus, fitted):
    config = corpus.with_name("run.toml")
    config.write_text('out = "a"\n[[pairs]]\npath = "c.jsonl"\n[evaluation]\nheld_out = 60\n')
    ch.train.run(config)
    held = [pair.source for pair in fitted["evaluation"] if pair.task in ("masked_genes", "next_genes")]
    everything = [
        pair.source for pair in ch.train.corpus.Pairs.read(corpus) if pair.task in ("masked_genes", "next_genes")
    ]
    assert {cell: held.count(cell) for cell in held} == {cell: everything.count(cell) for cell in held}


@pytest.mark.parametrize("relation", ["interaction", "regulation", "pathway"])
@pytest.mark.parametrize("make", ["node", "link", "link_list", "neighbors", "walk"])
def test_links_that_a_pair_tells_are_read_from_every_kind_of_question(graph, make, relation):
    builders = {"node": ch.train.corpus.node_pairs, "link": partial(ch.train.corpus.link_pairs, n_pairs=100)}
    build = builders.get(make) or partial(ch.train.corpus.list_pairs, kind=make, n_pairs=100)
    pairs = build(graph, relation=relation)
    n_told = 0
    for pair in pairs[:300]:
        expected = {*map(frozenset, told_by(pair.prompt.text, pair.answer, pair.task, pair.source))}
        assert _held_out.stated(pair) == expected
        n_told += len(expected)
        if pair.task != "link_list" and pair.answer != "No":
            assert all(graph.has_edge(*link) for link in expected)
    assert n_told > 300


def test_a_list_loses_the_links_that_are_held_out(graph):
    links = {frozenset(link) for i, link in enumerate(graph.edges) if i % 3 == 0}
    sets = [ch.train.corpus.node_pairs(graph), ch.train.corpus.link_pairs(graph)]
    sets += [ch.train.corpus.list_pairs(graph, kind, n_pairs=50) for kind in ("link_list", "neighbors", "walk")]
    n = defaultdict(int)
    for pair in (pair for pairs in sets for pair in pairs):
        told = {*map(frozenset, told_by(pair.prompt.text, pair.answer, pair.task, pair.source))}
        found = _held_out.without(pair, links)
        if found is None:
            n["left out"] += 1
            assert told & links
            continue
        left = {*map(frozenset, told_by(found.prompt.text, found.answer, found.task, found.source))}
        assert left == told - links, "nothing else is lost"
        n["same" if found is pair else "changed"] += 1
        assert (found is pair) == (not told & links)
    assert min(n.values()) > 10


def test_lists_have_a_word_for_nothing_left():
    text = "Do they interact?\nGenes: A and B\nDirect interaction partners of A include: C"
    pair = QAPair(Prompt(text), "No", "masked_link", "A B")
    assert _held_out.without(pair, {frozenset("AC")}).prompt.text.endswith("of A include: none")
    assert _held_out.without(pair, {frozenset("BC")}) is pair
    alone = QAPair(Prompt("Which gene?\nDirect interaction partners include: C"), "A", "masked_node", "A")
    assert _held_out.without(alone, {frozenset("AC")}) is None


def test_every_list_of_partners_in_the_templates_is_one_that_is_read():
    """A wording that lists direct partners in other words would be missed."""
    for objective in ("masked_node", "masked_link"):
        for template in kinds(objective, "interaction").values():
            slots = {slot: f"{slot}_gene" for slot in template.slots}
            text = template.fill(variant=0, **slots).text
            listed = {words for _, words in _held_out.PARTNERS.findall(text)}
            assert listed == {f"{slot}_gene" for slot in template.slots if slot.endswith("hop1")}


def test_prompts_without_a_source_are_held_out_as_they_stand(tmp_path, fitted, caplog):
    """The same question in other words of the description is one question; a warning says that no more is known."""
    records = [
        {"instruction": f"Words {k}", "input": f"Is G{i} a gene?", "output": "Yes"} for i in range(20) for k in "abc"
    ]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (tmp_path / "r.toml").write_text('out = "a"\n[[pairs]]\npath = "c.jsonl"\n[evaluation]\nheld_out = 7\n')
    ch.train.run(tmp_path / "r.toml")
    block = lambda pair: pair.prompt.text.split("\n")[1]
    assert len(fitted["evaluation"]) == 9
    assert not {*map(block, fitted["evaluation"])} & {*map(block, fitted["pairs"]["c"])}
    assert "3 held-out prompts do not say what they come from" in caplog.text


def test_rows_of_a_table_are_held_out_in_all_their_wordings(tmp_path):
    frame = {"gene": GENES, "cell_line": ["K562"] * 60, "answer": ["Yes", "No"] * 30}
    pairs = list(ch.train.questions.task_pairs(frame, "cell_fitness", n_wordings=3))
    found = _held_out.hold_out({"a": pairs}, 20, seed=0)
    assert len(found.pairs) == 21
    assert not {pair.source for pair in found.pairs} & {pair.source for pair in found.train["a"]}


def test_nothing_to_train_on_is_an_error():
    pairs = [QAPair(Prompt(f"Sentence {i}"), "A", "masked_genes", "one cell") for i in range(5)]
    with pytest.raises(ValueError, match="held_out is 1, and there are 5 pairs; some must be left"):
        _held_out.hold_out({"a": pairs}, 1, seed=0)


def test_training_says_what_it_has_of_held_out_pairs(folders, tmp_path, graph, caplog):
    caplog.set_level("INFO", "cellhermes")
    pairs = list(ch.train.corpus.link_pairs(graph))[:80]
    config = ch.train.TrainConfig(max_steps=1)
    options = {"base": folders("llama"), "device": "cpu"}
    out = ch.train.fit(pairs[:60], config, evaluation=pairs[40:], out=tmp_path / "a", **options)
    links = {pair.source for pair in pairs[40:]}
    told = {link for pair in pairs[:60] for link in told_by(pair.prompt.text, pair.answer, pair.task, pair.source)}
    expected = {"held out": len(links), "also trained on": sum(tuple(sorted(link.split())) in told for link in links)}
    assert 20 <= expected["also trained on"] < expected["held out"]
    assert json.loads((out / "training.json").read_text())["held out"] == {"edges": expected}
    assert f"{expected['also trained on']} of {len(links)} edges. Loss and accuracy of these tell memory" in caplog.text
    caplog.clear()
    held = _held_out.hold_out({"a": pairs}, 20, seed=0)
    ch.train.fit(held.train, config, evaluation=held.pairs, out=tmp_path / "b", **options)
    n = len({pair.source for pair in held.pairs})
    assert f"held out, and in no training pair: {n} edges" in caplog.text
