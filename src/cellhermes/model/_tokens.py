"""The one way from (prompt, answer) to token ids, and from token ids to padded batches.

Embedding, scoring, generation, attention and training all read what :class:`Encoder` writes. Where a text is tokenised
in parts, the ids are those of the whole, also with tokenizers that write a blank at the start of every text.
"""

import hashlib
import json
import re
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer

from ..text import Prompt, QAPair, Wrap
from ._chat import CHAT, chat_wrap

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..text._template import Span

T = TypeVar("T")

BEHIND = "\ue000behind a special token\ue001"  # stands for one before a text, in private characters of Unicode
WORD = "a"  # stands for the text before a blank
PROBES = (WORD, "Gene CD3E, a.")


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a prompt.

    Parameters
    ----------
    ids
        Head, text and tail.
    n_shared
        How many of the first ids stand before the prompt's cut, 0 without one.
    genes
        Gene to the positions of its tokens, for prompts with spans; only where asked for.
    entity
        (first, last + 1) token of the entity, (0, 0) without one; only where asked for.
    """

    ids: list[int]
    n_shared: int = 0
    genes: dict[str, range] = field(default_factory=dict)
    entity: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of a question and its answer, as training reads them.

    Parameters
    ----------
    ids
        Wrapped question, then the answer with its end token.
    n_prompt
        How many of them are the question's.
    is_cut
        Whether something was left out.
    """

    ids: list[int]
    n_prompt: int
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class _Start:
    """What stands before a text when it is tokenised; its first ids are left out again."""

    text: str
    n_out: int


@dataclass(frozen=True, slots=True)
class _Part:
    """Ids of a text behind a start."""

    encoding: "Encoding"
    start: _Start

    @property
    def ids(self) -> list[int]:
        return self.encoding.ids[self.start.n_out :]

    def offsets(self, shift: int = 0) -> list[tuple[int, int]]:
        """Give the (start, end) of each id, in characters; ``shift`` is where the text begins."""
        shift -= len(self.start.text)
        return [(a + shift, b + shift) for a, b in self.encoding.offsets[self.start.n_out :]]


