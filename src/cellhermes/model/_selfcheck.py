"""Whether our ways through a model give what its own forward gives: two short prompts, looked at when it is loaded.

Layers are those of transformers, but the attention between them is ours, a shared beginning is its keys and values
only, and logits are made from states. Attention sinks, biases of distance, convolutions and recurrent layers, or
another scale of the logits would be left out without a word, so that nothing is believed about a family of models.
"""

import logging
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel
from transformers.utils import logging as hf_logging

from ..text import Prompt
from . import _forward
from ._tokens import Batch, Encoder
from ._trie import Trie

logger = logging.getLogger("cellhermes")

EXACT, ROUNDED = 1e-4, 0.1  # of the largest number: in float32; where numbers or weights have fewer bits
TEXT = "Genes: CD3E LYZ NKG7 MS4A1 B2M, FCGR3A (PPBP) of a T cell; which?"
N_IDS, N_SHARED = 20, 8
OWN = ("sdpa", "eager")  # attention of transformers, the faster one first


@dataclass(frozen=True, slots=True)
class Abilities:
    """Which ways through a model are right.

    Parameters
    ----------
    attention
        Implementation that the model was left with: ours, or one of transformers.
    shares
        Whether keys and values of a beginning stand for it.
    caches
        Whether text can be written from a cache, in batches of several lengths.
    attends
        Whether the weights that are seen in the last layer are those it uses.
    """

    attention: str
    shares: bool
    caches: bool
    attends: bool


_known: dict[Hashable, Abilities] = {}  # models that were loaded before in this process


def abilities_of(lm: PreTrainedModel, encoder: Encoder, name: str, quantize: str, sha256: str) -> Abilities:
    """Compare a loaded model with its own forward; a warning says what is slower then."""
    ids = encoder.prompts([Prompt(TEXT)])[0].ids
    known_as = (sha256, str(lm.dtype), str(lm.device), quantize, *ids) if sha256 else None
    able = check(lm, ids, exact=lm.dtype == torch.float32 and not quantize, known_as=known_as)
    if not able.shares:
        msg = (
            f"{name!r} is a {type(lm).__name__}, of which keys and values of a beginning are not all that counts: what "
            "prompts share is computed for each of them. Results are right, and slower."
        )
        warnings.warn(msg, stacklevel=4)
    return able


def check(lm: PreTrainedModel, ids: Sequence[int], *, exact: bool, known_as: Hashable = None) -> Abilities:
    """Compare, and leave the model with an attention that is right.

    Parameters
    ----------
    lm
        A model with our attention, if its family takes one from outside.
    ids
        Of some text, of which two prompts are made that are shorter than any window of attention.
    exact
        Whether numbers and weights have all bits of float32.
    known_as
        What decides about the numbers, such as the hash of the weights: compared once in a process. None compares
        always.

    Raises
    ------
    ValueError
        If not even the model's own attention gives each prompt of a batch what it gives it alone.
    """
    if known_as is None or known_as not in _known:
        different = [*dict.fromkeys([*ids, *range(N_IDS)])][:N_IDS]  # filled up where a text has few
        _known[known_as] = _compare(lm, different, EXACT if exact else ROUNDED)
    _set(lm, _known[known_as].attention)
    return _known[known_as]


def _compare(lm: PreTrainedModel, ids: list[int], tolerance: float) -> Abilities:
    with torch.inference_mode(), _quiet(), torch.compiler.set_stance("force_eager"):
        truth = _truth(lm, ids, tolerance)
        for attention in (_forward.NAME, *OWN):
            _set(lm, attention)
            if _holds(truth.in_a_batch):
                break
        else:
            raise ValueError(_refused(lm, "whose vectors or logits would not be those of transformers"))
        ours = attention == _forward.NAME
        return Abilities(
            attention,
            shares=ours and _holds(truth.behind_a_prefix) and _holds(truth.in_a_trie),
            caches=_holds(truth.from_a_cache),
            attends=ours and _holds(truth.in_the_last_layer),
        )


