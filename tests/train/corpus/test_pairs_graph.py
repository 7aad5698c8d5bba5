from __future__ import annotations

import re
from collections import Counter
from multiprocessing.reduction import ForkingPickler

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

import cellhermes as ch
from cellhermes.text._template import kinds

STEPS = {"Direct": 1, "Genes two": 2, "Genes three": 3}
NODE_KINDS = {"hop1": {1}, "hop2": {2}, "hop3": {3}, "hop1_2": {1, 2}, "hop1_2_3": {1, 2, 3}}
LINK_KINDS = {
    "none": (set(), set()),
    "a_hop1": ({1}, set()),
    "a_hop2": ({2}, set()),
    "a_hop3": ({3}, set()),
    "a_hop1_2_3": ({1, 2, 3}, set()),
    "both_hop1": ({1}, {1}),
    "both_hop2": ({2}, {2}),
    "both_hop3": ({3}, {3}),
    "both_hop1_2": ({1, 2}, {1, 2}),
    "both_hop1_2_3": ({1, 2, 3}, {1, 2, 3}),
}


def listings(pair) -> dict[tuple[str | None, int], list[str]]:
    """What a prompt lists, read from its text: (gene, steps) to symbols; the gene is None where it is hidden."""
    found = {}
    for line in pair.prompt.text.splitlines()[1:]:
        match = re.fullmatch(r"(Direct|Genes two|Genes three).*?(?: (?:of|from) (\S+))? include: (.+)", line)
        if match:
            start, gene, genes = match.groups()
            assert (gene, STEPS[start]) not in found
            found[gene, STEPS[start]] = [] if genes == "none" else genes.split(" ")
        else:
            assert line == "Genes: {} and {}".format(*pair.source.split(" "))
    return found


def ring(graph, node, steps) -> set[str]:
    return {z for z, d in nx.single_source_shortest_path_length(graph, node, cutoff=3).items() if d == steps}


@st.composite
def graphs(draw, n_max=12):
    n = draw(st.integers(3, n_max))
    names = [f"G{i}" for i in range(n)]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[:i]]
    graph = nx.Graph()
    graph.add_nodes_from(names)
    graph.add_edges_from(draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=3 * n)))
    return graph


def has_negatives(graph):
    n = sum(degree > 0 for _, degree in graph.degree)
    return graph.number_of_edges() < n * (n - 1) // 2


@pytest.fixture(scope="module")
def scale_free():
    """Degrees from 1 to about 90, triangles, and some small parts."""
    graph = nx.powerlaw_cluster_graph(1000, 3, 0.5, seed=1)
    graph.add_edges_from((1000 + i, int(i**1.3)) for i in range(150))  # genes with one neighbour
    graph.add_edges_from((1200 + 3 * i + j, 1201 + 3 * i + j) for i in range(20) for j in range(2))
    return nx.relabel_nodes(graph, lambda node: f"GENE{node}")


# ---- masked nodes


