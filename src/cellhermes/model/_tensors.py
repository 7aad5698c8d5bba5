"""Whether the tensors of the files are those of the model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_tensors(lm: "PreTrainedModel", base: str, loading: Mapping[str, set]) -> None:
    """Compare the tensors of the files with those of the model; transformers draws at random what it does not find.

    Tensors of parts that no causal language model has (towers for images, heads that judge) may be there too. A model
    without output layer can embed, and is left without one.
    """
    missing = set(loading["missing_keys"])
    head = {f"{name}.{part}" for name, module in lm.named_modules() if module is lm.get_output_embeddings()
            for part, _ in module.named_parameters()}  # fmt: skip
    if head and head <= missing:
        lm.set_output_embeddings(None)
        missing -= head
    extra = {name for name in loading["unexpected_keys"] if name.startswith(_inside(lm))}
    mismatched = {f"{name} {tuple(held)} for {tuple(wanted)}" for name, held, wanted in loading["mismatched_keys"]}
    kinds = {"missing": missing, "of no layer": extra, "of another shape": mismatched}
    problems = [
        f"{len(names)} are {kind} ({', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in kinds.items()
        if names
    ]
    if problems:
        msg = (
            f"The tensors of {base!r} are not those of the {type(lm).__name__} that its config.json describes: "
            f"{'; '.join(problems)}. Fetch or write it again, config and weights together."
        )
        raise ValueError(msg)


def _inside(lm: "PreTrainedModel") -> tuple[str, ...]:
    """Find what the names of tensors of the decoder and of the output layer begin with."""
    parts = {*lm.get_decoder().children(), lm.get_output_embeddings()}
    return tuple(f"{name}." for name, module in lm.named_modules() if name and module in parts)
