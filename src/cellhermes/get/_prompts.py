"""What the model reads, word by word."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import pandas as pd

from .. import _adata
from .._keys import CONTEXTS, EMBEDDING, SENTENCE, modality_of, read_params
from .._vectors import asked_vector, made_with, vectors_of
from ..text import Template, Wrap
from ..text._template import in_words

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def prompts(
    data: "AnnData | MuData",
    *,
    of: Literal["cells", "genes"] = "cells",
    names: Sequence[str] | None = None,
    group: str | None = None,
    wrap: str | Wrap | None = None,
    sentence_key: str = SENTENCE,
    key: str = EMBEDDING,
    mod: str | None = None,
) -> pd.DataFrame:
    r"""Show exactly what the model reads for cells or genes, turn markers included.

    Parameters
    ----------
    data
        Annotated data with cell sentences; for genes of a ``group``, with :func:`cellhermes.tl.embed_genes` done.
    of
        ``"cells"`` or ``"genes"``.
    names
        Names of cells, or symbols of genes; None takes all cells, or for genes the ones with a vector.
    group
        Genes as seen in the contexts of this group.
    wrap
        A name of :meth:`cellhermes.text.Wrap.names`, or a wrap such as ``model.around``, which may be a chat
        template's; None takes the one that the vectors under ``key`` were made with.
    sentence_key
        Column of ``obs`` with the sentences.
    key
        Entry of ``obsm`` or ``varm`` with the vectors.
    mod
        Modality of a MuData.

    Returns
    -------
    One row a prompt: ``name`` (cell or gene), ``context`` (cell that stands for the group, ``""`` without one),
    ``prompt``. A start token whose spelling only the tokenizer knows (``wrap="plain"``) is not shown. Cells without a
    sentence are left out.

    Raises
    ------
    KeyError
        If sentences, vectors, cells, or the group are not there.
    ValueError
        If it is not known how the model reads; pass ``wrap=``.

    Examples
    --------
    >>> import cellhermes as ch
    >>> adata = ch.datasets.toy(n_obs=20)
    >>> ch.pp.cell_sentences(adata, n_genes=3)
    >>> print(ch.get.prompts(adata, wrap="llama3-chat")["prompt"].iloc[0])  # doctest: +ELLIPSIS
    <|begin_of_text|><|start_header_id|>user<|end_header_id|>
    <BLANKLINE>
    A cell with genes ranked by expression: ...<|eot_id|><|start_header_id|>assistant<|end_header_id|>
    <BLANKLINE>
    <BLANKLINE>
    """
    adata = _adata.resolve(data, mod)
    if of not in ("cells", "genes"):
        msg = f"of={of!r} is not known; expected 'cells' or 'genes'."
        raise ValueError(msg)
    label = asked_vector(adata, group, key)
    around = _stored_wrap(adata, key, of, label) if wrap is None else Wrap.load(wrap)
    rows = _cells(adata, names, sentence_key) if of == "cells" else _genes(adata, names, label, key)
    frame = pd.DataFrame(rows, columns=["name", "context", "prompt"])
    frame["prompt"] = [around.render(text) for text in frame["prompt"]]
    return frame


def _stored_wrap(adata: "AnnData", key: str, of: str, label: str) -> Wrap:
    params = read_params(adata, key) if of == "cells" else made_with(adata, label, key)
    if "wrap_parts" not in params:
        msg = (
            f"`adata.uns[{key!r}]` does not say how a model read the {of}. "
            f"Run `ch.tl.embed_{of}(adata)` first, or pass wrap=."
        )
        raise ValueError(msg)
    return Wrap(**json.loads(params["wrap_parts"]))


def _cells(adata: "AnnData", names: Sequence[str] | None, sentence_key: str) -> list[tuple[str, str, str]]:
    column = _adata.require_obs(
        adata, sentence_key, "Run `ch.pp.cell_sentences(adata)` first, or pass `sentence_key=`."
    )
    if names is not None:
        if missing := [name for name in names if name not in column.index]:
            msg = f"{len(missing)} cells are not in the data, such as {missing[0]!r}."
            raise KeyError(msg)
        column = column.loc[list(names)]
    fill = Template.load(in_words("cell", modality_of(adata, sentence_key))).fill
    return [(name, "", fill(genes=s.split(" ")).text) for name, s in column.items() if isinstance(s, str) and s]


def _genes(adata: "AnnData", names: Sequence[str] | None, label: str, key: str) -> list[tuple[str, str, str]]:
    names = vectors_of(adata, label, key).genes if names is None else names
    fill = Template.load(made_with(adata, label, key).get("template", "gene_in_cell" if label else "gene")).fill
    if not label:
        return [(name, "", fill(gene=name).text) for name in names]
    contexts = adata.uns[key][CONTEXTS]
    contexts = contexts[contexts["label"] == label]
    return [
        (name, cell, fill(genes=sentence.split(" "), gene=name).text)
        for cell, sentence in zip(contexts["cell"], contexts["sentence"], strict=True)
        for name in names
    ]