@dataclass(frozen=True, slots=True)
class _Truth:
    """What the model's own forward gives for each prompt alone, and comparisons with it.

    Parameters
    ----------
    rows
        Ids of two prompts of different lengths.
    answers
        Ids of two answers that begin alike.
    tolerance
        Of the largest number.
    states
        (tokens, dim) of each prompt.
    logits
        (tokens, words) of each prompt and the first answer behind it; empty for a model without output layer.
    weights
        (heads, tokens) that the last token of each prompt has in the last layer; empty where the model does not tell.
    """

    lm: PreTrainedModel
    rows: Sequence[list[int]]
    answers: Sequence[list[int]]
    tolerance: float
    states: list[torch.Tensor]
    logits: list[torch.Tensor]
    weights: list[torch.Tensor]

    @classmethod
    def of(cls, lm: PreTrainedModel, ids: list[int], tolerance: float) -> "_Truth":
        """Run two prompts that begin alike, each alone, with the plainest attention of transformers."""
        rows = [ids[:11], ids[:N_SHARED] + ids[11:16]]
        answers = [ids[16:19], [ids[16], ids[19]]]
        _set(lm, "eager")
        decoder, alone = lm.get_decoder(), [torch.tensor([row], device=lm.device) for row in rows]
        outputs = [decoder(input_ids=one, use_cache=False, output_attentions=True) for one in alone]
        with_answer = [torch.tensor([row + answers[0]], device=lm.device) for row in rows]
        has_head = lm.get_output_embeddings() is not None
        logits = [lm(input_ids=one, use_cache=False).logits[0].float() for one in with_answer if has_head]
        seen = [getattr(one, "attentions", None) or [None] for one in outputs]
        weights = [one[-1][0, :, -1].float() for one in seen if one[-1] is not None]
        return cls(lm, rows, answers, tolerance, [one.last_hidden_state[0] for one in outputs], logits, weights)

    def in_a_batch(self) -> bool:
        """Compare the states of both prompts side by side, and the logits made from them."""
        batch = _forward.hidden(self.lm.get_decoder(), self._pad(self.rows))
        return all(
            self._close(states[: len(row)], wanted) and self._predicts(i, states[: len(row)], 0)
            for i, (row, states, wanted) in enumerate(zip(self.rows, batch, self.states, strict=True))
        )

    def behind_a_prefix(self) -> bool:
        """Compare the states of what follows the beginning that both prompts share."""
        prefix = self._prefix([self.rows[0][:N_SHARED]])
        rests = [row[N_SHARED:] for row in self.rows]
        batch = _forward.hidden_behind(self.lm.get_decoder(), prefix, self._pad(rests))
        return all(
            self._close(states[: len(rest)], wanted[N_SHARED:])
            for rest, states, wanted in zip(rests, batch, self.states, strict=True)
        )

    def in_a_trie(self) -> bool:
        """Compare the logits of an answer among others, behind the beginning and what follows it."""
        shared, trie = self._prefix([self.rows[0][:N_SHARED]]), Trie.of(self.answers)
        behind = _forward.read_behind(self.lm.get_decoder(), shared, self._pad([row[N_SHARED:] for row in self.rows]))
        at = [0, *trie.parent[trie.paths[0, 1 : len(self.answers[0])]].tolist()]
        return all(
            self._predicts(i, states[at], len(row) - 1)
            for i, (row, states) in enumerate(
                zip(self.rows, _forward.states_behind(self.lm.get_decoder(), behind, trie), strict=True)
            )
        )

    def from_a_cache(self) -> bool:
        """Compare the logits of an answer that is fed token by token."""
        grown = _forward.grow(self.lm.get_decoder(), self.rows, device=self.lm.device)
        states = [next(grown)] + [grown.send([token] * len(self.rows)) for token in self.answers[0][:-1]]
        return all(
            self._predicts(i, torch.stack([state[i] for state in states]), len(row) - 1)
            for i, row in enumerate(self.rows)
        )

    def in_the_last_layer(self) -> bool:
        """Compare the weights of the last token."""
        batch = self._pad(self.rows)
        seen = _forward.attention_of_last_layer(self.lm.get_decoder(), batch, batch.mask.float())
        return len(self.weights) == len(seen) and all(
            self._close(weights, wanted) for (weights, *_), wanted in zip(seen, self.weights, strict=True)
        )

    def _pad(self, rows: Sequence[list[int]]) -> Batch:
        return Batch.pad(rows, device=self.lm.device)

    def _prefix(self, rows: Sequence[list[int]]) -> _forward.Prefix:
        return _forward.read_prefix(self.lm.get_decoder(), self._pad(rows))

    def _predicts(self, i: int, states: torch.Tensor, start: int) -> bool:
        """Tell whether states, of which the first stands at a place of a prompt and its answer, give its logits."""
        if not self.logits:
            return True
        return self._close(_forward.logits(self.lm, states), self.logits[i][start : start + len(states)])

    def _close(self, values: torch.Tensor, wanted: torch.Tensor) -> bool:
        if values.shape != wanted.shape:
            return False
        # NaN and infinity are told of by the verbs
        return not (values - wanted).abs().max() > self.tolerance * wanted.abs().max()


def _truth(lm: PreTrainedModel, ids: list[int], tolerance: float) -> _Truth:
    try:
        return _Truth.of(lm, ids, tolerance)
    except Exception as error:
        raise ValueError(_refused(lm, f"which does not read text alone ({error})")) from error


def _refused(lm: PreTrainedModel, why: str) -> str:
    return (
        f"{lm.name_or_path!r} is a {type(lm).__name__}, {why}, so that it is refused. The documentation lists the "
        "families of models that can be read."
    )


def _set(lm: PreTrainedModel, attention: str) -> None:
    """Take another attention, also where transformers does not let it be set and only masks are made for it."""
    for module in lm.modules():
        if isinstance(module, PreTrainedModel):
            module.config._attn_implementation = attention


def _holds(comparison: Callable[[], bool]) -> bool:
    """Tell whether it does; a model that knows nothing of our ways may fail in any manner."""
    try:
        return comparison()
    except Exception as error:  # noqa: BLE001
        logger.debug("self-check: %r", error)
        return False


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what transformers says of attention that cannot be set, or does not tell its weights."""
    level = hf_logging.get_verbosity()
    hf_logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
