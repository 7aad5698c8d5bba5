"""LoRA adapters: whether one fits a model, told from names and sizes before any weight is touched, and merging it."""

import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from transformers.pytorch_utils import Conv1D

from ._card import ADAPTER, read_json

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

# Options of an adapter that say how it was trained, or that are merged; any other may change what it computes.
MERGED = {
    "task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "r", "target_modules", "exclude_modules", "target_parameters", "lora_alpha", "lora_dropout", "fan_in_fan_out",
    "bias", "lora_bias", "use_rslora", "use_dora", "modules_to_save", "init_lora_weights", "layers_to_transform",
    "layers_pattern", "rank_pattern", "alpha_pattern", "megatron_core", "loftq_config", "eva_config",
    "qalora_group_size", "runtime_config", "ensure_weight_tying",
}  # fmt: skip
BESIDE = (True, False, None, "gaussian", "eva", "loftq", "orthogonal")  # beginnings that leave the base as it is
UNKNOWABLE = (
    "pissa_niter_",
    "corda",
    "lora_ga",
)  # beginnings that take from the base what is random, or not in the file
PREFIX = "base_model.model."  # of every name in an adapter's file


def merge(lm: "PreTrainedModel", adapters: Sequence[str | Path], dtype: torch.dtype) -> "PreTrainedModel":
    """Add LoRA adapters to the weights in their order (equation 6: W + B A alpha / rank), and cast the sum.

    The sum is one in float32 whatever the weights were. Updates of plain LoRA are added to one layer after another, so
    that the others need not be in float32 at the same time. Where an adapter is not a sum (DoRA scales by the norm of
    the weights below, ``modules_to_save`` replaces whole layers, PiSSA and OLoRA take their start out of the weights,
    experts are adapted by peft's own layers), adapters are merged one after another, into weights in float32.
    """
    if all(map(is_sum, adapters)):
        lm = _add(lm, adapters, dtype)
    else:
        for adapter in adapters:
            lm = _merge_one(lm, adapter)
    # Not lm.to(dtype), which would also round what a model keeps in float32, such as the frequencies of its positions.
    for weight in lm.parameters():
        weight.data = weight.data.to(dtype)
    return lm


def is_sum(adapter: str | Path) -> bool:
    """Tell whether an adapter only adds products to the weights of linear layers."""
    config, names = _config(Path(adapter)), _shapes(Path(adapter))
    changes_base = config.get("init_lora_weights") not in BESIDE  # PiSSA and OLoRA take their start from it
    is_other = config.get("use_dora") or config.get("target_parameters") or changes_base
    return not is_other and all(
        name.endswith((".lora_A.weight", ".lora_B.weight")) and ".base_layer." not in name for name in names
    )


def _add(lm: "PreTrainedModel", adapters: Sequence[str | Path], dtype: torch.dtype) -> "PreTrainedModel":
    """Add plain LoRA, layer by layer."""
    from peft.tuners.lora import LoraLayer

    tuned = None
    for adapter in adapters:
        tuned = _attach(lm, adapter, tuned)
    for layer in tuned.modules():
        if isinstance(layer, LoraLayer):
            weight = layer.get_base_layer().weight
            total = weight.data.float()
            for name in layer.lora_A:
                total = total + layer.get_delta_weight(name).float()
                if not total.isfinite().all():
                    adapter = adapters[[*tuned.peft_config].index(name)]
                    msg = f"Adapter {str(adapter)!r} cannot be merged, its weights are not finite numbers."
                    raise ValueError(msg)
            weight.data = total.to(dtype)
    return tuned.unload()


def _merge_one(lm: "PreTrainedModel", adapter: str | Path) -> "PreTrainedModel":
    """Merge any LoRA adapter, in the numbers of the weights."""
    try:
        return _attach(lm, adapter).merge_and_unload(safe_merge=True)
    except (RuntimeError, ValueError) as error:
        if str(adapter) in str(error):
            raise
        why = "its weights are not finite numbers: " if "NaN" in str(error) else ""
        msg = f"Adapter {str(adapter)!r} cannot be merged, {why}{error}"
        raise ValueError(msg) from error


