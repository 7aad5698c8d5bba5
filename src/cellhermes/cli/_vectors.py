"""``cellhermes sentences`` and ``cellhermes embed``."""

from pathlib import Path
from typing import Annotated

import typer

from .._adata import opened
from . import _cells
from ._arguments import Dtype, GeneSymbols, Layer, Mod, Model, NOrders, Quantize, Shard, Species, UseRaw


def sentences(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Cells to read in blocks: .h5ad, .h5mu or .zarr.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.zarr", help="Store to write.")],
    n_genes: Annotated[int, typer.Option(min=1, help="Genes of a sentence, at most.")] = 100,
    n_orders: NOrders = 1,
    layer: Layer = None,
    gene_symbols: GeneSymbols = None,
    species: Species = None,
    use_raw: UseRaw = False,  # noqa: FBT002
    mod: Mod = None,
    shard: Shard = None,
) -> None:
    """Write the sentences of all cells of a file that need not fit into memory; goes on after an interruption."""
    import cellhermes as ch

    with _cells.sharded(shard):
        expression = {"layer": layer, "gene_symbols": gene_symbols, "species": species, "use_raw": use_raw, "mod": mod}
        data = opened(source, target)
        made_of = _cells.mapped(data, expression)
        ch.pp.cell_sentences(data, n_genes=n_genes, n_orders=n_orders, **made_of, out=target)
    _cells.say_state(target)


def embed(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Annotated data to read: .h5ad or .h5mu; or .zarr, where OUT is one.")
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help=".h5ad, .h5mu: the same with obsm['X_cellhermes']; .zarr: vectors in blocks."
        ),
    ],
    model: Model = "mini",
    dtype: Dtype = None,
    quantize: Quantize = "",
    n_orders: NOrders = 1,
    layer: Layer = None,
    gene_symbols: GeneSymbols = None,
    species: Species = None,
    use_raw: UseRaw = False,  # noqa: FBT002
    mod: Mod = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Prompts per forward pass; default from free memory.")
    ] = None,
    shard: Shard = None,
) -> None:
    """Write language-model vectors of all cells, and their sentences where they are missing.

    With OUT.zarr, nothing is read at once, and an interrupted call goes on: sentences stand in IN, or are written to
    OUT.sentences.zarr beside it.
    """
    import cellhermes as ch

    expression = {"layer": layer, "gene_symbols": gene_symbols, "species": species, "use_raw": use_raw, "mod": mod}
    expression["n_orders"] = n_orders
    lm = _cells.loaded(model, dtype, quantize)
    if target.suffix == ".zarr":
        with _cells.sharded(shard):
            source, mod = _cells.with_sentences(source, target, expression)
            ch.tl.embed_cells(source, lm, batch_size=batch_size, mod=mod, out=target)
        _cells.say_state(target)
        return
    _cells.check_no_shard(shard)
    with _cells.kept(source, target) as blocks:
        data, adata = _cells.read_cells(source, target, mod)
        _cells.add_sentences(data, expression)
        with _cells.computed(adata, "X_cellhermes", ["obsm/X_cellhermes"], blocks) as store:
            ch.tl.embed_cells(data, lm, batch_size=batch_size, mod=mod, out=store)
        _cells.finish(_cells.writer(data), target, blocks)
    typer.echo(f"{adata.n_obs} cells embedded: {target}")
