"""What is held out: whole cells, links and genes, by where each pair comes from; and what training still holds of them.

Pairs of one cell show the same sentence, and a link stands in the question that asks for it and in the lists of
neighbours of both genes. So a pair that is drawn alone is answered by those that stay.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from .._streams import Use, generator
from .corpus._pairs_graph import NOTHING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..text import QAPair

    Unit = tuple[str, object]
    Link = frozenset[str]

logger = logging.getLogger("cellhermes")

OF_CELLS = ("masked_genes", "next_genes")
OF_GENES = ("masked_node", "neighbors", "link_list", "walk")
OF_LINKS = "masked_link"
KINDS = ("cells", "edges", "genes", "questions", "prompts")
PARTNERS = re.compile(r"^(Direct [^\n]*include: )([^\n]*)$", re.MULTILINE)
OF = re.compile(r" of (\S+) include: $")


def unit(pair: QAPair) -> Unit:
    """Say what a pair is about, and of which kind that is: all pairs about it are held out together.

    A cell, an edge (also one that is not there), a gene whose neighbours are shown, or the question of a table. Without
    a source it is the prompt, without the description of the task where that stands on a line of its own.
    """
    if pair.source and pair.task in OF_CELLS:
        return "cells", pair.source
    if pair.task == OF_LINKS and len(pair.source.split()) == 2:
        return "edges", frozenset(pair.source.split())
    if pair.source and pair.task in OF_GENES:
        return "genes", pair.source
    if pair.source:
        return "questions", (pair.task, pair.source)
    return "prompts", pair.prompt.text.partition("\n")[2] or pair.prompt.text


def asked(pair: QAPair) -> set[Link]:
    """Find the links that answer a question: the one it asks for, or those between a gene and what it asks from."""
    if pair.task == OF_LINKS:
        return {frozenset(pair.source.split())}
    return _answered(pair) | (_shown(pair) if pair.task in OF_GENES else set())


def stated(pair: QAPair) -> set[Link]:
    """Find the links that a question and its answer tell: also those in the lists of neighbours."""
    return asked(pair) | _shown(pair) if pair.task == OF_LINKS else asked(pair)


def _answered(pair: QAPair) -> set[Link]:
    words = pair.answer.split()
    if pair.task == "neighbors":
        return {frozenset((pair.source, word)) for word in words}
    if pair.task == "link_list":
        return {frozenset((pair.source, word.removesuffix(":"))) for word in words[::2]}
    return {*map(frozenset, pairwise([pair.source, *words]))} if pair.task == "walk" else set()


def _shown(pair: QAPair) -> set[Link]:
    lists = ((_center(pair, head), words) for head, words in PARTNERS.findall(pair.prompt.text))
    return {frozenset((gene, word)) for gene, words in lists for word in words.split() if words != NOTHING}


def _center(pair: QAPair, head: str) -> str:
    """Name the gene whose partners are listed behind these words."""
    named = OF.search(head) if pair.task == OF_LINKS else None
    return named[1] if named else pair.source


def without(pair: QAPair, links: set[Link]) -> QAPair | None:
    """Take these links out of a pair's lists; None where it asks for one, or nothing is left to ask from."""
    if not stated(pair) & links:
        return pair
    if pair.task == "walk" or (pair.task == OF_LINKS and asked(pair) & links):
        return None
    text = PARTNERS.sub(lambda match: match[1] + _kept(_center(pair, match[1]), match[2], links), pair.prompt.text)
    prompt, answer = replace(pair.prompt, text=text), pair.answer
    if pair.task == "neighbors":
        answer = _kept(pair.source, answer, links)
        if answer == NOTHING:
            return None
    if pair.task == "link_list":
        words = answer.split()
        entries = zip(words[::2], words[1::2], strict=True)
        answer = " ".join(f"{gene} {said}" for gene, said in entries if {frozenset((pair.source, gene[:-1]))} - links)
    pair = replace(pair, prompt=prompt, answer=answer)
    return pair if pair.task == OF_LINKS or stated(pair) else None


def _kept(gene: str, words: str, links: set[Link]) -> str:
    return " ".join(word for word in words.split() if frozenset((gene, word)) not in links) or NOTHING