def _attach(lm: "PreTrainedModel", adapter: str | Path, tuned: "PeftModel | None" = None) -> "PeftModel":
    """Put an adapter beside the weights, and beside those of ``tuned``."""
    from peft import PeftModel

    check(lm, adapter)
    devices = [lm.device] if lm.device.type == "cuda" else []
    name = f"adapter_{len(tuned.peft_config) if tuned else 0}"  # a bare number would be a layer's for peft
    with torch.random.fork_rng(devices), warnings.catch_warnings():  # peft draws start values before it reads the file
        warnings.filterwarnings("ignore", "Found missing adapter keys", UserWarning)  # an error below
        warnings.filterwarnings(
            "ignore", "The following (rank|alpha)_pattern keys", RuntimeWarning
        )  # its own, for experts
        try:
            if tuned is None:
                tuned = PeftModel.from_pretrained(lm, adapter, name, torch_device=str(lm.device))
            else:
                tuned.load_adapter(adapter, name, torch_device=str(lm.device))
        except (KeyError, RuntimeError, ValueError) as error:
            msg = f"Adapter {str(adapter)!r} does not fit {lm.name_or_path!r}: {error}"
            raise ValueError(msg) from error
    _check_tensors(tuned, adapter, name)
    return tuned


def check(lm: "PreTrainedModel", adapter: str | Path) -> None:
    """Compare an adapter's tensors with the modules of a model, which may be without weights (device ``meta``).

    Raises
    ------
    ImportError
        If peft is missing, which adds it.
    ValueError
        If it is no LoRA adapter, or belongs to another model; the message has both and the first difference.
    """
    if find_spec("peft") is None:
        msg = "LoRA adapters need peft: pip install 'cellhermes[train]'."
        raise ImportError(msg)
    config, shapes = _config(Path(adapter)), _shapes(Path(adapter))
    tied = bool(getattr(lm.config.get_text_config(), "tie_word_embeddings", False))
    for name, shape in shapes.items():
        part, _, kind = name.removeprefix(PREFIX).partition(".lora_")
        problem = _lora_problem(lm, part, kind, shape) if kind else _weight_problem(lm, part, shape)
        if not problem and tied and part.removesuffix(".weight").endswith(("embed_tokens", "lm_head")):
            problem = (
                f"it changes {part}, which this model shares between its first and its last layer, so that a merged "
                "model would change both"
            )
        if problem:
            msg = (
                f"Adapter {str(adapter)!r} does not fit {lm.name_or_path!r}: {problem}. "
                f"It was trained on base {config.get('base_model_name_or_path')!r}."
            )
            raise ValueError(msg)


def _config(adapter: Path) -> dict[str, object]:
    path = adapter / ADAPTER
    if not path.is_file():
        msg = f"{adapter} has no adapter_config.json, so it is no folder of an adapter."
        raise ValueError(msg)
    config = read_json(path)
    if config.get("peft_type") != "LORA":
        msg = f"{path}: peft_type is {config.get('peft_type')!r}; only 'LORA' can be merged into the weights."
        raise ValueError(msg)
    if unknown := sorted(key for key, value in config.items() if value and key not in MERGED):
        msg = f"{path}: an adapter with {', '.join(unknown)} is more than weights that can be merged into a model's."
        raise ValueError(msg)
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(UNKNOWABLE):
        msg = (
            f"{path}: init_lora_weights is {start!r}, whose start was taken out of the base and cannot be computed "
            "again. Save the adapter as plain LoRA: save_pretrained of peft with "
            "path_initial_model_for_weight_conversion, where it was trained."
        )
        raise ValueError(msg)
    return config


