"""Options that several commands have."""

from typing import Annotated

import typer

Model = Annotated[str, typer.Option(help="Name, folder or hub id; see `cellhermes cache`.")]
Task = Annotated[str, typer.Option(help="Name of a task (see `cellhermes tasks`), or a TOML file.")]
Answer = Annotated[
    list[str] | None, typer.Option(help="An answer to choose from, in place of the task's; repeat for each.")
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Questions per forward pass; default from free memory.")]
Shard = Annotated[
    str | None, typer.Option(help="k/n, such as 0/4: do every n-th block, where n processes write one OUT.zarr.")
]
Layer = Annotated[str | None, typer.Option(help="Layer with the expression; default X.")]
GeneSymbols = Annotated[str | None, typer.Option(help="Column of var with gene names; default its index.")]
Species = Annotated[
    str | None, typer.Option(help="Whose genes they are, mouse say; writes their human symbols, as pp.map_genes does.")
]
UseRaw = Annotated[bool, typer.Option("--use-raw", help="Expression and genes of raw.")]
NOrders = Annotated[int, typer.Option(min=1, help="Write each cell in so many orders of tied genes, to be averaged.")]
Mod = Annotated[str | None, typer.Option(help="Modality of an h5mu file.")]
Dtype = Annotated[
    str | None, typer.Option(help="'float32', 'bfloat16' or 'float16'; default float32 on a CPU, else the model's.")
]
Quantize = Annotated[str, typer.Option(help="'8bit' or '4bit': hold the model's layers in so many bits.")]
