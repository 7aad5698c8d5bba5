"""Orders, rows and tensors: every example once, whatever the batch, the packing and the number of processes."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cellhermes.text import Prompt, QAPair
from cellhermes.train._encoded import Examples
from cellhermes.train._epochs import IGNORED, Epochs, StreamRows, arrange, collate, pack, shares


def made(lengths, sources=None):
    """Examples whose ids are all their own number, so that they can be told apart."""
    lengths = np.asarray(lengths, np.int64)
    return Examples(
        ids=np.repeat(np.arange(len(lengths)), lengths).astype(np.int32),
        ends=np.concatenate([[0], np.cumsum(lengths)]),
        n_prompt=(lengths // 2).astype(np.int32),
        task=np.zeros(len(lengths), np.int16),
        tasks=["demo"],
        sources=sources or {"pairs": len(lengths)},
        dropped={},
        n_cut=0,
    )


def numbers(epochs):
    """Which examples an epoch reads, row by row."""
    return [[int(ids[0]) for ids, _, _ in epochs[i]] for i in range(len(epochs))]


sizes = st.lists(st.integers(2, 40), min_size=1, max_size=60)


@given(sizes, st.integers(1, 4), st.integers(1, 3), st.booleans(), st.booleans(), st.integers(0, 3))
def test_an_epoch_reads_each_example_once(lengths, batch_size, n_processes, packing, group, epoch):
    epochs = Epochs(
        made(lengths), batch_size=batch_size, n_processes=n_processes, max_tokens=50 * packing, group_by_length=group
    )
    epochs.set_epoch(epoch)
    assert len(epochs) % (batch_size * n_processes) == 0
    assert sorted(i for row in numbers(epochs) for i in row) == list(range(len(lengths)))


@given(sizes, st.integers(40, 100))
def test_packed_rows_are_within_the_limit_and_well_filled(lengths, max_tokens):
    lengths = np.array(lengths)
    rows = pack(list(np.arange(len(lengths))[:, None]), lengths, max_tokens)
    filled = [int(lengths[row].sum()) for row in rows]
    assert max(filled) <= max_tokens
    assert sorted(np.concatenate(rows).tolist()) == list(range(len(lengths)))
    # two rows that fit into one are never left apart
    assert len(filled) < 2 or sum(sorted(filled)[:2]) > max_tokens


def test_an_example_as_long_as_a_row_has_it_alone():
    assert [row.tolist() for row in pack([np.array([0]), np.array([1])], np.array([50, 2]), 50)] == [[0], [1]]


@given(st.integers(0, 200), st.integers(1, 8), st.integers(0, 9))
def test_rows_of_a_forward_pass_have_similar_lengths(n, batch_size, seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 1000, n)
    order = arrange(n, lengths, batch_size=batch_size, rng=rng)
    assert sorted(order[order >= 0].tolist()) == list(range(n))
    if n > 20 * batch_size and n < 64 * batch_size and batch_size > 1:
        spread = [np.ptp(lengths[group[group >= 0]]) for group in order.reshape(-1, batch_size)]
        assert np.mean(spread) < np.ptp(lengths) / 4


def test_orders_differ_between_epochs_and_seeds_only():
    lengths = list(range(5, 45))
    first, second = (Epochs(made(lengths), batch_size=2, seed=3) for _ in range(2))
    assert numbers(first) == numbers(second)
    second.set_epoch(1)
    assert numbers(first) != numbers(second)
    second.set_epoch(0)
    assert numbers(first) == numbers(second)
    assert numbers(first) != numbers(Epochs(made(lengths), batch_size=2, seed=4))


def test_processes_read_what_one_process_reads():
    """Batches that accelerate deals out in turn hold the same examples in each step as one process reads."""
    lengths = list(range(5, 42))
    one, two = Epochs(made(lengths), batch_size=2), Epochs(made(lengths), batch_size=2, n_processes=2)
    real = [row for row in numbers(two) if row]
    assert real == [row for row in numbers(one) if row]


def test_weights_are_shares_of_an_epoch():
    sources = {"a": 10, "b": 30}
    assert shares(sources, None) == sources
    assert shares(sources, {"a": 3, "b": 1}) == {"a": 30, "b": 10}
    epochs = Epochs(made([4] * 40, sources), batch_size=1, weights={"a": 3, "b": 1})
    found = Counter(i for row in numbers(epochs) for i in row)
    assert all(found[i] == 3 for i in range(10))
    assert sum(found[i] for i in range(10, 40)) == 10
    epochs.set_epoch(1)
    again = Counter(i for row in numbers(epochs) for i in row)
    assert {i for i in found if i >= 10} != {i for i in again if i >= 10}, "a sampled source is drawn anew"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("loss_on", ["answer", "all"])
def test_labels_are_the_answer_or_all_but_the_first(packed, loss_on):
    rows = [[(np.array([7, 8, 9, 10]), 2, 0)], [(np.array([5, 6]), 1, 1)]]
    if packed:
        rows[0].append((np.array([11, 12, 13]), 1, 0))
    batch = collate(rows, loss_on=loss_on, packed=packed)
    first = [IGNORED, IGNORED if loss_on == "answer" else 8, 9, 10] + [IGNORED, 12, 13] * packed
    assert batch["labels"][0].tolist() == first
    assert batch["labels"][1].tolist() == [IGNORED, 6] + [IGNORED] * (len(first) - 2)
    assert batch["task"].tolist() == [0, 1]
    assert batch["n_tokens"].tolist() == [sum(len(ids) for ids, _, _ in row) for row in rows]
    if packed:
        assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2], [0, 1, 0, 1, 2, 3, 4]]


@pytest.mark.parametrize("packing", [False, True])
def test_a_stream_reads_each_pair_once_and_again_the_same(model, packing):
    pairs = [QAPair(Prompt(f"Gene {'CD3E ' * (i % 7)}MS4A1"), f"a{i}", "demo") for i in range(300)]
    encoder = model._encoder
    stream = StreamRows(
        iter_again(pairs), encoder, batch_size=4, step=16, seed=0, max_tokens=40, packing=packing,
        group_by_length=True,
    )  # fmt: skip
    expected = Counter(tuple(example.ids) for example in encoder.examples(pairs, max_tokens=40))
    first = [[tuple(ids.tolist()) for ids, _, _ in row] for row in stream]
    assert Counter(ids for row in first for ids in row) == expected
    assert first == [[tuple(ids.tolist()) for ids, _, _ in row] for row in stream]
    assert (max(map(len, first)) > 1) == packing
    assert len(first) % 16 == 0, "the last step is whole"


def iter_again(pairs):
    class Again:
        def __iter__(self):
            return iter(pairs)

    return Again()


def test_tensors_are_whole_numbers():
    batch = collate([[(np.array([7, 8], np.int32), 1, 0)]], loss_on="answer", packed=True)
    assert all(value.dtype == torch.int64 for value in batch.values())
