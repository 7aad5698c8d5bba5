"""The command line: thin, on the public functions only. Errors end with a message and an exit code."""

import functools
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Language models on AnnData: embed genes and cells.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False,
)  # fmt: skip


def _friendly(command: Callable[..., None]) -> Callable[..., None]:
    """Log to the terminal, and turn what a user can mend into one line and an exit code."""

    @functools.wraps(command)
    def run(**options: object) -> None:
        logger = logging.getLogger("cellhermes")
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            command(**options)
        except (ImportError, KeyError, MemoryError, OSError, TypeError, ValueError) as error:
            text = error.args[0] if isinstance(error, KeyError) and error.args else error
            typer.secho("\n".join(["Error: " + str(text), *getattr(error, "__notes__", [])]), fg="red", err=True)
            raise typer.Exit(1) from None
        finally:
            logger.removeHandler(handler)

    return run


@app.command()
@_friendly
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the picture and the annotated data.")] = Path("cellhermes-demo"),
) -> None:
    """Embed 700 blood cells and their genes with the bundled model, without a network."""
    import matplotlib.pyplot as plt
    import scanpy as sc

    import cellhermes as ch

    out.mkdir(parents=True, exist_ok=True)
    adata = sc.datasets.pbmc68k_reduced()
    labels = adata.obs["bulk_labels"]
    ch.pp.cell_sentences(adata, use_raw=True)
    model = ch.CellHermes.from_pretrained("mini")
    ch.tl.embed_cells(adata, model)
    ch.tl.embed_genes(adata, model)
    sc.pp.neighbors(adata, use_rep="X_cellhermes", metric="cosine")
    sc.tl.umap(adata)
    axes = sc.pl.umap(adata, color="bulk_labels", title="cells embedded by mini", frameon=False, show=False)
    axes.figure.savefig(out / "umap.png", dpi=150, bbox_inches="tight")
    plt.close(axes.figure)
    adata.write_h5ad(out / "pbmc.h5ad")
    accuracy = {key: ch.metrics.knn_accuracy(adata.obsm[key], labels) for key in ("X_cellhermes", "X_pca")}
    example = ch.get.prompts(adata, names=[adata.obs_names[0]])["prompt"].iloc[0]
    typer.echo(f"\nWhat the model reads for cell {adata.obs_names[0]}:\n{example[:200]}...\n")
    typer.echo(
        f"{adata.n_obs} cells and {int(adata.var['sentence_gene'].sum())} genes embedded, {model.dim} dimensions each."
    )
    typer.echo("Cell-type accuracy of 15 nearest neighbours, five folds, 10 types:")
    typer.echo(f"  mini, cell sentences       {accuracy['X_cellhermes']:.3f}   (never trained on these cells)")
    typer.echo(f"  PCA of expression          {accuracy['X_pca']:.3f}   (computed on these cells)")
    typer.echo(f"Picture: {out / 'umap.png'}\nData:    {out / 'pbmc.h5ad'}")


@app.command()
@_friendly
def embed(
    source: Annotated[Path, typer.Argument(metavar="IN.h5ad", help="Annotated data to read.")],
    target: Annotated[
        Path, typer.Argument(metavar="OUT.h5ad", help="Annotated data to write, with obsm['X_cellhermes'].")
    ],
    model: Annotated[str, typer.Option(help="Name, folder or hub id; see `cellhermes models`.")] = "mini",
    layer: Annotated[str | None, typer.Option(help="Layer with the expression; default X.")] = None,
    gene_symbols: Annotated[
        str | None, typer.Option(help="Column of var with gene symbols; default its index.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Prompts per forward pass; default from free memory.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,  # noqa: FBT002
) -> None:
    """Write sentences and language-model vectors of all cells of an h5ad file."""
    import anndata as ad

    import cellhermes as ch

    if not source.is_file():
        msg = f"{source} is not a file."
        raise FileNotFoundError(msg)
    if target.resolve() == source.resolve():
        msg = "OUT.h5ad is IN.h5ad; pass another path, the input is left as it is."
        raise ValueError(msg)
    if not target.parent.is_dir():
        msg = f"The folder {target.parent} of OUT.h5ad does not exist."
        raise FileNotFoundError(msg)
    parts = target.with_name(target.name + ".parts")
    if parts.exists() and not resume:
        shutil.rmtree(parts)
    adata = ad.read_h5ad(source)
    ch.pp.cell_sentences(adata, layer=layer, gene_symbols=gene_symbols)
    ch.tl.embed_cells(adata, model, batch_size=batch_size, checkpoint=parts)
    unfinished = target.with_name(target.name + ".unfinished")
    adata.write_h5ad(unfinished)
    unfinished.replace(target)
    shutil.rmtree(parts)
    typer.echo(f"{adata.n_obs} cells embedded: {target}")


@app.command()
@_friendly
def models() -> None:
    """List the models that are known by name."""
    import cellhermes as ch

    for name, row in ch.model.list_models().iterrows():
        typer.secho(str(name), bold=True, nl=False)
        typer.echo("   (bundled, the default)" if row["bundled"] else "")
        typer.echo(f"  {row['description']}")
        typer.echo(f"  base: {row['base']}" + (f"; adapters: {row['adapters']}" if row["adapters"] else ""))
        typer.echo(f"  licence: {row['license']}")


if __name__ == "__main__":
    app()
