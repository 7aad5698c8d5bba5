"""Mixtures draw what they say."""

import logging
from collections import Counter

import pytest

import cellhermes as ch
from cellhermes.text import Prompt, QAPair
from cellhermes.train.corpus import Pairs

SIZES = {"masked_genes": 2_272_436, "next_genes": 2_272_436, "masked_node": 99_860, "masked_link": 1_455_846}


def part(task, n):
    return Pairs(lambda numbers: [QAPair(Prompt(f"{task} {i}"), "a", task) for i in numbers], n, task=task)


@pytest.fixture
def sets():
    return [part(task, n // 100) for task, n in SIZES.items()]


def of(pairs):
    return Counter(pair.task for pair in pairs)


def test_own_counts_are_drawn_without_repetition(sets):
    counts = {"masked_genes": 500, "masked_node": 998, "next_genes": 0}
    pairs = ch.train.corpus.mixture(sets, counts)
    assert of(pairs) == {"masked_genes": 500, "masked_node": 998}
    assert len({pair.prompt.text for pair in pairs}) == 1498
    tasks = [pair.task for pair in pairs]
    assert 0.2 < tasks[:500].count("masked_genes") / 500 < 0.5  # shuffled: a third
    texts = [pair.prompt.text for pair in pairs]
    assert texts == [pair.prompt.text for pair in ch.train.corpus.mixture(sets, counts)]
    assert texts != [pair.prompt.text for pair in ch.train.corpus.mixture(sets, counts, seed=1)]


def test_a_pair_of_a_mixture_is_the_pair_of_its_set(sets):
    pairs = ch.train.corpus.mixture(sets, None)
    assert len(pairs) == sum(map(len, sets))
    for pair in pairs[:2000]:
        task, number = pair.prompt.text.split(" ")
        assert task == pair.task
        assert next(s for s in sets if s.task == task)[int(number)] == pair
    assert list(pairs[100:200]) == [pairs[i] for i in range(100, 200)]


def test_paper_draws_from_both_sequence_and_both_graph_sets():
    pairs = ch.train.corpus.mixture([part(task, n) for task, n in SIZES.items()], "paper")
    assert len(pairs) == 300_000
    counts = pairs.about["counts"]
    assert counts["masked_genes+next_genes"] == {"asked": 100_000, "there": 4_544_872, "taken": 100_000}
    assert counts["masked_node+masked_link"] == {"asked": 200_000, "there": 1_555_706, "taken": 200_000}
    found = of(pairs.shard(0, 10))
    assert sum(found.values()) == 30_000
    assert abs(found["masked_genes"] - found["next_genes"]) < 600
    assert abs(found["masked_node"] / (found["masked_node"] + found["masked_link"]) - 99_860 / 1_555_706) < 0.01


def test_release_takes_all_of_a_set_that_is_smaller_and_says_so(caplog):
    with caplog.at_level(logging.WARNING, "cellhermes"):
        pairs = ch.train.corpus.mixture([part(task, n) for task, n in SIZES.items()], "release")
    assert len(pairs) == 399_860
    assert pairs.about["counts"]["masked_node"] == {"asked": 100_000, "there": 99_860, "taken": 99_860}
    assert "100,000 masked_node pairs asked for, all 99,860 taken" in caplog.text


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        ("papers", KeyError, "No mixture 'papers'. Known: paper, release"),
        ({"masked_gene": 5}, KeyError, r"draws from \['masked_gene'\]"),
        ({"masked_genes": 5, "masked_genes+next_genes": 5}, ValueError, "one entry only"),
        ({"masked_genes": -1}, ValueError, "no negative number"),
        ({"masked_genes": 0}, ValueError, "draws no pair"),
    ],
)
def test_wrong_counts_are_explained(sets, counts, error, message):
    with pytest.raises(error, match=message):
        ch.train.corpus.mixture(sets, counts)


def test_each_objective_comes_once(sets):
    with pytest.raises(ValueError, match="expected each objective once"):
        ch.train.corpus.mixture([sets[0], sets[0]], None)