def _shapes(adapter: Path) -> dict[str, tuple[int, ...]]:
    """Read the shape of each tensor from the head of the file."""
    path = adapter / "adapter_model.safetensors"
    if not path.is_file():
        msg = f"{adapter} has no adapter_model.safetensors; other formats can run code on loading and are not read."
        raise ValueError(msg)
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        msg = f"{path} is damaged ({error}). Fetch or write it again."
        raise ValueError(msg) from error
    if not shapes:
        msg = f"{path} holds no weights. Fetch or write it again."
        raise ValueError(msg)
    return shapes


def _lora_problem(lm: "PreTrainedModel", part: str, kind: str, shape: tuple[int, ...]) -> str:
    """Say what is wrong with ``lora_<kind>`` of a layer: A is (rank, in), B is (out, rank)."""
    layer = _get(lm.get_submodule, part.replace(".base_layer", ""))  # peft puts one around another for each parameter
    sizes = [] if layer is None else _sizes(layer)
    if not sizes:
        return f"its layer {part} is not there"
    problems = [_size_problem(part, kind, shape, *size) for size in sizes]
    return "" if "" in problems else problems[0]


def _size_problem(part: str, kind: str, shape: tuple[int, ...], n_in: int, n_out: int) -> str:
    checks = {
        "A.weight": (1, n_in, "inputs"),
        "embedding_A": (1, n_in, "inputs"),
        "B.weight": (0, n_out, "outputs"),
        "embedding_B": (0, n_out, "outputs"),
        "B.bias": (0, n_out, "outputs"),
        "magnitude_vector": (-1, n_out, "outputs"),
    }
    if kind not in checks:
        return f"its {part} has a lora_{kind}, which is not known; expected one of {sorted(checks)}"
    axis, expected, what = checks[kind]
    return "" if shape[axis] == expected else f"its {part} has {shape[axis]} {what}, expected {expected}"


def _weight_problem(lm: "PreTrainedModel", part: str, shape: tuple[int, ...]) -> str:
    """Say what is wrong with a tensor that takes the place of one of the model's (``modules_to_save``)."""
    weight = _get(lm.get_parameter, part.replace(".base_layer", ""))
    if weight is None:
        return f"its weight {part} is not there"
    return "" if shape == tuple(weight.shape) else f"its {part} is {shape}, expected {tuple(weight.shape)}"


def _get(find: Callable[[str], torch.nn.Module | torch.nn.Parameter], name: str) -> object | None:
    try:
        return find(name)
    except AttributeError:
        return None


def _sizes(layer: torch.nn.Module) -> list[tuple[int, int]]:
    """Give (inputs, outputs), of each weight where a layer holds several, as experts do."""
    if hasattr(layer, "in_features"):  # the weight of a layer in four bits does not show them
        return [(layer.in_features, layer.out_features)]
    if isinstance(layer, torch.nn.Embedding | Conv1D):  # kept as (in, out)
        return [tuple(layer.weight.shape)]
    weights = [weight.shape for _, weight in layer.named_parameters(recurse=False) if weight.ndim > 1]
    return [size for *_, a, b in weights for size in ((b, a), (a, b))]  # either way round


def _check_tensors(tuned: "PeftModel", adapter: str | Path, adapter_name: str) -> None:
    """Compare the tensors that the config asks for with those of the file; peft draws what it does not find.

    The file may hold embeddings of the base besides.
    """
    from peft import get_peft_model_state_dict

    wanted = get_peft_model_state_dict(tuned, adapter_name=adapter_name, save_embedding_layers=False)
    asked, held = ({name.removesuffix(".weight") for name in names} for names in (wanted, _shapes(Path(adapter))))
    if different := sorted((asked - held) | {name for name in held - asked if ".lora_" in name}):
        whose = "the file lacks" if different[0] in asked else "the config does not ask for"
        msg = (
            f"Adapter {str(adapter)!r} contradicts itself: adapter_config.json and adapter_model.safetensors differ in "
            f"{len(different)} tensors; {whose} {different[0].removeprefix(PREFIX)}. Fetch it again."
        )
        raise ValueError(msg)
