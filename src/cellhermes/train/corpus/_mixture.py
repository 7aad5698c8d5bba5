"""Mixtures: how many pairs of each objective make a corpus."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..._streams import Use, generator
from ._pairs import Pairs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...text import QAPair

logger = logging.getLogger("cellhermes")

MIXTURES = {
    # Methods: "0.1 M sequence + 0.2 M graph instructions", drawn at random
    "paper": {"masked_genes+next_genes": 100_000, "masked_node+masked_link": 200_000},
    # the released training script: max_samples of each of its four sets
    "release": {"masked_genes": 100_000, "next_genes": 100_000, "masked_node": 100_000, "masked_link": 100_000},
}


def mixture(pairs: Sequence[Pairs], counts: str | Mapping[str, int] | None = "paper", *, seed: int = 0) -> Pairs:
    """Draw pairs of several objectives, and shuffle them.

    Pairs are drawn without replacement. Where there are fewer than asked for, all are taken, and a warning in the log
    says so: the released script asks for 100,000 of a masked-node set of 99,860.

    Parameters
    ----------
    pairs
        Pairs of one objective each.
    counts
        How many: a mapping from objectives to numbers, where ``"masked_genes+next_genes"`` draws from both together;
        ``"paper"`` (100,000 of both sequence objectives and 200,000 of both graph objectives), ``"release"`` (at most
        100,000 of each of the four), or None for all pairs. Objectives that are not named give none.
    seed
        Seed of the draw and of the order.

    Returns
    -------
    The pairs of the mixture, in random order. ``about["counts"]`` says how many of which were asked for, were there and
    were taken.

    Raises
    ------
    KeyError
        If the mixture or an objective is not known.
    ValueError
        If an objective comes twice, or nothing is drawn.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=50)
    >>> ch.pp.cell_sentences(adata)
    >>> pairs = [ch.train.corpus.mlm_pairs(adata), ch.train.corpus.ar_pairs(adata)]
    >>> mixed = ch.train.corpus.mixture(pairs, {"masked_genes": 30, "next_genes": 20})
    >>> len(mixed), mixed.about["counts"]["next_genes"]
    (50, {'asked': 20, 'there': 100, 'taken': 20})
    """
    by_task = {part.task: part for part in pairs}
    if len(by_task) < len(pairs):
        msg = f"pairs are of {[part.task for part in pairs]}; expected each objective once."
        raise ValueError(msg)
    wanted = _wanted(counts, by_task)
    rng = generator(seed, Use.MIXTURE)
    begins = dict(zip(by_task, np.cumsum([0, *map(len, by_task.values())]).tolist(), strict=False))
    chosen, taken = [np.empty(0, np.int64)], {}
    for group, number in wanted.items():
        pool = np.concatenate([np.arange(len(by_task[task])) + begins[task] for task in group.split("+")])
        part = pool if number >= len(pool) else rng.choice(pool, number, replace=False)
        if number > len(pool):
            logger.warning("mixture: %s %s pairs asked for, all %s taken", f"{number:,}", group, f"{len(pool):,}")
        taken[group] = {"asked": int(number), "there": len(pool), "taken": len(part)}
        chosen.append(part)
    items = rng.permutation(np.concatenate(chosen))
    if not len(items):
        msg = f"the mixture {wanted} draws no pair; expected at least one."
        raise ValueError(msg)
    about = {
        "mixture": counts if isinstance(counts, str) else "own" if counts else "all",
        "seed": seed,
        "counts": taken,
        "parts": {task: {**part.about, "fingerprint": part.fingerprint()} for task, part in by_task.items()},
    }
    dropped = {f"{task}: {reason}": n for task, part in by_task.items() for reason, n in part.dropped.items()}
    task = "+".join(dict.fromkeys(task for group in wanted for task in group.split("+")))
    return Pairs(_Several(list(by_task.values())), sum(map(len, pairs)), task=task, about=about, dropped=dropped).take(
        items
    )


def _wanted(counts: str | Mapping[str, int] | None, there: Mapping[str, Pairs]) -> dict[str, int]:
    if counts is None:
        return {task: len(part) for task, part in there.items()}
    if isinstance(counts, str):
        if counts not in MIXTURES:
            msg = f"No mixture {counts!r}. Known: {', '.join(MIXTURES)}; or pass your own counts."
            raise KeyError(msg)
        counts = MIXTURES[counts]
    if missing := sorted({task for group in counts for task in group.split("+")} - set(there)):
        msg = f"The mixture draws from {missing}, but the pairs are of {list(there)}. Pass these pairs, or own counts."
        raise KeyError(msg)
    named = [task for group in counts for task in group.split("+")]
    if len(set(named)) < len(named) or any(n < 0 for n in counts.values()):
        msg = f"counts={dict(counts)}; expected each objective in one entry only, and no negative number."
        raise ValueError(msg)
    return dict(counts)


@dataclass(frozen=True)
class _Several:
    """Makes pairs of several parts, numbered one part after the other."""

    parts: list[Pairs]

    def __call__(self, numbers: np.ndarray) -> list[QAPair]:
        begins = np.cumsum([0, *map(len, self.parts)])
        owner = np.searchsorted(begins, numbers, side="right") - 1
        pairs: list[QAPair | None] = [None] * len(numbers)
        for i, part in enumerate(self.parts):
            mine = np.flatnonzero(owner == i)
            for place, pair in zip(mine.tolist(), part.take(numbers[mine] - begins[i]), strict=True):
                pairs[place] = pair
        return pairs
