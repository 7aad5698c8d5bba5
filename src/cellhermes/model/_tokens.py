"""The one way from (prompt, answer) to token ids, and from token ids to padded batches.

Embedding, scoring, generation, attention and training all read what :class:`Encoder` writes. Parts are tokenised one by
one and their ids joined; joined text is never tokenised again.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import torch
from tokenizers import Tokenizer

from ..text import Prompt, QAPair, Wrap, wrap

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..text._template import Span

T = TypeVar("T")


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


class Encoder:
    """Turns prompts and answers into ids with one tokenizer and one wrap.

    Parameters
    ----------
    tokenizer
        A transformers tokenizer with a fast (Rust) back end.
    wrap_name
        A key of :func:`cellhermes.text.wraps`, or ``""`` for the default rule of ``ModelCard.wrap``.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", wrap_name: str = "") -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            msg = f"{type(tokenizer).__name__} has no fast back end, which is needed to know where a gene's tokens are."
            raise TypeError(msg)
        # A copy, so that the caller's tokenizer keeps its own padding, truncation and treatment of special tokens.
        self._tokenizer = Tokenizer.from_str(backend.to_str())
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        chat = wrap("llama3-chat")
        self.wrap: Wrap = wrap(wrap_name or ("llama3-chat" if self._knows(chat) else "plain"))
        if not self._knows(self.wrap):
            msg = (
                f"The tokenizer lacks special tokens of wrap={self.wrap.name!r}. "
                "Pass wrap='plain' for a model without chat turns."
            )
            raise ValueError(msg)
        bos, eos = (t or "" for t in (tokenizer.bos_token, tokenizer.eos_token))
        self.head, self.tail, self.end = (
            self._ids(part.replace("{bos}", bos).replace("{eos}", eos))
            for part in (self.wrap.head, self.wrap.tail, self.wrap.end)
        )
        # From here on special tokens inside a user's text are plain text.
        self._tokenizer.encode_special_tokens = True

    def _knows(self, candidate: Wrap) -> bool:
        marks = [f"<|{m.split('|>')[0]}|>" for m in (candidate.head + candidate.tail + candidate.end).split("<|")[1:]]
        return all(self._tokenizer.token_to_id(mark) is not None for mark in marks)

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def answer(self, text: str) -> list[int]:
        """Ids of an answer behind a prompt, closed by the end token."""
        return self._ids(self.wrap.lead + text) + self.end

    def examples(self, pairs: Sequence[QAPair], *, max_tokens: int) -> list[Example | None]:
        """Questions with their answers, of at most ``max_tokens`` tokens.

        What is too long is cut in proportion: question and answer lose the same share of their tokens, each at its end,
        and what stands around a question stays. None where nothing of an answer would be left.
        """
        room = max_tokens - len(self.head) - len(self.tail)
        if room < 2 or not self.end:
            msg = (
                f"max_tokens is {max_tokens}, of which {len(self.head) + len(self.tail)} stand around every question; "
                "expected more."
                if self.end
                else "The tokenizer has no end token (eos_token), so answers could not end. Give it one."
            )
            raise ValueError(msg)
        prompts = self.prompts([pair.prompt for pair in pairs])
        answers = [self.answer(pair.answer) for pair in pairs]
        return [self._example(one.ids, answer, room) for one, answer in zip(prompts, answers, strict=True)]

    def _example(self, prompt: list[int], answer: list[int], room: int) -> Example | None:
        n_text = len(prompt) - len(self.head) - len(self.tail)
        if n_text + len(answer) <= room:
            return Example(prompt + answer, len(prompt))
        n_answer = room * len(answer) // (n_text + len(answer))
        if not n_answer:
            return None
        n_prompt = len(prompt) - n_text + room - n_answer
        return Example(prompt[: n_prompt - len(self.tail)] + self.tail + answer[:n_answer], n_prompt, is_cut=True)

    def fingerprint(self) -> str:
        """Hash of the tokenizer: the same ids for the same text."""
        return hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids, without special tokens and outer white space."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True).strip()

    def prompts(self, prompts: Sequence[Prompt], *, positions: bool = False) -> list[Encoded]:
        """Ids of prompts; with ``positions`` also the tokens of genes and entities.

        The part before a prompt's cut is tokenised once for all prompts that share it. That both parts together give
        the ids of the whole is checked on one prompt of each group; where a tokenizer breaks the rule, its prompts are
        not cut.
        """
        cuts = [prompt.prefix_len for prompt in prompts]
        prefixes = {p.text[:cut]: self._encode([p.text[:cut]])[0] for p, cut in zip(prompts, cuts, strict=True) if cut}
        whole: dict[str, bool] = {}
        for prompt, cut in zip(prompts, cuts, strict=True):
            prefix = prompt.text[:cut]
            if cut and prefix not in whole:
                whole[prefix] = prefixes[prefix].ids + self._ids(prompt.text[cut:]) != self._ids(prompt.text)
        cuts = [0 if whole.get(p.text[:cut], True) else cut for p, cut in zip(prompts, cuts, strict=True)]
        rests = self._encode([p.text[cut:] for p, cut in zip(prompts, cuts, strict=True)])
        return [
            self._join(prompt, prefixes[prompt.text[:cut]] if cut else None, rest, positions=positions)
            for prompt, cut, rest in zip(prompts, cuts, rests, strict=True)
        ]

    def _encode(self, texts: list[str]) -> "list[Encoding]":
        return self._tokenizer.encode_batch(texts, add_special_tokens=False)

    def _join(self, prompt: Prompt, prefix: "Encoding | None", rest: "Encoding", *, positions: bool) -> Encoded:
        before = prefix.ids if prefix else []
        ids = [*self.head, *before, *rest.ids, *self.tail]
        n_shared = len(self.head) + len(before) if prefix else 0
        if not positions:
            return Encoded(ids, n_shared)
        shift = prompt.prefix_len if prefix else 0
        offsets = np.array(
            (prefix.offsets if prefix else []) + [(a + shift, b + shift) for a, b in rest.offsets], dtype=np.int64
        ).reshape(-1, 2)
        spans = [*prompt.spans.values(), prompt.entity or (0, 0)]
        *places, entity = self._tokens(offsets, spans)
        genes = {gene: range(*place) for gene, place in zip(prompt.spans, places, strict=True)}
        return Encoded(ids, n_shared, genes, entity if prompt.entity else (0, 0))

    def _tokens(self, offsets: np.ndarray, spans: "Sequence[Span]") -> list[tuple[int, int]]:
        """(first, last + 1) position of the tokens that overlap each span of characters."""
        # Ends and starts rise along a text, so both borders are binary searches.
        start, stop = np.array(spans).T
        first = np.searchsorted(offsets[:, 1], start, side="right") + len(self.head)
        last = np.searchsorted(offsets[:, 0], stop, side="left") + len(self.head)
        return [*zip(first.tolist(), last.tolist(), strict=True)]


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
        """(prompts, tokens) position of each token in its own prompt."""
        return (self.mask.cumsum(1) - 1).clamp_min(0)

    @property
    def attention_mask(self) -> torch.Tensor | None:
        """None where causality alone hides the padding: behind the last token of a prompt nothing is read."""
        return None if self.side == "right" or bool(self.mask.all()) else self.mask

    @property
    def last(self) -> torch.Tensor:
        """(prompts,) column of each prompt's last token."""
        return self.mask.sum(1) - 1 if self.side == "right" else torch.full_like(self.mask[:, 0], -1, dtype=torch.int64)


def check_batch_size(batch_size: int | None) -> None:
    """Raise if no batch can have that many prompts."""
    if batch_size is not None and not batch_size >= 1:
        msg = f"batch_size is {batch_size}; expected at least 1, or None to choose it from the memory that is free."
        raise ValueError(msg)


def plan(lengths: Sequence[int], *, batch_size: int | None, budget: int) -> list[list[int]]:
    """Indices in batches of similar length, longest first.

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
    """The result, or None if memory ran out; a function of its own, so that the failed try's tensors are freed."""
    try:
        return compute(batch)
    except RuntimeError as error:  # torch.OutOfMemoryError on accelerators, a plain RuntimeError from the CPU allocator
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None
