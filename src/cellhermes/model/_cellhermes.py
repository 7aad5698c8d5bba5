"""The class that sees tensors: a causal language model with four verbs. It knows neither cells nor tasks."""

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from tqdm.auto import tqdm

from ..text import Prompt, Wrap
from . import _forward, _identity, _selfcheck
from ._attention import GeneAttention, per_gene
from ._tokens import Batch, Encoded, Encoder, check_batch_size, check_vocabulary, plan, run_batches
from ._trie import Trie

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ._card import ModelCard, ReadAt
    from ._quantize import Quantize

logger = logging.getLogger("cellhermes")

MAX_LOGITS = 1 << 24  # held at once: 64 MB in float32


class PromptLengthError(ValueError):
    """A prompt is longer than the model's context.

    Parameters
    ----------
    index
        Which prompt of the call.
    n_tokens
        Its length.
    limit
        Of the model.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ch.model.PromptLengthError(3, 1200, 1024).index
    3
    """

    def __init__(self, index: int, n_tokens: int, limit: int) -> None:
        self.index, self.n_tokens, self.limit = index, n_tokens, limit
        super().__init__(
            f"Prompt {index} has {n_tokens} tokens, more than the {limit} of the model's context. "
            "Shorten it (for cells: a smaller n_genes=) or take a model with a longer context."
        )