@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(0, 3))
def test_a_masked_node_is_asked_for_with_genes_at_exactly_the_stated_distance(graph, seed):
    pairs = ch.train.corpus.node_pairs(graph, n_neighbors=(4, 3, 2), seed=seed)
    genes = sorted(gene for gene, degree in graph.degree if degree)
    assert len(pairs) == 5 * len(genes)
    assert pairs.dropped.get("gene without neighbour", 0) == len(graph) - len(genes)
    for i, pair in enumerate(pairs):
        gene = genes[i // 5]
        assert (pair.answer, pair.source, pair.task) == (gene, gene, "masked_node")
        assert gene not in re.split(r"[\s,.:;]+", pair.prompt.text)
        found = listings(pair)
        assert {steps for _, steps in found} == NODE_KINDS[pair.prompt.kind.removeprefix("masked_node/")]
        for (_, steps), listed in found.items():
            true = ring(graph, gene, steps)
            assert len(set(listed)) == len(listed) == min(len(true), (4, 3, 2)[steps - 1])
            assert set(listed) <= true


def test_every_gene_gives_one_pair_of_each_of_five_kinds(ppi):
    pairs = ch.train.corpus.node_pairs(ppi)
    counts = Counter((pair.answer, pair.prompt.kind) for pair in pairs)
    assert set(counts) == {(gene, f"masked_node/{kind}") for gene in ppi for kind in NODE_KINDS}
    assert set(counts.values()) == {1}


def test_a_graph_of_real_size_gives_the_counts_of_the_paper():
    graph = nx.cycle_graph(19_972)
    graph.add_nodes_from(range(19_972, 19_977))
    pairs = ch.train.corpus.node_pairs(nx.relabel_nodes(graph, str))
    assert len(pairs) == 99_860
    assert pairs.dropped == {"gene without neighbour": 5}
    left, step = np.divmod(np.arange(740_000), 37)
    table = pd.DataFrame({"a": left.astype(str), "b": ((left + step + 1) % 20_000).astype(str)})
    assert len(ch.train.corpus.link_pairs(table, n_pairs=1_455_846)) == 1_455_846


# ---- masked links


def test_link_questions_ask_for_edges_and_for_as_many_pairs_that_are_not_joined(ppi):
    pairs = ch.train.corpus.link_pairs(ppi)
    by_answer = {answer: [pair for pair in pairs if pair.answer == answer] for answer in ("Yes", "No")}
    assert len(pairs) == 2 * ppi.number_of_edges() == 2 * len(by_answer["Yes"]) == 2 * len(by_answer["No"])
    asked = {frozenset(pair.source.split()) for pair in by_answer["Yes"]}
    assert asked == {frozenset(edge) for edge in ppi.edges}
    for pair in by_answer["No"]:
        a, b = pair.source.split()
        assert a != b
        assert not ppi.has_edge(a, b)
    for half in by_answer.values():
        counts = Counter(pair.prompt.kind for pair in half)
        assert set(counts) == {f"masked_link/{kind}" for kind in LINK_KINDS}
        assert max(counts.values()) - min(counts.values()) <= 1
    answers = [pair.answer for pair in pairs]
    assert {tuple(answers[i : i + 2]) for i in range(0, len(pairs), 2)} == {("Yes", "No"), ("No", "Yes")}


@settings(max_examples=150, deadline=None)
@given(graphs(), st.integers(0, 3), st.sampled_from(["degree", "uniform"]))
def test_a_masked_link_never_leaks(graph, seed, negatives):
    """Listings are those of the graph without the edge, and neither gene stands in a listing of the other."""
    if not has_negatives(graph):
        return
    for pair in ch.train.corpus.link_pairs(graph, n_neighbors=(4, 3, 2), seed=seed, negatives=negatives):
        a, b = pair.source.split()
        assert graph.has_edge(a, b) == (pair.answer == "Yes")
        found = listings(pair)
        for gene, steps in zip((a, b), LINK_KINDS[pair.prompt.kind.removeprefix("masked_link/")], strict=True):
            assert {s for g, s in found if g == gene} == steps
        without = graph.copy()
        if pair.answer == "Yes":
            without.remove_edge(a, b)
        for (gene, steps), listed in found.items():
            other = b if gene == a else a
            assert gene not in listed
            assert other not in listed
            if pair.answer == "Yes":
                true = ring(without, gene, steps) - {other}
                assert len(set(listed)) == len(listed) == min(len(true), (4, 3, 2)[steps - 1])
                assert set(listed) <= true
            elif steps > 1:  # a negative's gene may seem further away, as one of its edges is left out, not nearer
                assert not any(graph.has_edge(gene, z) for z in listed)


@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(0, 3))
def test_a_negative_loses_one_neighbor_of_each_gene_as_a_positive_does(graph, seed):
    if not has_negatives(graph):
        return
    for pair in ch.train.corpus.link_pairs(graph, n_neighbors=(20, 20, 20), seed=seed):
        for (gene, steps), listed in listings(pair).items():
            if steps == 1:
                assert set(listed) < set(graph[gene])
                assert len(listed) == graph.degree(gene) - 1


def features(pairs, graph):
    """What can be seen of a question without reading names: kind, length, listed genes; and degrees."""
    rows = []
    for pair in pairs:
        a, b = pair.source.split()
        found = listings(pair)
        counts = [len(found.get((gene, steps), [])) for gene in (a, b) for steps in (1, 2, 3)]
        degrees = sorted((graph.degree(a), graph.degree(b)))
        rows.append([len(pair.prompt.text), pair.prompt.text.count("\n"), *counts, *degrees, degrees[0] * degrees[1]])
    return np.array(rows), np.array([pair.answer == "Yes" for pair in pairs])


