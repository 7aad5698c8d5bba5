"""The loss of a causal language model, with logits only where a token is predicted that counts.

A model of 128,256 words makes half a megabyte of float32 logits for each token. A question has hundreds of tokens and
its answer a few, so all but the answer's states are left out before the vocabulary is reached.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..model import _forward
from ._epochs import IGNORED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedModel

MAX_LOGITS = 1 << 25  # held at once: 128 MB in float32
N_LENGTHS = 3  # parts of a group by length, each padded to its own longest prompt


def attach(lm: PreTrainedModel, n_sampled: int = 0, temperature: float = 0.1) -> None:
    """Give a model a forward pass that knows this loss; without labels it does what it did before.

    The instance's own ``forward`` is replaced, as peft, DDP, FSDP and DeepSpeed all call it through the module.

    Parameters
    ----------
    lm
        The model.
    n_sampled
        Words that are drawn to stand for those that are no target, 0 for all; never in evaluation.
    temperature
        Of the nearness of the prompts of a group.
    """
    plain = lm.forward

    def forward(
        input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        position_ids: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        groups: Mapping[str, Mapping[str, Tensor]] | None = None,
        **kwargs: object,
    ) -> object:
        if labels is None:
            return plain(input_ids=input_ids, position_ids=position_ids, **kwargs)
        states = lm.get_decoder()(input_ids=input_ids, position_ids=position_ids, use_cache=False).last_hidden_state
        outputs = losses(lm, states, labels, num_items_in_batch, n_sampled if lm.training else 0)
        if groups:
            outputs["groups"] = {name: of_group(lm, group, temperature) for name, group in groups.items()}
            of_groups = sum(part for parts in outputs["groups"].values() for part in parts.values())
            outputs["loss"] = outputs["loss"] + of_groups
        return outputs

    lm.forward = forward
    lm.accepts_loss_kwargs = True  # the trainer hands over how many tokens of the whole step have a loss


def of_group(lm: PreTrainedModel, group: Mapping[str, Tensor], temperature: float) -> dict[str, Tensor]:
    """Compute the losses of a group of prompts, each times its weight.

    ``near`` is the cross entropy between the shares of nearness that are wanted and a softmax over the cosines of the
    vectors at the ends of the prompts, as in contrastive learning with several soft positives (InfoNCE; van den Oord et
    al. 2018). ``first`` is that of the first token of the answer. Both are above the entropy of what is wanted, so that
    0 is the best; both are means over the prompts of which something is known.

    Parameters
    ----------
    lm
        The model.
    group
        Made by :func:`~cellhermes.train._epochs.group_tensors`.
    temperature
        Cosines are divided by it.
    """
    states = _states_at(lm, group["input_ids"], group["end"])
    parts = {}
    if "near" in group:
        unit = torch.nn.functional.normalize(states.float(), dim=-1)
        itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
        log_p = (unit @ unit.T / temperature).masked_fill(itself, -1e4).log_softmax(-1)
        wanted = group["near"]
        above = torch.xlogy(wanted, wanted).sum(1) - (wanted * log_p).sum(1)
        parts["near"] = group["near_weight"] * above.sum() / wanted.any(1).sum().clamp(min=1)
    if "first" in group:
        row, word, share = group["row"], group["word"], group["first"]
        logits = _forward.logits(lm, states)
        log_p = logits[row, word] - logits.logsumexp(-1)[row]
        known = row.unique().numel()
        parts["first"] = group["first_weight"] * (torch.xlogy(share, share) - share * log_p).sum() / max(known, 1)
    return parts


def _states_at(lm: PreTrainedModel, ids: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """(rows, dim) last hidden states at the ends of (rows, tokens) prompts, of which short ones are read together."""
    order = end.argsort()
    states = []
    for rows in order.tensor_split(min(N_LENGTHS, len(order))):
        read = lm.get_decoder()(input_ids=ids[rows, : int(end[rows[-1]]) + 1], use_cache=False).last_hidden_state
        states.append(read[torch.arange(len(rows), device=ids.device), end[rows]])
    return torch.cat(states)[order.argsort()]


def losses(
    lm: PreTrainedModel, states: Tensor, labels: Tensor, n_items: Tensor | int | None = None, n_sampled: int = 0
) -> dict[str, Tensor]:
    """Compute the mean negative log-likelihood of labels (eq. 5), and in evaluation what each row got right.

    Parameters
    ----------
    lm
        The model whose output layer is used.
    states
        (rows, tokens, dim) last hidden states.
    labels
        (rows, tokens) ids, -100 without a loss. Each is predicted from the state before it.
    n_items
        What the sum is divided by; None takes the number of labels here.
    n_sampled
        As for :func:`attach`.

    Returns
    -------
    ``loss``; without gradients also ``nll``, ``n`` and ``n_right`` of shape (rows,): the summed loss, the number of
    labels, and how many of them are the likeliest token.
    """
    keep = labels[:, 1:] != IGNORED
    targets = labels[:, 1:][keep]
    words, log_odds = None, None
    if n_sampled:
        words, log_odds, targets = _draw(targets, lm.get_output_embeddings().weight.shape[0], n_sampled)
    nll, right = _nll(lm, states[:, :-1][keep], targets, words, log_odds)
    total = nll.sum()
    outputs = {"loss": total / (len(targets) or 1 if n_items is None else n_items)}
    if not torch.is_grad_enabled():
        row = keep.nonzero()[:, 0]
        zeros = torch.zeros(len(labels), device=nll.device)
        outputs |= {
            "nll": zeros.index_add(0, row, nll),
            "n": keep.sum(1).float(),
            "n_right": zeros.index_add(0, row, right.float()),
        }
    return outputs


def _draw(targets: Tensor, n_words: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw words to compare with: them, the log of one over the chance of each, and where the targets are among them.

    All targets are there, and ``n`` of the other words; each of these stands for as many as were left out for it, so
    that the expected sum over the drawn words is the sum over all (Bengio and Senecal 2003, with equal chances).
    """
    present, at = targets.unique(return_inverse=True)
    others = torch.ones(n_words, dtype=torch.bool, device=targets.device)
    others[present] = False
    others = others.nonzero()[:, 0]
    n = min(n, len(others))
    # global generator: the trainer seeds it, and checkpoints keep it
    drawn = others[torch.randperm(len(others), device=targets.device)[:n]]
    log_odds = torch.zeros(len(present) + n, device=targets.device)
    log_odds[len(present) :] = math.log(len(others) / n) if n else 0.0
    return torch.cat([present, drawn]), log_odds, at


def _nll(
    lm: PreTrainedModel, states: Tensor, targets: Tensor, words: Tensor | None, log_odds: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Compute each target's loss and whether it is the likeliest token, a bounded number of logits at a time."""
    n_words = lm.get_output_embeddings().weight.shape[0] if words is None else len(words)
    size = max(1, MAX_LOGITS // n_words)
    if len(targets) <= size:
        return _nll_of(lm, states, targets, words, log_odds)
    parts = [
        checkpoint(_nll_of, lm, *part, words, log_odds, use_reentrant=False)
        for part in zip(states.split(size), targets.split(size), strict=True)
    ]
    return torch.cat([nll for nll, _ in parts]), torch.cat([right for _, right in parts])


def _nll_of(
    lm: PreTrainedModel, states: Tensor, targets: Tensor, words: Tensor | None, log_odds: Tensor | None
) -> tuple[Tensor, Tensor]:
    logits = _forward.logits(lm, states, words)
    if log_odds is not None:
        logits = logits + log_odds
    # a pass over all logits, for which only evaluation pays
    right = torch.zeros_like(targets) if torch.is_grad_enabled() else (logits.argmax(-1) == targets).long()
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none"), right
