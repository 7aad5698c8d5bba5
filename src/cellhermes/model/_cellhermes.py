"""The class that sees tensors: a causal language model with four verbs. It knows neither cells nor tasks."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..text import Prompt, Wrap
from . import _attend, _embed, _generate, _identity, _score, _selfcheck
from ._attend import GeneAttention
from ._reader import Reader
from ._tokens import Encoder, check_vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ._card import ModelCard
    from ._quantize import Quantize
    from ._read_at import ReadAt


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
        check_vocabulary(lm, tokenizer, card.name)
        self.card, self.quantize, self._sha256 = card, quantize, sha256
        self._encoder = Encoder(tokenizer, card.wrap, system=card.system)
        able = _selfcheck.abilities_of(lm.eval(), self._encoder, card.name, quantize, sha256)
        self._reader = Reader(lm, self._encoder, card, able)

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
            First an entry of :func:`~cellhermes.cache.list` (``"mini"`` ships with the package), then a folder
            of a model or of a LoRA adapter (whose base is followed) or a GGUF file, then a hub id of a Llama-, Qwen-,
            Gemma- or Mistral-like causal model.
        device
            ``"cpu"``, ``"cuda"``, ``"mps"``, ...; None takes the accelerator that is there.
        dtype
            ``"float32"``, ``"bfloat16"`` or ``"float16"``; None takes float32 on CPU and MPS, the card's on CUDA.
        wrap
            What stands around a prompt: ``"chat"`` (the tokenizer's own chat template: one user turn, and the start of
            the answer), a name of :meth:`cellhermes.text.Wrap.names`, or a :class:`~cellhermes.text.Wrap`. None takes
            the card's, and for models without a card ``"chat"`` where there is a template, else ``"plain"``.
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

        how = {"dtype": dtype, "read_at": read_at, "quantize": quantize, "torch_compile": torch_compile}
        card, lm, tokenizer, sha256 = load(name, device=device, wrap=wrap, system=system, **how)
        return cls(lm, tokenizer, card, quantize=quantize, sha256=sha256)

    @property
    def device(self) -> str:
        """Say where the weights are."""
        return str(self._reader.device)

    @property
    def dtype(self) -> str:
        """Name the type of the weights; vectors are always returned as float32."""
        return self._reader.dtype

    @cached_property
    def sha256(self) -> str:
        """Hash all weights, tokenizer and config of the base, then of each adapter, when it was loaded.

        The same for a copy under another name, another one as soon as a byte of these files changes. Results store it
        as ``model_sha256``. What decides besides (``wrap``, ``card.read_at``, ``dtype``, ``quantize``) is not in it.
        """
        return self._sha256 or _identity.sha256_of_weights(self._reader.lm, self._encoder.fingerprint())

    @cached_property
    def unseen_genes(self) -> frozenset[str]:
        """List symbols without meaning, as they occur in none of the training data; empty if the model lists none."""
        from ._card import unseen_genes

        return unseen_genes(self.card)

    @property
    def dim(self) -> int:
        """Give the width of a vector."""
        return self._reader.dim

    @property
    def n_heads(self) -> int:
        """Count the attention heads of a layer."""
        return self._reader.n_heads

    @property
    def max_tokens(self) -> int:
        """Give the longest prompt in tokens, turn markers and answer included."""
        return self._reader.max_tokens

    @property
    def wrap(self) -> str:
        """Name the text around prompts, such as ``"chat"`` or one of :meth:`cellhermes.text.Wrap.names`."""
        return self._encoder.wrap.name

    @property
    def around(self) -> Wrap:
        """Give the text around prompts and answers itself."""
        return self._encoder.wrap

    def embed(self, prompts: Sequence[str | Prompt], *, batch_size: int | None = None) -> np.ndarray:
        """Embed texts: genes, cells, genes in cells, pathways, perturbations, interactions, or anything with a name.

        The vector is the last layer's state after the final norm, at the token that the model's card names. Templates
        for the usual entities are data (:meth:`cellhermes.text.Template.names`):

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
        >>> pathway = ch.text.Template.load("pathway")
        >>> vectors = model.embed([pathway.fill(pathway=name) for name in ("apoptosis", "glycolysis")])
        >>> vectors.shape[0], vectors.dtype
        (2, dtype('float32'))
        """
        return _embed.embed(self._reader, prompts, batch_size)

    def score(
        self,
        prompts: Sequence[str | Prompt],
        answers: Sequence[str],
        *,
        normalize: Literal["sum", "mean"] = "sum",
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Score each answer behind each prompt by its log-probability.

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
        return _score.score(self._reader, prompts, answers, normalize, batch_size)

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
        return _generate.generate(self._reader, prompts, max_new_tokens, temperature, batch_size, rng)

    def attend(self, prompts: Sequence[str | Prompt], *, batch_size: int | None = None) -> list[GeneAttention]:
        """Look at the last layer's attention on each gene of a prompt, seen from the prompt's last token.

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
        >>> cell = ch.text.Template.load("cell").fill(genes=["CD3E", "IL7R", "LTB"])
        >>> model.attend([cell])[0].genes
        ('CD3E', 'IL7R', 'LTB')
        """
        return _attend.attend(self._reader, prompts, batch_size)

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
        tails = [] if answers is None else _score.answer_ids(self._encoder, answers)
        self._reader.encode(prompts, extra=max([max_new_tokens, *map(len, tails)]))