def discriminability(pairs, graph):
    """AUC of a forest that learned from half of the edges with their negatives."""
    x, y = features(pairs, graph)
    half = len(x) // 4 * 2
    forest = RandomForestClassifier(100, min_samples_leaf=20, random_state=0).fit(x[:half], y[:half])
    return roc_auc_score(y[half:], forest.predict_proba(x[half:])[:, 1])


def test_lengths_counts_and_degrees_do_not_tell_edges_from_negatives(scale_free):
    pairs = ch.train.corpus.link_pairs(scale_free)
    assert len(pairs) > 5000
    assert abs(discriminability(pairs, scale_free) - 0.5) < 0.04
    x, y = features(pairs, scale_free)
    for column in x.T:
        assert abs(roc_auc_score(y, column) - 0.5) < 0.02


def test_the_check_of_negatives_sees_uniform_ones(scale_free):
    assert discriminability(ch.train.corpus.link_pairs(scale_free, negatives="uniform"), scale_free) > 0.7


def test_each_gene_is_asked_about_as_often_with_either_answer(scale_free):
    for n_pairs in (None, 3000):
        times = {"Yes": Counter(), "No": Counter()}
        for pair in ch.train.corpus.link_pairs(scale_free, n_pairs=n_pairs):
            times[pair.answer].update(enumerate(pair.source.split()))
        assert times["Yes"] == times["No"]


def test_link_count_is_an_argument_and_no_edge_is_asked_for_twice(ppi):
    for n_pairs in (2, 40, 2 * ppi.number_of_edges() - 2):
        pairs = ch.train.corpus.link_pairs(ppi, n_pairs=n_pairs)
        yes = [pair.source for pair in pairs if pair.answer == "Yes"]
        assert len(list(pairs)) == len(pairs) == n_pairs == 2 * len(set(yes))


# ---- both