class Encoder:
    """One tokenizer and one wrap, which turn prompts and answers into ids.

    Special tokens split a text before anything else happens to it. So a wrapped prompt is read in three parts: the head
    up to its last special token; the text with the plain words of head and tail that touch it; and the tail from its
    first special token. In the second part special tokens are plain text.

    Parameters
    ----------
    tokenizer
        A transformers tokenizer with a fast (Rust) back end.
    chosen
        A wrap, a name of :meth:`cellhermes.text.Wrap.names`, ``"chat"``, or ``""`` for the rule of ``ModelCard.wrap``.
    system
        Text of a system turn, for ``"chat"``.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", chosen: str | Wrap = "", *, system: str | None = None
    ) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            msg = f"{type(tokenizer).__name__} has no fast back end, which is needed to know where a gene's tokens are."
            raise TypeError(msg)
        self.wrap = _chosen(tokenizer, chosen, system)
        bos, eos = (t or "" for t in (tokenizer.bos_token, tokenizer.eos_token))
        head, tail, end = self.wrap.head.removeprefix("{bos}"), self.wrap.tail, self.wrap.end.replace("{eos}", eos)
        # A copy, so that the caller's tokenizer keeps its own padding, truncation and treatment of special tokens.
        self._tokenizer = _copy(backend.to_str(), head + tail + end)
        _check_marks(self._tokenizer, self.wrap)
        begin = self._ids(bos) if self.wrap.head.startswith("{bos}") else []
        spelled = [begin + self._ids(head + text + tail) for text in PROBES]
        until, _, _, words = self._split(head)
        self._before, self._text_start = begin + until, _Start(BEHIND * bool(until) + words, int(bool(until)))
        _, self._tail_words, self._after, words = self._split(tail)
        before_answer = BEHIND + words if self._after else WORD + tail
        _, self._end_words, self.end, behind = self._split(end)
        if end and (len(self.end) != 1 or behind):
            msg = f"wrap={self.wrap.name!r} ends an answer with {end!r}; expected a single special token at its end."
            raise ValueError(msg)
        self.stop = {*self.end, *({tokenizer.eos_token_id} - {None})}
        self._tokenizer.add_tokens([AddedToken(BEHIND, normalized=False)])
        # From here on special tokens inside a user's text are plain text.
        self._tokenizer.encode_special_tokens = True
        self._rest_start = _Start(WORD, len(self._ids(WORD)))
        self._before_answer = self._ids(before_answer)
        self._answer_start = _Start(before_answer, len(self._before_answer))
        if [one.ids for one in self.prompts([Prompt(text) for text in PROBES])] != spelled:
            msg = (
                f"The tokenizer reads the parts of wrap={self.wrap.name!r} otherwise than the whole. "
                "Pass wrap='plain', or another wrap of your own in cellhermes.json."
            )
            raise ValueError(msg)
        (word,) = self.prompts([Prompt(WORD, entity=(0, len(WORD)))], positions=True)
        # Ids before and behind a text.
        self.head, self.tail = word.ids[: word.entity[0]], word.ids[word.entity[1] :]

    def _split(self, text: str) -> tuple[list[int], str, list[int], str]:
        """Split at special tokens: ids up to the last, words before the first, ids from the first on, words behind."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        # those that are not looked for in the normalised text split it, special or not
        added = self._tokenizer.get_added_tokens_decoder().items()
        marks = {i: token.content for i, token in added if token.special or not token.normalized}
        # an unknown word is no mark, though its token is a special one
        at = [
            i
            for i, (t, (a, b)) in enumerate(zip(encoding.ids, encoding.offsets, strict=True))
            if marks.get(t) == text[a:b].strip()
        ]
        if not at:
            return [], text, [], text
        words, behind = text[: encoding.offsets[at[0]][0]], text[encoding.offsets[at[-1]][1] :]
        return encoding.ids[: at[-1] + 1], words, encoding.ids[at[0] :], behind

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _read(self, texts: Sequence[str], starts: Sequence[_Start]) -> list[_Part]:
        whole = [start.text + text for text, start in zip(texts, starts, strict=True)]
        return [*map(_Part, self._tokenizer.encode_batch(whole, add_special_tokens=False), starts)]

    def answer(self, text: str) -> list[int]:
        """Encode an answer behind a prompt, closed by the end token."""
        text = self.wrap.lead + text + self._end_words
        (part,) = self._read([text], [self._answer_start])
        if part.encoding.ids[: part.start.n_out] != self._before_answer:  # both would share a token
            (part,) = self._read([text], [_Start(BEHIND, 1)])
        return part.ids + self.end

    def examples(self, pairs: Sequence[QAPair], *, max_tokens: int) -> list[Example | None]:
        """Encode questions with their answers, of at most ``max_tokens`` tokens.

        What is too long is cut in proportion: question and answer lose the same share of their tokens, each at its end,
        and what stands around a question stays. None where nothing of an answer would be left.
        """
        n_around = len(self.head) + len(self.tail)
        if max_tokens < n_around + 2 or not self.end:
            msg = (
                f"max_tokens is {max_tokens}, of which {n_around} stand around every question; expected more."
                if self.end
                else "The tokenizer has no end token (eos_token), so answers could not end. Give it one."
            )
            raise ValueError(msg)
        prompts = self.prompts([pair.prompt for pair in pairs])
        answers = [self.answer(pair.answer) for pair in pairs]
        return [
            Example(one.ids + answer, len(one.ids))
            if len(one.ids) + len(answer) <= max_tokens
            else self._cut(pair.prompt.text, answer, max_tokens)
            for pair, one, answer in zip(pairs, prompts, answers, strict=True)
        ]

    def _cut(self, text: str, answer: list[int], max_tokens: int) -> Example | None:
        (whole,) = self.prompts([Prompt(text, entity=(0, len(text)))], positions=True)
        first, last = whole.entity
        room = max_tokens - len(whole.ids) + last - first
        n_answer = room * len(answer) // (last - first + len(answer))
        if n_answer < 1:
            return None
        kept = whole.ids[: first + room - n_answer] + whole.ids[last:]
        return Example(kept + answer[:n_answer], len(kept), is_cut=True)

    def fingerprint(self) -> str:
        """Hash the tokenizer: the same ids for the same text."""
        return hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()

    def decode(self, ids: Sequence[int]) -> str:
        """Write generated ids as text, without special tokens and outer white space."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True).strip()

    def prompts(self, prompts: Sequence[Prompt], *, positions: bool = False) -> list[Encoded]:
        """Encode prompts; with ``positions`` also the tokens of genes and entities.

        The part before a prompt's cut is tokenised once for all prompts that share it. That both parts together give
        the ids of the whole is checked on one prompt of each group; where a tokenizer breaks the rule, its prompts are
        not cut.
        """
        one_of = {p.text[: p.prefix_len]: p.text for p in prompts if p.prefix_len}
        prefixes = dict(zip(one_of, self._read(list(one_of), [self._text_start] * len(one_of)), strict=True))
        for prefix, text in one_of.items():
            rest, whole = self._read([text[len(prefix) :], text], [self._rest_start, self._text_start])
            if prefixes[prefix].ids + rest.ids != whole.ids:
                del prefixes[prefix]
        before = [prefixes.get(p.text[: p.prefix_len]) for p in prompts]
        rests = self._read(
            [
                p.text[p.prefix_len if prefix else 0 :] + self._tail_words
                for p, prefix in zip(prompts, before, strict=True)
            ],
            [self._rest_start if prefix else self._text_start for prefix in before],
        )
        return [self._join(*parts, positions=positions) for parts in zip(prompts, before, rests, strict=True)]

    def _join(self, prompt: Prompt, prefix: _Part | None, rest: _Part, *, positions: bool) -> Encoded:
        shared = [*self._before, *prefix.ids] if prefix else []
        ids = [*(shared or self._before), *rest.ids, *self._after]
        if not positions:
            return Encoded(ids, len(shared))
        offsets = rest.offsets(prompt.prefix_len if prefix else 0)
        offsets = np.array((prefix.offsets() if prefix else []) + offsets, dtype=np.int64).reshape(-1, 2)
        spans = [*prompt.spans.values(), prompt.entity or (0, 0)]
        *places, entity = self._tokens(offsets, spans)
        genes = {gene: range(*place) for gene, place in zip(prompt.spans, places, strict=True)}
        return Encoded(ids, len(shared), genes, entity if prompt.entity else (0, 0))

    def _tokens(self, offsets: np.ndarray, spans: "Sequence[Span]") -> list[tuple[int, int]]:
        """Find the (first, last + 1) position of the tokens that overlap each span of characters."""
        # Ends and starts rise along a text, so both borders are binary searches.
        start, stop = np.array(spans).T
        first = np.searchsorted(offsets[:, 1], start, side="right") + len(self._before)
        last = np.searchsorted(offsets[:, 0], stop, side="left") + len(self._before)
        return [*zip(first.tolist(), last.tolist(), strict=True)]


def _chosen(tokenizer: "PreTrainedTokenizerBase", chosen: str | Wrap, system: str | None) -> Wrap:
    chosen = chosen or (CHAT if tokenizer.chat_template else "plain")
    if chosen == CHAT:
        return chat_wrap(tokenizer, system)
    if system is not None:
        name = chosen.name if isinstance(chosen, Wrap) else chosen
        msg = f"A system turn needs wrap='chat', a tokenizer's own chat template; this model reads wrap={name!r}."
        raise ValueError(msg)
    return Wrap.load(chosen)


def warn_of_plain(tokenizer: "PreTrainedTokenizerBase", chosen: str | Wrap | None) -> None:
    """Warn where a model that was tuned on a chat is to read bare text."""
    if chosen == "plain" and tokenizer.chat_template:
        msg = (
            f"{tokenizer.name_or_path} has a chat template, and wrap='plain' leaves it out: a model that was tuned on "
            "it answers worse. Leave wrap out, or pass wrap='chat'."
        )
        warnings.warn(msg, UserWarning, stacklevel=2)


def _copy(source: str, frame: str) -> Tokenizer:
    """Copy a tokenizer so that all that marks a turn is special, and no text can imitate it."""
    tokenizer = Tokenizer.from_str(source)
    plain = {t.content for t in tokenizer.get_added_tokens_decoder().values() if not t.special and t.content in frame}
    if marks := {content for content in plain if content.strip() and not content.isalnum()}:
        parts = json.loads(source)
        for token in parts["added_tokens"]:
            token["special"] |= token["content"] in marks
        tokenizer = Tokenizer.from_str(json.dumps(parts))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _check_marks(tokenizer: Tokenizer, around: Wrap) -> None:
    """Check that what is written like a special token is one; the words of a template may be what they like."""
    marks = re.findall(r"<\|.*?\|>", around.head + around.tail + around.end)
    missing = sorted({mark for mark in marks if tokenizer.token_to_id(mark) is None})
    if missing and around.name != CHAT:
        msg = (
            f"The tokenizer lacks special tokens of wrap={around.name!r}: {missing}. "
            "Pass wrap='plain' for a model without chat turns."
        )
        raise ValueError(msg)


def check_vocabulary(lm: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", name: str) -> None:
    """Raise if the tokenizer has tokens that the model has no vectors for."""
    n_known, n_rows = len(tokenizer), lm.get_input_embeddings().num_embeddings
    if n_known > n_rows:
        msg = f"The tokenizer of {name!r} has {n_known} tokens, its model {n_rows}: they do not belong together."
        raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded ids, with positions that count from each prompt's own first token.

    Parameters
    ----------
    ids
        (prompts, tokens) int64.
    mask
        (prompts, tokens) bool, False at padding.
    side
        Where the padding stands.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    side: Literal["left", "right"]

    @classmethod
    def pad(
        cls, rows: Sequence[Sequence[int]], *, device: torch.device, side: Literal["left", "right"] = "right"
    ) -> "Batch":
        """Pad rows of ids. The padding id is 0: no real token ever reads it, whatever it stands for."""
        width = max(map(len, rows))
        ids = torch.zeros(len(rows), width, dtype=torch.int64)
        mask = torch.zeros(len(rows), width, dtype=torch.bool)
        for i, row in enumerate(rows):
            where = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
            ids[i, where] = torch.as_tensor(row)
            mask[i, where] = True
        return cls(ids.to(device), mask.to(device), side)

    @property
    def positions(self) -> torch.Tensor:
        """Count to (prompts, tokens) the position of each token in its own prompt."""
        return (self.mask.cumsum(1) - 1).clamp_min(0)

    @property
    def attention_mask(self) -> torch.Tensor | None:
        """Give the mask; None where causality alone hides the padding: behind the end of a prompt nothing is read."""
        return None if self.side == "right" or bool(self.mask.all()) else self.mask

    @property
    def last(self) -> torch.Tensor:
        """Find the (prompts,) column of each prompt's last token."""
        return self.mask.sum(1) - 1 if self.side == "right" else torch.full_like(self.mask[:, 0], -1, dtype=torch.int64)


