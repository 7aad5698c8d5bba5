"""Whether several examples in one row are to a model what each of them is alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LENGTHS = (9, 7)  # of two examples: longer than the convolutions of hybrid models reach
CLOSE = {torch.float32: 1e-3}  # share of a vector's length that rounding explains, in the numbers of the weights
CLOSE_IN_HALVES = 0.05


def check_packing(lm: PreTrainedModel) -> None:
    """Compare the states of two examples in one row with those of the same examples alone.

    They are equal where tokens reach each other by attention only, which the positions keep apart. Convolutions and
    recurrent layers go on from one example into the next.

    Raises
    ------
    ValueError
        If they differ.
    """
    ids = 1 + torch.arange(sum(LENGTHS), device=lm.device)[None] % (lm.get_input_embeddings().num_embeddings - 1)
    positions = torch.cat([torch.arange(n, device=lm.device) for n in LENGTHS])[None]
    was_training = lm.training
    lm.eval()
    try:
        with torch.no_grad():
            together = _states(lm, ids, positions)[:, LENGTHS[0] :]
            alone = _states(lm, ids[:, LENGTHS[0] :], positions[:, LENGTHS[0] :])
    except TypeError as error:
        problem = f"takes no positions ({error})"
    else:
        off = float((together - alone).norm() / alone.norm())
        if off <= CLOSE.get(lm.dtype, CLOSE_IN_HALVES):
            return
        problem = f"reads an example behind another one otherwise than alone, its vectors are off by {off:.1%}"
    finally:
        lm.train(was_training)
    msg = (
        f"packing=True would change the loss: {type(lm).__name__} {problem}. Models with convolutions or recurrent "
        "layers do so, and some that do not count positions from the start of each example. Set packing=False."
    )
    raise ValueError(msg)


def _states(lm: PreTrainedModel, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    return lm.get_decoder()(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state.float()
