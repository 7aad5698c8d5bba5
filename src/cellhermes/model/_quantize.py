"""Linear layers in eight or four bits, for models whose weights do not fit otherwise.

Only weights are rounded, each row (or block of a row) by itself: vectors depend neither on the batch nor on its order.
Four bits are those of bitsandbytes. Its eight bits also round the inputs, by what else is in the batch; and once
torchao is installed, transformers and peft import it, so that its version has to fit both. So eight bits are
ours.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch.nn.functional import linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Quantize = Literal["", "8bit", "4bit"]
BLOCK = 64  # weights that share a scale in four bits; on a CPU, products with rows that it does not divide are wrong


def check(quantize: str, device: str) -> None:
    """Raise before weights are read if they can't be rounded.

    Raises
    ------
    ValueError
        If the number format is not known, or the device has no kernels for it.
    ImportError
        If its library is not installed.
    """
    if quantize not in get_args(Quantize):
        msg = f"quantize={quantize!r} is not known; expected one of {get_args(Quantize)}."
        raise ValueError(msg)
    if quantize != "4bit":
        return
    if not device.startswith(("cpu", "cuda")):
        msg = f"quantize='4bit' works on 'cpu' and 'cuda', the device is {device!r}. Take quantize='8bit' there."
        raise ValueError(msg)
    if find_spec("bitsandbytes") is None:
        msg = "quantize='4bit' needs bitsandbytes: pip install 'cellhermes[quantize]'."
        raise ImportError(msg)


def quantize_layers(lm: "PreTrainedModel", quantize: Quantize, device: str) -> None:
    """Round the linear layers of the decoder as they move to the device, one after another.

    Token table, output layer and norms keep their numbers, and in four bits so do layers whose inputs 64 does not
    divide.

    Raises
    ------
    ValueError
        If no layer can be rounded.
    """
    rounded, block = {"8bit": (EightBits, 1), "4bit": (_four_bits, BLOCK)}[quantize]
    layers = [
        (parent, name)
        for parent in lm.get_decoder().modules()
        for name, layer in parent.named_children()
        if type(layer) is torch.nn.Linear and layer.in_features % block == 0
    ]
    if not layers:
        msg = f"{lm.name_or_path!r} has no linear layers that can be held in {quantize}; load it without quantize=."
        raise ValueError(msg)
    for parent, name in layers:
        setattr(parent, name, rounded(getattr(parent, name)).to(device))


class EightBits(torch.nn.Module):
    """A linear layer whose weights are whole numbers of one byte, times a scale for each row.

    Parameters
    ----------
    layer
        With the weights.
    """

    def __init__(self, layer: torch.nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach().float()
        scale = weight.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / 127
        self.register_buffer("weight", (weight / scale[:, None]).round().to(torch.int8))
        self.register_buffer("scale", scale.to(layer.weight.dtype))
        self.bias = layer.bias

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map (..., inputs) to (..., outputs)."""
        outputs = linear(inputs, self.weight.to(inputs.dtype)) * self.scale
        return outputs if self.bias is None else outputs + self.bias


def _four_bits(layer: torch.nn.Linear) -> torch.nn.Linear:
    """Take NF4, whose scales are quantised again: about 0.52 bytes a weight, rounded when it moves to its device."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    how = {"quant_type": "nf4", "compress_statistics": True}
    rounded = Linear4bit(*layer.weight.shape[::-1], bias=False, compute_dtype=layer.weight.dtype, device="meta", **how)
    rounded.weight = Params4bit(layer.weight.data, requires_grad=False, **how)
    rounded.bias = layer.bias
    return rounded.eval()