def check_batch_size(batch_size: int | None) -> None:
    """Raise if no batch can have that many prompts."""
    if batch_size is not None and not batch_size >= 1:
        msg = f"batch_size is {batch_size}; expected at least 1, or None to choose it from the memory that is free."
        raise ValueError(msg)


def plan(lengths: Sequence[int], *, batch_size: int | None, budget: int) -> list[list[int]]:
    """Split indices into batches of similar length, longest first.

    A batch has ``batch_size`` prompts, or without it as many as keep prompts x longest within ``budget`` tokens.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    batches: list[list[int]] = []
    while order:
        size = batch_size or max(1, budget // max(1, lengths[order[0]]))
        batches.append(order[:size])
        order = order[size:]
    return batches


def run_batches(batches: list[list[int]], compute: Callable[[list[int]], T]) -> Iterator[tuple[list[int], T]]:
    """Compute each batch; one that does not fit in memory is halved, and so are all that follow.

    Raises
    ------
    MemoryError
        If a single prompt does not fit.
    """
    queue, limit = deque(batches), max(map(len, batches), default=0)
    while queue:
        batch = queue.popleft()
        if len(batch) > limit:
            queue.extendleft([batch[limit:], batch[:limit]])
            continue
        result = _fits(compute, batch)
        if result is not None:
            yield batch, result
            continue
        if len(batch) == 1:
            msg = (
                "One prompt alone does not fit in memory. "
                "Use a shorter prompt (n_genes=), a smaller model, or half precision."
            )
            raise MemoryError(msg)
        limit = len(batch) // 2
        queue.appendleft(batch)


def _fits(compute: Callable[[list[int]], T], batch: list[int]) -> T | None:
    """Compute, or give None if memory ran out; a function, so that the failed try's tensors are freed."""
    try:
        return compute(batch)
    except RuntimeError as error:  # torch.OutOfMemoryError on accelerators, a plain RuntimeError from the CPU allocator
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None