@dataclass(slots=True)
class HeldOut:
    """Pairs to train on by source, and those that are held out.

    Parameters
    ----------
    train
        Source to pairs.
    pairs
        Held out.
    """

    train: dict[str, list[QAPair]]
    pairs: list[QAPair] = field(default_factory=list)


def hold_out(sources: Mapping[str, Sequence[QAPair]], n: int, *, seed: int) -> HeldOut:
    """Hold out at least ``n`` pairs: all those of random cells, edges, genes and questions.

    Edges that are asked for are taken out of the lists of the pairs that stay.

    Raises
    ------
    ValueError
        If nothing is left to train on.
    """
    units = [unit(pair) for pairs in sources.values() for pair in pairs]
    sizes, chosen, n_chosen = Counter(units), set(), 0
    for i in generator(seed, Use.HELD_OUT).permutation(len(units)).tolist():
        if n_chosen >= n:
            break
        if units[i] not in chosen:
            chosen.add(units[i])
            n_chosen += sizes[units[i]]
    split = HeldOut({name: [] for name in sources})
    everything = ((name, pair) for name, pairs in sources.items() for pair in pairs)
    for of, (name, pair) in zip(units, everything, strict=True):
        (split.pairs if of in chosen else split.train[name]).append(pair)
    links = set().union(*map(asked, split.pairs))
    n_changed, n_dropped = _take_out(split, links) if links else (0, 0)
    if not any(split.train.values()):
        msg = f"held_out is {n:,}, and there are {len(units):,} pairs; some must be left to train on."
        raise ValueError(msg)
    counts = Counter(kind for kind, _ in chosen)
    named = ", ".join(f"{counts[kind]:,} {kind}" for kind in KINDS if counts[kind])
    taken = f"{len(links):,} edges that answer them were taken out of {n_changed:,} training questions"
    logger.info("held out: %s pairs of %s. %s, and %s more left out.", f"{n_chosen:,}", named, taken, f"{n_dropped:,}")
    if counts["prompts"]:
        logger.warning(
            "%s held-out prompts do not say what they come from (source): training may have other pairs of the same "
            "cells, edges and genes.", f"{counts['prompts']:,}",
        )  # fmt: skip
    return split


def _take_out(split: HeldOut, links: set[Link]) -> tuple[int, int]:
    """Take links out of the training pairs; how many pairs were changed, and how many left out."""
    n_changed = n_dropped = 0
    for name, pairs in split.train.items():
        kept = [without(pair, links) for pair in pairs]
        n_changed += sum(new is not None and new is not old for new, old in zip(kept, pairs, strict=True))
        n_dropped += kept.count(None)
        split.train[name] = [pair for pair in kept if pair is not None]
    return n_changed, n_dropped


def overlap(train: Iterable[QAPair], held: Iterable[QAPair]) -> dict[str, dict[str, int]]:
    """Say what of the held-out pairs training has, too, by kind: in a table, and in the log.

    Returns
    -------
    Kind to ``"held out"`` and ``"also trained on"``: cells, edges that are asked for, genes whose neighbours are,
    questions of tables, and prompts of pairs without a source.
    """
    held = list(held)
    wanted: dict[str, set] = {kind: set() for kind in KINDS}
    for kind, of in map(unit, held):
        wanted[kind].add(of)
    wanted["edges"] = set().union(*map(asked, held))
    seen: dict[str, set] = {kind: set() for kind in KINDS}
    for pair in train:
        kind, of = unit(pair)
        if of in wanted[kind]:
            seen[kind].add(of)
        if wanted["edges"]:
            seen["edges"] |= stated(pair) & wanted["edges"]
    counts = {
        kind: {"held out": len(wanted[kind]), "also trained on": len(seen[kind])} for kind in KINDS if wanted[kind]
    }
    listed = ", ".join(f"{one['also trained on']:,} of {one['held out']:,} {kind}" for kind, one in counts.items())
    if any(seen.values()):
        logger.warning(
            "held out, but also in training pairs: %s. Loss and accuracy of these tell memory; hold out whole cells "
            "and edges (held_out in the run file, or of the pairs).", listed,
        )  # fmt: skip
    else:
        logger.info("held out, and in no training pair: %s", listed.replace("0 of ", ""))
    return counts