BUILDERS = {"node": ch.train.corpus.node_pairs, "link": ch.train.corpus.link_pairs}


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_pairs_do_not_depend_on_shards_order_or_process(build, ppi):
    pairs = build(ppi)
    whole = list(pairs)
    assert len(whole) == len(pairs)
    for i in (0, 1, len(pairs) // 2, -1):
        assert pairs[i] == whole[i]
    for n in (2, 3):
        for k in range(n):
            assert list(pairs.shard(k, n)) == whole[k::n]
    order = np.random.default_rng(0).permutation(len(pairs))[:300]
    assert list(pairs.take(order)) == [whole[i] for i in order]
    assert list(build(ppi)) == whole
    sent = ForkingPickler.loads(ForkingPickler.dumps(pairs._make))
    assert sent(np.arange(50)) == whole[:50]


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_pairs_do_not_depend_on_how_the_graph_is_given(build, ppi):
    pairs = build(ppi)
    edges = np.random.default_rng(0).permuted(np.random.default_rng(1).permutation(list(ppi.edges)), axis=1)
    table = pd.DataFrame(edges.tolist(), columns=["from", "to"]).assign(weight=1.0)
    others = [table, table.astype({"from": "category", "to": "string"}), nx.DiGraph(edges.tolist()), nx.MultiGraph(ppi)]
    for other in others:
        assert dict(build(other).about) == dict(pairs.about)
        assert list(build(other)[:100]) == list(pairs[:100])


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_another_seed_gives_other_pairs(build, ppi):
    one, two = build(ppi, seed=1), build(ppi, seed=2)
    assert sum(a == b for a, b in zip(one, two, strict=True)) < len(one) / 20
    assert one.about != two.about
    assert list(build(ppi, seed=-1)) != list(one)


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_every_wording_is_used_and_recorded(build, ppi):
    pairs = build(ppi)
    seen = Counter(pair.prompt.variant for pair in pairs)
    assert sorted(seen) == list(range(20))
    assert max(seen.values()) < 2 * len(pairs) / 20
    for pair in pairs[:200]:
        first = pair.prompt.text.split("\n")[0]
        assert ch.text.Template.load(pair.prompt.kind).variants[pair.prompt.variant].split("\n")[0] == first
        assert pair.prompt.version == ch.text.Template.load(pair.prompt.kind).version


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_a_relation_changes_words_and_nothing_else(build, ppi):
    genes, other = build(ppi)[:50], build(ppi, relation="regulation")[:50]
    assert [listed for pair in genes for listed in listings(pair).values()] == [
        listed for pair in other for listed in listings(pair).values()
    ]
    assert "regulatory" in " ".join(pair.prompt.text for pair in other)
    assert "regulatory" not in " ".join(pair.prompt.text for pair in genes)
    with pytest.raises(KeyError, match="no words for 'friendship'. Known: interaction"):
        build(ppi, relation="friendship")


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_the_record_has_arguments_templates_and_a_hash(build, ppi):
    pairs = build(ppi, n_neighbors=(5, 4, 3), seed=7)
    assert pairs.about["seed"] == 7
    assert pairs.about["n_neighbors"] == [5, 4, 3]
    assert pairs.about["n_edges"] == ppi.number_of_edges()
    assert set(pairs.about["templates"]) == {template.name for template in kinds(pairs.task, "interaction").values()}
    changed = ppi.copy()
    changed.remove_edge(*next(iter(ppi.edges)))
    assert build(changed).about["graph_sha256"] != pairs.about["graph_sha256"]


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_self_loops_and_repeated_edges_are_left_out_and_counted(build):
    table = pd.DataFrame({"a": ["A1", "B1", "A1", "C1", "E1"], "b": ["B1", "A1", "A1", "B1", "E1"]})
    pairs = build(table)
    assert pairs.dropped["self-loop"] == 2
    assert pairs.dropped["repeated edge"] == 1
    assert not any("E1" in pair.source.split() for pair in pairs)


WRONG = [
    ({"graph": [("A", "B")]}, TypeError, "graph is a list; expected a networkx graph or a table"),
    ({"graph": nx.empty_graph(3, nx.Graph)}, TypeError, "0 is a int; nodes must be gene symbols"),
    ({"graph": nx.Graph([("A", "A")])}, ValueError, "no edge between two of its 1 nodes"),
    ({"graph": pd.DataFrame({"a": ["A"], "b": [np.nan]})}, TypeError, "nan is a float; nodes must be gene symbols"),
    ({"graph": pd.DataFrame({"a": ["A"]})}, ValueError, r"columns \['a'\]; expected symbols in the first two"),
    ({"graph": nx.Graph([("A", "B C")])}, ValueError, r"1 symbols are empty or have blanks, such as \['B C'\]"),
    ({"n_neighbors": (3, 2)}, ValueError, r"n_neighbors=\(3, 2\); expected 3 numbers above 0"),
    ({"n_neighbors": (3, 2, 0)}, ValueError, r"n_neighbors=\(3, 2, 0\); expected 3 numbers above 0"),
]


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
@pytest.mark.parametrize(("arguments", "error", "message"), WRONG)
def test_bad_input_is_named(build, ppi, arguments, error, message):
    with pytest.raises(error, match=message):
        build(**{"graph": ppi} | arguments)


def test_bad_numbers_of_links_are_named(ppi):
    most = 2 * ppi.number_of_edges()
    for n_pairs in (0, -2, 3, most + 2):
        with pytest.raises(ValueError, match=f"n_pairs={n_pairs:,}; expected an even number .* up to {most:,}"):
            ch.train.corpus.link_pairs(ppi, n_pairs=n_pairs)
    with pytest.raises(ValueError, match="negatives='random'; expected 'degree' or 'uniform'"):
        ch.train.corpus.link_pairs(ppi, negatives="random")
    with pytest.raises(ValueError, match="all 4 genes of the graph are joined with each other"):
        ch.train.corpus.link_pairs(nx.relabel_nodes(nx.complete_graph(4), str))


# ---- real data


def test_questions_of_real_interactions_fit_into_1024_tokens_of_llama(data_dir):
    tiktoken = pytest.importorskip("tiktoken")
    from tiktoken.load import load_tiktoken_bpe

    ranks = load_tiktoken_bpe(str(data_dir / "llama3_tokenizer" / "tokenizer.model"))
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer = tiktoken.Encoding("llama3", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    graph = ch.io.read_edges(data_dir / "string_v12_human_800_edges.tsv.gz")
    for build, limit in ((ch.train.corpus.node_pairs, 400), (ch.train.corpus.link_pairs, 700)):
        longest = max(len(tokenizer.encode(pair.prompt.text)) for pair in build(graph)[:4_000])
        assert limit / 2 < longest < limit