class CellHermes:
    """A language model that reads prompts.

    Made by :meth:`from_pretrained`. The four verbs take texts or :class:`~cellhermes.text.Prompt` and give the same
    answer whatever the batch size, the order or the other prompts of the call: within 1e-5 (relative) in float32 on a
    CPU.

    Parameters
    ----------
    lm
        A causal language model of transformers, loaded with ``attn_implementation="cellhermes"``.
    tokenizer
        Its fast tokenizer.
    card
        How it is read.
    quantize
        How its linear layers were rounded, for the record of results.
    sha256
        Hash of the files that it was read from; without it, the tensors are hashed.

    Examples
    --------
    >>> import cellhermes as ch
    >>> model = ch.CellHermes.from_pretrained("mini")
    >>> model.embed(["Gene CD3E", "Gene MS4A1"]).shape == (2, model.dim)
    True
    """

    def __init__(
        self,
        lm: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        card: "ModelCard",
        *,
        quantize: "Quantize" = "",
        sha256: str = "",
    ) -> None:
        self.card = card
        self.quantize = quantize
        self._sha256 = sha256
        self._lm = lm.eval()
        self._decoder = lm.get_decoder()
        self._config = lm.config.get_text_config()
        self._encoder = Encoder(tokenizer, card.wrap, system=card.system)
        check_vocabulary(lm, tokenizer, card.name)
        self._able = self._check_itself()

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "mini",
        *,
        device: str | None = None,
        dtype: str | None = None,
        wrap: str | Wrap | None = None,
        system: str | None = None,
        read_at: "ReadAt | Mapping[str, ReadAt] | None" = None,
        quantize: "Quantize" = "",
        torch_compile: bool = False,
    ) -> "CellHermes":
        """Load a model by name, from a folder, or from the model hub.

        Parameters
        ----------
        name
            First an entry of :func:`~cellhermes.model.list_models` (``"mini"`` ships with the package), then a folder
            of a model or of a LoRA adapter (whose base is followed) or a GGUF file, then a hub id of a Llama-, Qwen-,
            Gemma- or Mistral-like causal model.
        device
            ``"cpu"``, ``"cuda"``, ``"mps"``, ...; None takes the accelerator that is there.
        dtype
            ``"float32"``, ``"bfloat16"`` or ``"float16"``; None takes float32 on CPU and MPS, the card's on CUDA.
        wrap
            What stands around a prompt: ``"chat"`` (the tokenizer's own chat template: one user turn, and the start of
            the answer), a key of :func:`cellhermes.text.wraps`, or a :class:`~cellhermes.text.Wrap`. None takes the
            card's, and for models without a card ``"chat"`` where there is a template, else ``"plain"``.
        system
            Text of a system turn, for ``wrap="chat"``. None gives none, where some templates write one of their own;
            ``""`` gives an empty one in its place.
        read_at
            Which token is the vector (see :class:`~cellhermes.model.ModelCard`); None takes the card's.
        quantize
            ``"8bit"`` or ``"4bit"`` (NF4) holds the weights of the linear layers in so many bits, rounded after
            adapters were merged: an 8B model in 9 GB or 6 GB. Four bits need CUDA or a CPU, and
            ``pip install 'cellhermes[quantize]'``. Vectors change a little, see :doc:`/scale`.
        torch_compile
            Compile each layer with :func:`torch.compile`, at its first forward pass. Takes a while and a C++ compiler,
            and pays for long runs only.

        Returns
        -------
        The model, ready on its device.

        Raises
        ------
        ValueError
            If the name is not known, or files are damaged or do not belong together, or a number format is not known,
            or a chat template does more with a text than write around it.
        OSError
            If a hub model can't be had: absent, gated, or no network.
        ImportError
            If ``quantize`` is asked for and its library is not installed.

        Examples
        --------
        >>> import cellhermes as ch
        >>> ch.CellHermes.from_pretrained("mini", device="cpu").device
        'cpu'
        """
        from ._load import load

        how = {"device": device, "dtype": dtype, "read_at": read_at, "quantize": quantize}
        card, lm, tokenizer, sha256 = load(name, wrap=wrap, system=system, **how)
        if torch_compile:
            _forward.compile_layers(lm)
        return cls(lm, tokenizer, card, quantize=quantize, sha256=sha256)

    def _check_itself(self) -> _selfcheck.Abilities:
        """Compare with the model's own forward; a warning says what is slower then."""
        exact = self._lm.dtype == torch.float32 and not self.quantize
        ids = self._encoder.prompts([Prompt(_selfcheck.TEXT)])[0].ids
        known_as = (self._sha256, self.dtype, self.device, self.quantize, *ids) if self._sha256 else None
        able = _selfcheck.check(self._lm, ids, exact=exact, known_as=known_as)
        if not able.shares:
            msg = (
                f"{self.card.name!r} is a {type(self._lm).__name__}, of which keys and values of a beginning are not "
                "all that counts: what prompts share is computed for each of them. Results are right, and slower."
            )
            warnings.warn(msg, stacklevel=4)
        return able

    @property
    def device(self) -> str:
        """Where the weights are."""
        return str(self._lm.device)

    @property
    def dtype(self) -> str:
        """Type of the weights; vectors are always returned as float32."""
        return str(self._lm.dtype).removeprefix("torch.")

    @cached_property
    def sha256(self) -> str:
        """Hash of all weights, tokenizer and config of the base, then of each adapter, when it was loaded.

        The same for a copy under another name, another one as soon as a byte of these files changes. Results store it
        as ``model_sha256``. What decides besides (``wrap``, ``card.read_at``, ``dtype``, ``quantize``) is not in it.
        """
        return self._sha256 or _identity.sha256_of_weights(self._lm, self._encoder.fingerprint())

    @cached_property
    def unseen_genes(self) -> frozenset[str]:
        """Symbols without meaning, as they occur in none of the training data; empty if the model lists none."""
        from ._card import unseen_genes

        return unseen_genes(self.card)

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self._config.hidden_size

    @property
    def n_heads(self) -> int:
        """Attention heads of a layer."""
        return _forward.size(self._config, "num_attention_heads", 1)

    @property
    def max_tokens(self) -> int:
        """Longest prompt in tokens, turn markers and answer included."""
        return _forward.context(self._config)

    @property
    def wrap(self) -> str:
        """Name of the text around prompts, ``"chat"``, a key of :func:`cellhermes.text.wraps`, or one of your own."""
        return self._encoder.wrap.name

    @property
    def around(self) -> Wrap:
        """The text around prompts and answers itself."""
        return self._encoder.wrap

    # ------------------------------------------------------------------------------------------------- embed

    def embed(self, prompts: Sequence[str | Prompt], *, batch_size: int | None = None) -> np.ndarray:
        """Embed texts: genes, cells, genes in cells, pathways, perturbations, interactions, or anything with a name.

        The vector is the last layer's state after the final norm, at the token that the model's card names. Templates
        for the usual entities are data (:func:`cellhermes.text.templates`):

        ``gene``
            ``Gene {gene}``
        ``cell``
            ``A cell with genes ranked by expression: {genes}``
        ``gene_in_cell``
            ``A cell with genes ranked by expression: {genes}. In this cell, Gene {gene}``
        ``pathway``, ``pathway_of_genes``
            ``Pathway {pathway}``, or ``A pathway with genes: {genes}. Pathway {pathway}``
        ``perturbation``, ``perturbation_in_cell``
            ``A cell under {perturbation} of Gene {gene}``, alone or behind a cell's sentence
        ``interaction``
            ``Interaction of Gene {gene_a} with Gene {gene_b}``

        The first three are the input format of the released weights; the others are ours. Prompts that begin alike
        (many genes behind one cell's sentence) compute their beginning once.

        Parameters
        ----------
        prompts
            Texts, or prompts of templates.
        batch_size
            Prompts per forward pass; None chooses from the memory that is free. It is halved when memory runs out.

        Returns
        -------
        (prompts, dim) float32.

        Raises
        ------
        ~cellhermes.model.PromptLengthError
            If a prompt is longer than the model's context; nothing is computed then.
        MemoryError
            If a single prompt does not fit in memory.
        ValueError
            If ``batch_size`` is below 1, or the model makes NaN or infinity of a prompt.

        Examples
        --------
        >>> import cellhermes as ch
        >>> model = ch.CellHermes.from_pretrained("mini")
        >>> pathway = ch.text.template("pathway")
        >>> vectors = model.embed([pathway.fill(pathway=name) for name in ("apoptosis", "glycolysis")])
        >>> vectors.shape[0], vectors.dtype
        (2, dtype('float32'))
        """
        check_batch_size(batch_size)
        prompts, encoded = self._encode(prompts)
        spans = [self._span(prompt, one) for prompt, one in zip(prompts, encoded, strict=True)]
        out = np.empty((len(prompts), self.dim), np.float32)
        with torch.inference_mode(), tqdm(total=len(prompts), desc="embed", delay=2, leave=False) as bar:
            for members, shared in _shared(encoded, spans, enabled=self._may_share(encoded)):
                rows = [encoded[i].ids[shared : spans[i][1]] for i in members]
                prefix = self._prefix(encoded[members[0]].ids[:shared]) if shared else None
                starts = [spans[i][0] - shared for i in members]
                batches = plan([len(row) for row in rows], batch_size=batch_size, budget=self._budget(shared))
                for batch, found in run_batches(batches, partial(self._vectors, rows, starts, prefix)):
                    out[[members[i] for i in batch]] = found
                    self._check_finite(out, [members[i] for i in batch], prompts)
                    bar.update(len(batch))
        return out

    def _vectors(
        self, rows: list[list[int]], starts: list[int], prefix: _forward.Prefix | None, batch: list[int]
    ) -> np.ndarray:
        """Vectors of some rows of ids: the mean state from each row's start to its end."""
        padded = Batch.pad([rows[i] for i in batch], device=self._lm.device)
        if prefix is None:
            states = _forward.hidden(self._decoder, padded)
        else:
            states = _forward.hidden_behind(self._decoder, prefix, padded)
        return _pool(states, [(starts[i], len(rows[i])) for i in batch])

    def _span(self, prompt: Prompt, encoded: Encoded) -> tuple[int, int]:
        """(first, last + 1) token whose mean is the vector. Tokens behind the last are not computed at all."""
        read = self.card.read(prompt.kind)
        end = len(encoded.ids)
        if read == "prompt_end" or prompt.entity is None:
            return end - 1, end
        return (encoded.entity[1] - 1 if read == "entity_end" else encoded.entity[0]), encoded.entity[1]

    def _prefix(self, ids: list[int]) -> _forward.Prefix:
        return _forward.read_prefix(self._decoder, Batch.pad([ids], device=self._lm.device))

    # ------------------------------------------------------------------------------------------------- score

    def score(
        self,
        prompts: Sequence[str | Prompt],
        answers: Sequence[str],
        *,
        normalize: Literal["sum", "mean"] = "sum",
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Log-probability of each answer behind each prompt.

        Summed over the answer's tokens and the token that closes it (paper, equation 5), so that the probabilities of
        all possible answers of any length add up to one, and an answer that another one begins with (*Reactive*,
        *Reactive to both*) has a probability of its own. A prompt is computed once for all answers, and so is what
        prompts begin alike, and what answers do: hundreds of answers cost little more than their distinct beginnings.

        Parameters
        ----------
        prompts
            Texts, or prompts of templates.
        answers
            The same for every prompt, not empty.
        normalize
            ``"sum"`` is the log-probability. A long answer is a product of more factors, and so falls behind a short
            one that says the same; ``"mean"`` divides by the number of tokens (the closing one counts), which ranks by
            likelihood per token and is no longer the answer's probability.
        batch_size
            Prompts per forward pass; None chooses from the memory that is free.

        Returns
        -------
        (prompts, answers) float32, natural logarithm.

        Raises
        ------
        ValueError
            If there are no answers, one is empty, or two can't be told apart by their tokens; if ``batch_size`` is
            below 1, or the model makes NaN or infinity of a prompt.
        ~cellhermes.model.PromptLengthError
            If a prompt with its longest answer exceeds the model's context.

        Examples
        --------
        >>> import cellhermes as ch
        >>> model = ch.CellHermes.from_pretrained("mini")
        >>> model.score(["Is CD3E a T-cell gene?"], ["Yes", "No"]).shape
        (1, 2)
        """
        check_batch_size(batch_size)
        if normalize not in ("sum", "mean"):
            msg = f"normalize={normalize!r} is not known; expected 'sum' or 'mean'."
            raise ValueError(msg)
        tails = self._answers(answers)
        prompts, encoded = self._encode(prompts, extra=max(map(len, tails)))
        trie = Trie.of(tails)
        out = np.empty((len(prompts), len(answers)), np.float32)
        whole = [Encoded(one.ids + max(tails, key=len)) for one in encoded]
        with torch.inference_mode(), tqdm(total=len(prompts), desc="score", delay=2, leave=False) as bar:
            for members, n in _alike([one.ids for one in encoded], enabled=self._may_share(whole)):
                rows = [encoded[i].ids[n:] for i in members]
                shared = self._prefix(encoded[members[0]].ids[:n]) if n else None
                lengths = [len(row) + trie.ids.numel() for row in rows]
                budget = min(self._budget(n + max(lengths)), self._rows(n + max(lengths)) * max(lengths))
                batches = plan(lengths, batch_size=batch_size, budget=budget)
                for batch, found in run_batches(batches, partial(self._score, rows, shared, tails, trie)):
                    out[[members[i] for i in batch]] = found
                    self._check_finite(out, [members[i] for i in batch], prompts)
                    bar.update(len(batch))
        return out if normalize == "sum" else out / trie.lengths.astype(np.float32)

    def _answers(self, answers: Sequence[str]) -> list[list[int]]:
        """Ids of answers that can be told apart."""
        if isinstance(answers, str) or len(answers) == 0 or not all(answers):
            msg = f"score needs a list of answers with text, got {answers if isinstance(answers, str) else [*answers]}."
            raise ValueError(msg)
        tails = [self._encoder.answer(answer) for answer in answers]
        owner: dict[tuple[int, ...], str] = {}
        for answer, ids in zip(answers, map(tuple, tails), strict=True):
            if ids in owner:
                msg = (
                    f"The answers {owner[ids]!r} and {answer!r} are the same tokens for this model, which can't tell "
                    "them apart. Give one of them, or words that differ."
                )
                raise ValueError(msg)
            owner[ids] = answer
        if not self._encoder.end:
            for ids, answer in owner.items():
                if begun := [owner[ids[:t]] for t in range(1, len(ids)) if ids[:t] in owner]:
                    msg = (
                        f"The answer {answer!r} begins with the answer {begun[0]!r}, and the tokenizer has no end "
                        "token (eos_token) that would tell them apart. Give it one, or words that differ."
                    )
                    raise ValueError(msg)
        return tails

    def _score(
        self,
        rows: list[list[int]],
        shared: _forward.Prefix | None,
        answers: list[list[int]],
        trie: Trie,
        batch: list[int],
    ) -> np.ndarray:
        """(prompts, answers) of one batch: sums over the steps of each answer."""
        ids = [rows[i] for i in batch]
        padded = Batch.pad(ids, device=self._lm.device)
        if shared is not None:
            states = _forward.states_behind(self._decoder, _forward.read_behind(self._decoder, shared, padded), trie)
        elif self._may_share([Encoded(row + max(answers, key=len)) for row in ids]):
            states = _forward.states_behind(self._decoder, _forward.read_prefix(self._decoder, padded), trie)
        else:
            states = torch.stack([self._states_of_whole(row, answers, trie) for row in ids])
        steps = self._step_scores(states, trie)
        steps = torch.cat([steps, steps.new_zeros(len(ids), 1)], 1)  # what short paths are filled up with
        return steps[:, trie.paths].sum(-1).numpy()

    def _states_of_whole(self, prompt: list[int], answers: list[list[int]], trie: Trie) -> torch.Tensor:
        """(states, dim) of a trie from prompt and answers in full, where a layer forgets what is far away."""
        rows = [prompt + answer[:-1] for answer in answers]
        states = torch.empty(len(trie.example), self.dim, dtype=self._lm.dtype, device=self._lm.device)
        size = max(1, self._budget(0) // max(map(len, rows)))
        for start in range(0, len(rows), size):
            found = _forward.hidden(self._decoder, Batch.pad(rows[start : start + size], device=self._lm.device))
            mine = ((trie.example[:, 0] >= start) & (trie.example[:, 0] < start + size)).nonzero()[:, 0]
            answer, n_tokens = trie.example[mine].unbind(1)
            states[mine] = found[answer - start, len(prompt) - 1 + n_tokens]
        return states

    def _step_scores(self, states: torch.Tensor, trie: Trie) -> torch.Tensor:
        """(prompts, steps) log-probability of each step, with the logits of some states at a time."""
        n, n_states = states.shape[:2]
        size = max(1, MAX_LOGITS // (n * _forward.output_layer(self._lm).weight.shape[0]))
        found = torch.empty(n, len(trie.parent))
        for start in range(0, n_states, size):
            logits = _forward.logits(self._lm, states[:, start : start + size])
            first, last = torch.searchsorted(trie.parent, torch.tensor([start, start + size])).tolist()
            at = (trie.parent[first:last] - start).to(logits.device)
            token = trie.token[first:last].to(logits.device)
            found[:, first:last] = (logits[:, at, token] - logits.logsumexp(-1)[:, at]).cpu()
        return found

    # ------------------------------------------------------------------------------------------------- generate

    def generate(
        self,
        prompts: Sequence[str | Prompt],
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        batch_size: int | None = None,
        rng: int | np.random.Generator | None = None,
    ) -> list[str]:
        """Write an answer to each prompt.

        Parameters
        ----------
        prompts
            Texts, or prompts of templates.
        max_new_tokens
            An answer ends at the model's end token or here.
        temperature
            0 takes the likeliest token each time; above, tokens are drawn from the softmax of logits / temperature.
        batch_size
            Prompts per forward pass; None chooses from the memory that is free.
        rng
            Seed or generator of the draws. Each prompt has a stream of its own, so batches do not change its answer.

        Returns
        -------
        One text a prompt, without special tokens.

        Raises
        ------
        ValueError
            If ``temperature`` is negative or NaN, ``max_new_tokens`` or ``batch_size`` below 1, or the model makes NaN
            or infinity of a prompt.
        ~cellhermes.model.PromptLengthError
            If a prompt and ``max_new_tokens`` exceed the model's context.

        Examples
        --------
        >>> import cellhermes as ch
        >>> model = ch.CellHermes.from_pretrained("mini")
        >>> len(model.generate(["Gene CD3E"], max_new_tokens=4))
        1
        """
        check_batch_size(batch_size)
        if not 0 <= temperature < np.inf or not max_new_tokens >= 1:
            got = f"got {temperature} and {max_new_tokens}"
            msg = f"generate needs a finite temperature >= 0 and max_new_tokens >= 1, {got}."
            raise ValueError(msg)
        prompts, encoded = self._encode(prompts, extra=max_new_tokens)
        seeds = np.random.default_rng(rng).bit_generator.seed_seq.spawn(len(prompts))
        lengths = [len(one.ids) + max_new_tokens for one in encoded]
        out = [""] * len(prompts)
        with torch.inference_mode(), tqdm(total=len(prompts), desc="generate", delay=2, leave=False) as bar:
            batches = plan(lengths, batch_size=batch_size, budget=self._budget(0))
            write = partial(self._write, prompts, encoded, seeds, max_new_tokens, temperature)
            for batch, new in run_batches(batches, write):
                for i, ids in zip(batch, new, strict=True):
                    out[i] = self._encoder.decode(ids)
                bar.update(len(batch))
        return out

    def _write(
        self,
        prompts: list[Prompt],
        encoded: list[Encoded],
        seeds: list[np.random.SeedSequence],
        max_new_tokens: int,
        temperature: float,
        members: list[int],
    ) -> list[list[int]]:
        """New token ids of one batch."""
        streams = [np.random.default_rng(seeds[i]) for i in members]
        grow = _forward.grow if self._able.caches else _forward.grow_whole
        rows = grow(self._decoder, [encoded[i].ids for i in members], device=self._lm.device)
        states = next(rows)
        stop = self._encoder.stop
        new: list[list[int]] = [[] for _ in members]
        open_rows = set(range(len(members)))
        for step in range(max_new_tokens):
            logits = _forward.logits(self._lm, states)
            self._check_finite(logits.amax(-1).cpu().numpy(), range(len(members)), [prompts[i] for i in members])
            tokens = _draw(logits, temperature, streams)
            for row in sorted(open_rows):
                if tokens[row] in stop:
                    open_rows.discard(row)
                else:
                    new[row].append(tokens[row])
            if not open_rows or step == max_new_tokens - 1:
                break
            states = rows.send(tokens)
        return new

    # ------------------------------------------------------------------------------------------------- attend

    def attend(self, prompts: Sequence[str | Prompt], *, batch_size: int | None = None) -> list[GeneAttention]:
        """Attention of the last layer on each gene of a prompt, seen from the prompt's last token.

        Only the last layer's weights are made, a few rows at a time; no other layer keeps its own.

        Parameters
        ----------
        prompts
            Prompts of templates that list genes, such as ``cell``.
        batch_size
            Prompts per forward pass; None chooses from the memory that is free.

        Returns
        -------
        One :class:`~cellhermes.model.GeneAttention` a prompt.

        Raises
        ------
        ValueError
            If a prompt does not say where its genes stand, ``batch_size`` is below 1, or the model makes NaN or
            infinity of a prompt.
        ~cellhermes.model.PromptLengthError
            If a prompt is longer than the model's context.

        Examples
        --------
        >>> import cellhermes as ch
        >>> model = ch.CellHermes.from_pretrained("mini")
        >>> cell = ch.text.template("cell").fill(genes=["CD3E", "IL7R", "LTB"])
        >>> model.attend([cell])[0].genes
        ('CD3E', 'IL7R', 'LTB')
        """
        check_batch_size(batch_size)
        if not self._able.attends:
            msg = (
                f"{self.card.name!r} is a {type(self._lm).__name__}, whose attention in its last layer cannot be seen. "
                "tl.explain works with method='occlusion'."
            )
            raise ValueError(msg)
        prompts, encoded = self._encode(prompts, positions=True)
        for i, prompt in enumerate(prompts):
            if not prompt.spans:
                msg = f"Prompt {i} ({prompt.text[:40]!r}) lists no genes. Make it with ch.text.template('cell')."
                raise ValueError(msg)
        out: list[GeneAttention | None] = [None] * len(prompts)
        batches = plan([len(one.ids) for one in encoded], batch_size=batch_size, budget=self._budget(0))
        with torch.inference_mode(), tqdm(total=len(prompts), desc="attend", delay=2, leave=False) as bar:
            for batch, found in run_batches(batches, lambda batch: self._attend([encoded[i] for i in batch])):
                for i, one in zip(batch, found, strict=True):
                    out[i] = one
                    self._check_finite(np.hstack([one.weights.sum(), one.entropy])[None], [0], [prompts[i]])
                bar.update(len(batch))
        return out

    def _attend(self, encoded: list[Encoded]) -> list[GeneAttention]:
        batch = Batch.pad([one.ids for one in encoded], device=self._lm.device)
        genes = np.zeros(batch.ids.shape, np.float32)
        for row, one in zip(genes, encoded, strict=True):
            row[[i for at in one.genes.values() for i in at]] = 1
        genes = torch.from_numpy(genes).to(batch.ids.device)
        found = _forward.attention_of_last_layer(self._decoder, batch, genes).found
        return [
            GeneAttention(
                tuple(one.genes),
                per_gene(weights.cpu().numpy(), one.genes),
                entropy.cpu().numpy(),
                gene_entropy.cpu().numpy()
                if sum(map(len, one.genes.values())) > 1
                else np.full(len(entropy), np.nan, np.float32),
            )
            for one, (weights, entropy, gene_entropy) in zip(encoded, found, strict=True)
        ]

    # ------------------------------------------------------------------------------------------------- shared

    def check(
        self, prompts: Sequence[str | Prompt], *, answers: Sequence[str] | None = None, max_new_tokens: int = 0
    ) -> None:
        """Raise what the verbs would raise about prompts and answers, without computing anything.

        Parameters
        ----------
        prompts
            Texts, or prompts of templates.
        answers
            What :meth:`score` is going to be asked for.
        max_new_tokens
            What :meth:`generate` is going to be asked for.

        Raises
        ------
        ValueError
            If two answers can't be told apart by their tokens, or one is empty.
        ~cellhermes.model.PromptLengthError
            If a prompt, with what follows it, is longer than the model's context.

        Examples
        --------
        >>> import cellhermes as ch
        >>> ch.CellHermes.from_pretrained("mini").check(["Gene CD3E"], answers=["Yes", "No"])
        """
        tails = [] if answers is None else self._answers(answers)
        self._encode(prompts, extra=max([max_new_tokens, *map(len, tails)]))

    def _encode(
        self, prompts: Sequence[str | Prompt], *, extra: int = 0, positions: bool = False
    ) -> tuple[list[Prompt], list[Encoded]]:
        """Prompts and their ids, all of which fit into the context together with ``extra`` tokens."""
        if isinstance(prompts, str | Prompt):
            msg = f"Pass a list of prompts, got a single {type(prompts).__name__}."
            raise TypeError(msg)
        prompts = [p if isinstance(p, Prompt) else Prompt(p.strip()) for p in prompts]
        positions = positions or any(self.card.read(p.kind) != "prompt_end" for p in prompts)
        encoded = self._encoder.prompts(prompts, positions=positions)
        for i, one in enumerate(encoded):
            if len(one.ids) + extra > self.max_tokens:
                raise PromptLengthError(i, len(one.ids) + extra, self.max_tokens)
        return prompts, encoded

    def _check_finite(self, values: np.ndarray, rows: Sequence[int], prompts: Sequence[Prompt]) -> None:
        """Raise if a row that was computed holds what is no number."""
        for i in rows:
            if not np.isfinite(values[i]).all():
                msg = (
                    f"{self.card.name!r} makes numbers that are not finite (NaN or infinity) of the prompt "
                    f"{prompts[i].text[:60]!r}. Its weights are damaged, or too large for {self.dtype}: fetch or write "
                    "them again, or load them with dtype='float32'."
                )
                raise ValueError(msg)

    def _may_share(self, encoded: Sequence[Encoded]) -> bool:
        """Whether keys of a prefix are all visible: no layer forgets what is further away than its window."""
        longest = max((len(one.ids) for one in encoded), default=0)
        return self._able.shares and longest <= _forward.window(self._config)

    def _budget(self, n_shared: int) -> int:
        """Tokens per forward pass, from the memory that is free."""
        config, size = self._config, torch.empty((), dtype=self._lm.dtype).element_size()
        width = _forward.size(config, "intermediate_size", 4 * config.hidden_size)
        per_token = size * (12 * config.hidden_size + 3 * width) + 12 * n_shared * self.n_heads
        most = 2_048 if self.device == "cpu" else 131_072  # on a CPU larger batches leave its caches and are slower
        return int(max(1, min(most, _free_bytes(self._lm.device) // 4 // per_token)))

    def _rows(self, n_tokens: int) -> int:
        """Prompts whose keys and values of all layers are held at once, from the memory that is free."""
        config, size = self._config, torch.empty((), dtype=self._lm.dtype).element_size()
        width = _forward.size(config, "head_dim", config.hidden_size // self.n_heads)
        heads = _forward.size(config, "num_key_value_heads", self.n_heads)
        per_token = 2 * size * config.num_hidden_layers * heads * width
        return max(1, _free_bytes(self._lm.device) // 4 // (per_token * n_tokens))


def _shared(
    encoded: Sequence[Encoded], spans: Sequence[tuple[int, int]], *, enabled: bool
) -> list[tuple[list[int], int]]:
    """Groups of prompts with the length of the beginning they share, 0 for those better computed whole.

    Sharing pays when the beginning is at least as long as what follows it and occurs more than once.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    alone: list[int] = []
    for i, one in enumerate(encoded):
        n = min(one.n_shared, spans[i][0])
        if enabled and n and 2 * n >= len(one.ids):
            groups.setdefault(tuple(one.ids[:n]), []).append(i)
        else:
            alone.append(i)
    shared = [(members, len(ids)) for ids, members in groups.items() if len(members) > 1]
    alone += [members[0] for members in groups.values() if len(members) == 1]
    return [*([(sorted(alone), 0)] if alone else []), *shared]


def _alike(rows: Sequence[list[int]], *, enabled: bool) -> list[tuple[list[int], int]]:
    """Groups of rows of ids with the length of the beginning they share, 0 for those better computed whole.

    Unlike :func:`_shared`, beginnings are found and not told: rows of a task share its instruction, and often a cell.
    Something of each row is left behind them: the first row of a group gives its last token, and in sorted order no
    later row ends earlier without differing.
    """
    order = sorted(range(len(rows)), key=rows.__getitem__)
    groups: list[tuple[list[int], int]] = []
    for i in order if enabled else ():
        n = _n_common(rows[groups[-1][0][0]][: groups[-1][1]], rows[i]) if groups else 0
        if n and 2 * n >= max(len(rows[i]), groups[-1][1]):  # also not much less than the group shared before
            groups[-1][0].append(i)
            groups[-1] = (groups[-1][0], n)
        else:
            groups.append(([i], len(rows[i]) - 1))
    shared = [group for group in groups if len(group[0]) > 1]
    alone = sorted({*order}.difference(*(members for members, _ in shared)))
    return [*([(alone, 0)] if alone else []), *shared]


def _n_common(a: list[int], b: list[int]) -> int:
    """How many first ids are the same."""
    for n, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return n
    return min(len(a), len(b))


def _pool(states: torch.Tensor, spans: list[tuple[int, int]]) -> np.ndarray:
    """Mean state over each row's (first, last + 1) tokens, as float32."""
    if all(stop - start == 1 for start, stop in spans):
        rows = torch.arange(len(spans), device=states.device)
        return states[rows, torch.tensor([start for start, _ in spans], device=states.device)].float().cpu().numpy()
    return (
        torch.stack([row[start:stop].float().mean(0) for row, (start, stop) in zip(states, spans, strict=True)])
        .cpu()
        .numpy()
    )


def _draw(logits: torch.Tensor, temperature: float, streams: list[np.random.Generator]) -> list[int]:
    """One token a row. Draws invert the cumulated probabilities in float64, so that a row's stream alone decides."""
    if temperature == 0:
        return logits.argmax(-1).tolist()
    cumulated = (logits.double() / temperature).softmax(-1).cumsum(-1).cpu().numpy()
    return [
        int(min(np.searchsorted(row, s.random() * row[-1]), len(row) - 1))
        for row, s in zip(cumulated, streams, strict=True)
    ]


def _free_bytes(device: torch.device) -> int:
    """Memory that is free now; where the system does not say, 4 GB."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "cpu" and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 4 << 30
