"""Answers as a trie of token ids, so that what they begin alike is computed once.

Built from plain lists; the forward pass over its nodes is in ``_forward.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

MAX_NODES = 256  # in a row: what a row's attention to itself takes grows with the square


@dataclass(frozen=True, slots=True)
class Trie:
    """The distinct beginnings of some answers, as rows of tokens behind a prompt.

    A *node* is a beginning, run once with its path visible to it and nothing else. A *state* is what the model knows at
    a place: number 0 behind the prompt, then those of the nodes, row after row. A *step* is a token that follows a
    state, and an answer is a path of steps; its last token is read from the state before it and never run.

    Parameters
    ----------
    ids
        (rows, nodes) token at the end of each beginning, 0 at padding.
    depth
        (rows, nodes) tokens before it.
    visible
        (rows, nodes, nodes) bool: where a node may look.
    example
        (states, 2) an answer that passes through the state, and its tokens up to there; zeros at padding.
    parent, token
        (steps,) state that a step leaves, in rising order, and its token.
    paths
        (answers, longest) steps of each answer, filled up with the number of steps.
    lengths
        (answers,) tokens of each answer.
    """

    ids: torch.Tensor
    depth: torch.Tensor
    visible: torch.Tensor
    example: torch.Tensor
    parent: torch.Tensor
    token: torch.Tensor
    paths: torch.Tensor
    lengths: np.ndarray

    @classmethod
    def of(cls, answers: Sequence[Sequence[int]], *, max_nodes: int = MAX_NODES) -> "Trie":
        """Build from the ids of answers, none empty."""
        answers = [tuple(answer) for answer in answers]
        rows, row_of = _rows(answers, max_nodes)
        width = max(map(len, rows))
        state = [{(): 0} | {path: 1 + i * width + k for k, path in enumerate(row)} for i, row in enumerate(rows)]
        ids, depth = torch.zeros(len(rows), width, dtype=torch.int64), torch.zeros(len(rows), width, dtype=torch.int64)
        visible = torch.eye(width, dtype=torch.bool).repeat(len(rows), 1, 1)
        example = torch.zeros(1 + len(rows) * width, 2, dtype=torch.int64)
        for i, row in enumerate(rows):
            for k, (path, answer) in enumerate(row.items()):
                ids[i, k], depth[i, k] = path[-1], len(path) - 1
                if len(path) > 1:
                    visible[i, k] |= visible[i, (state[i][path[:-1]] - 1) % width]
                example[state[i][path]] = torch.tensor([answer, len(path)])
        walks = [
            [(state[i][ids[:t]], token) for t, token in enumerate(ids)] for i, ids in zip(row_of, answers, strict=True)
        ]
        steps = {step: n for n, step in enumerate(sorted({step for walk in walks for step in walk}))}
        paths = torch.full((len(answers), max(map(len, answers))), len(steps))
        for walk, path in zip(walks, paths, strict=True):
            path[: len(walk)] = torch.tensor([steps[step] for step in walk])
        parent, token = torch.tensor(list(steps)).T.contiguous()
        return cls(ids, depth, visible, example, parent, token, paths, np.array([len(answer) for answer in answers]))


def _rows(answers: list[tuple[int, ...]], max_nodes: int) -> tuple[list[dict[tuple[int, ...], int]], list[int]]:
    """Spread beginnings over rows of similar size: each row's beginnings with an answer, and the row of each answer.

    Answers are taken in the order of their ids, so that those that begin alike stand together.
    """
    beginnings = {answer[:t] for answer in answers for t in range(1, len(answer))}
    n_rows = max(1, -(-len(beginnings) // max_nodes))
    limit = -(-len(beginnings) // n_rows) + max(map(len, answers))  # some beginnings stand in two rows
    rows: list[dict[tuple[int, ...], int]] = [{}]
    row_of = [0] * len(answers)
    for a in sorted(range(len(answers)), key=answers.__getitem__):
        paths = [answers[a][:t] for t in range(1, len(answers[a]))]
        if rows[-1] and len(rows[-1]) + sum(path not in rows[-1] for path in paths) > limit:
            rows.append({})
        for path in paths:
            rows[-1].setdefault(path, a)
        row_of[a] = len(rows) - 1
    return rows, row_of
