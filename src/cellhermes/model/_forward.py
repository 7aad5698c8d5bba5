"""Forward passes: plain, behind a shared prefix, and with an eye on the last layer's attention.

All three run the layers of transformers unchanged. They differ in one attention function, registered once under the
name
``cellhermes``: it hands each layer's queries, keys and values to the ``hermes`` keyword of the call when there is one,
and to torch's scaled dot product attention otherwise.
"""

import math
import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from inspect import signature

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, PretrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_layers import GradientCheckpointingLayer

from ._tokens import Batch
from ._trie import Trie

NAME = "cellhermes"
FORGETS = re.compile(r"window(_size|_len)?$|attention_chunk_size$|index_(topk|block_size)$")
NO_LIMIT = 1 << 20  # tokens: the context of a model that names none
Tap = Callable[..., Tensor]
Seen = tuple[Tensor, Tensor, Tensor]  # weights, entropy, entropy over genes


def register() -> None:
    """Make ``attn_implementation="cellhermes"`` known to transformers."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    hermes: Tap | None = None,
    softcap: float | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Compute one layer's attention: (batch, heads, tokens, width) in, (batch, tokens, heads, width) out."""
    if hermes is not None:
        return _tapped(hermes, module, query, key, value, attention_mask, softcap=softcap, **kwargs), None
    if softcap is not None:
        return _softcapped(module, query, key, value, attention_mask, softcap=softcap, **kwargs), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


@torch.compiler.disable
def _tapped(hermes: Tap, *args: object, **kwargs: object) -> Tensor:
    """Call what stands in for a layer's attention, uncompiled: it keeps what it sees, layer by layer."""
    return hermes(*args, **kwargs)


def compile_layers(lm: PreTrainedModel) -> None:
    """Compile each layer when it first runs; layers are alike, so that one is compiled for all."""
    for module in lm.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.compile(dynamic=True)


def _softcapped(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    softcap: float,
    scaling: float,
    **_: object,
) -> Tensor:
    """Compute the attention of models that cap their scores (Gemma 2), which torch's function can't."""
    n_rep = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(n_rep, 1), value.repeat_interleave(n_rep, 1)
    scores = torch.tanh(query @ key.mT * (scaling / softcap)) * softcap
    if attention_mask is None:
        attention_mask = _causal(query.shape[2], key.shape[2], query.device)
    if attention_mask.dtype == torch.bool:
        # Not -inf: a row of padding sees nothing, and its NaN would reach real rows through 0 x NaN.
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    else:
        scores = scores + attention_mask
    return (scores.softmax(-1, dtype=torch.float32).to(value.dtype) @ value).transpose(1, 2).contiguous()


def _causal(n_queries: int, n_keys: int, device: torch.device) -> Tensor:
    """Make (queries, keys), True where a query may look, the last query being the last key."""
    return torch.ones(n_queries, n_keys, dtype=torch.bool, device=device).tril(n_keys - n_queries)


def hidden(decoder: PreTrainedModel, batch: Batch) -> Tensor:
    """Compute (prompts, tokens, dim) states after the final norm, without logits."""
    return _run(decoder, batch.ids, batch.positions, batch.attention_mask)


def _run(
    decoder: PreTrainedModel,
    ids: Tensor,
    positions: Tensor,
    attention_mask: Tensor | None = None,
    hermes: Tap | None = None,
) -> Tensor:
    extra = {} if hermes is None else {"hermes": hermes}
    if "position_ids" in signature(decoder.forward).parameters:  # others count by themselves
        extra["position_ids"] = positions
    return decoder(input_ids=ids, attention_mask=attention_mask, use_cache=False, **extra).last_hidden_state


def output_layer(lm: PreTrainedModel) -> nn.Module:
    """Find the layer from states to logits."""
    head = lm.get_output_embeddings()
    if head is None:
        msg = f"The files of {lm.name_or_path!r} hold no output layer (lm_head): it can embed, not score or write."
        raise ValueError(msg)
    return head


def logits(lm: PreTrainedModel, states: Tensor, words: Tensor | None = None) -> Tensor:
    """Compute float32 logits of the states that are asked for, and of no others; over all words, or some."""
    head = output_layer(lm)
    if words is None:
        values = head(states).float()
    else:
        bias = None if head.bias is None else head.bias[words]
        values = nn.functional.linear(states, head.weight[words], bias).float()
    config = lm.config.get_text_config()
    if (scale := _scale(config)) != 1:  # a pass over all words, which most families need not make
        values = values * scale
    cap = getattr(config, "final_logit_softcapping", None)
    return values if cap is None else torch.tanh(values / cap) * cap


def _scale(config: PretrainedConfig) -> float:
    """Find what families multiply their logits by; whether this is all is checked when a model is loaded."""
    if config.model_type == "hyperclovax":
        return config.logits_scaling
    names = ("logit_scale", "lm_head_multiplier", "logits_scaling")
    scale, multiplier, divisor = (getattr(config, name, None) or 1.0 for name in names)
    return scale * multiplier / divisor


def grow(
    decoder: PreTrainedModel, rows: Sequence[list[int]], *, device: torch.device
) -> Generator[Tensor, list[int], None]:
    """Yield (rows, dim) states at the ends of rows; each is sent a token and gives the next, from keys and values kept.

    Rows are padded on the left, so that all grow at the same end.
    """
    batch = Batch.pad(rows, device=device, side="left")
    mask, positions, step = batch.mask, batch.positions, batch.ids
    # transformers 5.24 has given the argument a new name
    name = "cache" if "cache" in signature(decoder.forward).parameters else "past_key_values"
    cache = {name: DynamicCache(config=decoder.config)}
    while True:
        with torch.compiler.set_stance("force_eager"):  # a cache that grows would be compiled again and again
            output = decoder(input_ids=step, attention_mask=mask, position_ids=positions, use_cache=True, **cache)
        tokens = yield output.last_hidden_state[:, -1]
        step = torch.tensor(tokens, device=device)[:, None]
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
        positions = positions[:, -1:] + 1


def grow_whole(
    decoder: PreTrainedModel, rows: Sequence[list[int]], *, device: torch.device
) -> Generator[Tensor, list[int], None]:
    """Do the same as :func:`grow`, with each row computed anew for each token."""
    while True:
        batch = Batch.pad(rows, device=device)
        tokens = yield hidden(decoder, batch)[torch.arange(len(rows), device=device), batch.last]
        rows = [[*row, token] for row, token in zip(rows, tokens, strict=True)]


def size(config: PretrainedConfig, name: str, default: int) -> int:
    """Read a size of a config; the largest, where layers differ in it."""
    per_layer = getattr(config, "per_layer_config", None) or [config]
    sizes = [getattr(layer, name, None) or default for layer in per_layer]
    return max(max(size) if isinstance(size, list | tuple) else size for size in sizes)


def window(config: PretrainedConfig) -> float:
    """Count the tokens up to which every layer sees the whole text, by whatever name a family calls them."""
    lengths = (length for name, length in vars(config).items() if FORGETS.search(name) and type(length) is int)
    return min((length for length in lengths if length), default=math.inf)


def context(config: PretrainedConfig) -> int:
    """Find the longest text in tokens.

    Where the frequencies of positions are others in long texts (longrope), it is the longest short one: beyond it the
    vector of a text would depend on how long the others of its batch are.
    """
    longest = getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None) or NO_LIMIT
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(of_a_layer for of_a_layer in rope.values() if isinstance(of_a_layer, dict))]
    ends = [kind.get("original_max_position_embeddings") for kind in kinds if kind.get("rope_type") == "longrope"]
    return min([longest, *filter(None, ends)])


@dataclass(slots=True)
class Prefix:
    """Keys and values of prompts' beginnings, one pair a layer.

    Parameters
    ----------
    layers
        (key, value) of shape (prefixes, key heads, tokens, width), in the order of the layers.
    last
        (prefixes, dim) state after the final norm at each prefix's last token.
    mask
        (prefixes, tokens) bool, False at padding; None without padding.
    lengths
        (prefixes,) tokens of each prefix.
    """

    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    last: Tensor | None = None
    mask: Tensor | None = None
    lengths: Tensor | None = None

    def write(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *rest: object, **kwargs: object
    ) -> Tensor:
        """Remember a layer's keys and values on the way."""
        self.layers.append((key, value))
        return _attention(module, query, key, value, *rest, **kwargs)[0]

    def read(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        scaling: float,
        softcap: float | None = None,
        visible: Tensor | None = None,
        **_: object,
    ) -> Tensor:
        """Compute the attention of suffixes to their prefix and to themselves, as one softmax over both.

        Within a suffix each token looks back at all others or, with ``visible`` (m, s, s), where it may.

        The queries of all suffixes of a prefix stand in one matrix against its keys, which are neither copied nor
        expanded. Shapes: p prefixes, m suffixes each, s tokens; h key heads, r query heads a key head; t prefix tokens;
        d width.
        """
        before, value_before = self.layers[module.layer_idx]
        p, h, t, d = before.shape
        n, heads, s, _ = query.shape
        m, r = n // p, heads // h
        query = query.view(p, m, h, r, s, d).transpose(1, 2) * scaling  # (p, h, m, r, s, d)
        far = query.reshape(p, h, m * r * s, d) @ before.mT  # (p, h, m r s, t)
        own = query.reshape(p, h, m, r * s, d) @ key.view(p, m, h, s, d).transpose(1, 2).mT  # (p, h, m, r s, s)
        if softcap is not None:
            far, own = (torch.tanh(scores / softcap) * softcap for scores in (far, own))
        if self.mask is not None:
            far.masked_fill_(~self.mask[:, None, None, :], -torch.inf)
        hidden = ~(_causal(s, s, own.device)[None] if visible is None else visible)[:, None]  # (m or 1, 1, s, s)
        own = own.view(p, h, m, r, s, s).masked_fill_(hidden, -torch.inf).view(p, h, m, r * s, s)
        far = far.view(p, h, m, r * s, t)
        top = torch.maximum(far.amax(-1, keepdim=True), own.amax(-1, keepdim=True)).float()
        far, own = far.float().sub_(top).exp_(), own.float().sub_(top).exp_()
        total = far.sum(-1, keepdim=True) + own.sum(-1, keepdim=True)  # (p, h, m, r s, 1)
        out = (far.to(value.dtype).view(p, h, m * r * s, t) @ value_before).view(p, h, m, r * s, d)
        out = out + own.to(value.dtype) @ value.view(p, m, h, s, d).transpose(1, 2)
        out = (out / total.to(value.dtype)).view(p, h, m, r, s, d)
        return out.permute(0, 2, 4, 1, 3, 5).reshape(n, s, heads, d)


def read_prefix(decoder: PreTrainedModel, batch: Batch) -> Prefix:
    """Compute the beginnings of prompts once, for any number of :func:`hidden_behind`."""
    prefix = Prefix()
    states = _run(decoder, batch.ids, batch.positions, batch.attention_mask, prefix.write)
    prefix.last = states[torch.arange(len(states), device=states.device), batch.last]
    prefix.mask = None if bool(batch.mask.all()) else batch.mask
    prefix.lengths = batch.mask.sum(1)
    return prefix


def read_behind(decoder: PreTrainedModel, shared: Prefix, batch: Batch) -> Prefix:
    """Compute prefixes that begin with one shared prefix and go on with the (right-padded) rows of a batch."""
    prefix = Prefix()

    def tap(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *rest: object, **kw: object) -> Tensor:
        before = (old.expand(len(key), -1, -1, -1) for old in shared.layers[module.layer_idx])
        prefix.layers.append(tuple(torch.cat(pair, 2) for pair in zip(before, (key, value), strict=True)))
        return shared.read(module, query, key, value, *rest, **kw)

    states = _run(decoder, batch.ids, batch.positions + shared.lengths, None, tap)
    prefix.last = states[torch.arange(len(states), device=states.device), batch.last]
    seen = batch.mask.new_ones(len(states), int(shared.lengths))
    prefix.mask = None if bool(batch.mask.all()) else torch.cat([seen, batch.mask], 1)
    prefix.lengths = shared.lengths + batch.mask.sum(1)
    return prefix


def hidden_behind(decoder: PreTrainedModel, prefix: Prefix, batch: Batch) -> Tensor:
    """Compute (suffixes, tokens, dim) states of right-padded suffixes, as many for each prefix, in their order."""
    n_each = batch.ids.shape[0] // prefix.lengths.shape[0]
    positions = batch.positions + prefix.lengths.repeat_interleave(n_each)[:, None]
    return _run(decoder, batch.ids, positions, None, prefix.read)


def states_behind(decoder: PreTrainedModel, prefix: Prefix, trie: Trie) -> Tensor:
    """Compute (prefixes, states, dim) of a trie: behind each prefix, then of the nodes."""
    n = prefix.lengths.shape[0]
    start = prefix.last[:, None]
    if not trie.ids.numel():
        return start
    device = prefix.lengths.device
    positions = trie.depth.to(device).repeat(n, 1) + prefix.lengths.repeat_interleave(len(trie.ids))[:, None]
    tap = partial(prefix.read, visible=trie.visible.to(device))
    nodes = _run(decoder, trie.ids.to(device).repeat(n, 1), positions, None, tap)
    return torch.cat([start, nodes.view(n, -1, nodes.shape[-1])], 1)


MAX_WEIGHTS = 4_000_000  # attention weights held at once: 16 MB
MAX_ROWS = 32  # rows at once: later keys are hidden from all of them and left out, which saves nearly half the work


def _look(
    query: Tensor,
    key: Tensor,
    genes: Tensor,
    lengths: Tensor,
    mask: Tensor | None,
    scaling: float,
    softcap: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the last row of the weights and both entropies of some prompts: (prompts, heads, tokens, width) in.

    With e = exp(score - largest score) and m = the sum of e over the keys of a kind, the entropy of the weights
    renormalised over these keys is log(m) - sum(e log e) / m: no weights have to be made for it. Padding stands right,
    where causality hides it from what is real; its own rows are left out.
    """
    _, heads, n, _ = query.shape
    query = query.float() * scaling
    key = key.float().repeat_interleave(heads // key.shape[1], 1).mT
    kinds = torch.stack([torch.ones_like(genes), genes], -1)  # (prompts, tokens, 2): every key, keys of genes
    is_real = torch.arange(n, device=query.device) < lengths[:, None]
    sums, n_rows = query.new_zeros(len(query), heads, 2), query.new_zeros(len(query), 2)
    last_row = query.new_zeros(len(query), heads, n)
    step = min(MAX_ROWS, max(1, MAX_WEIGHTS // (len(query) * heads * n)))
    for start in range(0, n, step):
        stop = min(start + step, n)
        scores = query[:, :, start:stop] @ key[..., :stop]
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        visible = _causal(stop - start, stop, query.device)[None] if mask is None else mask[:, start:stop, :stop]
        scores.masked_fill_(~visible[:, None], torch.finfo(scores.dtype).min / 2)  # finite, as 0 x infinity is NaN
        scores.sub_(scores.amax(-1, keepdim=True))
        weights = scores.exp()
        mass = weights @ kinds[:, None, :stop]  # (prompts, heads, rows, 2)
        at = ((lengths > start) & (lengths <= stop)).nonzero()[:, 0]
        row = lengths[at] - 1 - start
        last_row[at, :, :stop] = weights[at, :, row] / mass[at, :, row, :1]
        some = mass.clamp_min(1e-30)
        entropy = some.log() - (scores.mul_(weights) @ kinds[:, None, :stop]) / some
        seen = visible.float() @ kinds[:, :stop]  # (prompts, rows, 2): how many of each kind a row sees
        counts = (seen > 1) & is_real[:, start:stop, None]
        sums += torch.where(counts[:, None], entropy / seen.clamp_min(2).log()[:, None], 0.0).sum(2)
        n_rows += counts.sum(1)
    over_all, over_genes = (sums / n_rows.clamp_min(1)[:, None]).unbind(-1)
    return last_row, over_all, over_genes


def attention_of_last_layer(decoder: PreTrainedModel, batch: Batch, genes: Tensor) -> list[Seen]:
    """Run a right-padded batch and look at the attention of its last layer.

    The (heads, queries, keys) weights are made for a few rows at a time and dropped.

    Parameters
    ----------
    decoder
        With our attention.
    batch
        Prompts.
    genes
        (prompts, tokens) float, 1 at the tokens of genes.

    Returns
    -------
    One tuple a prompt: weights (heads, tokens) of the last token; mean normalised entropy (heads,) over all keys; the
    same over the keys of genes.
    """
    prompts: list[Seen] = []
    last, lengths = decoder.config.num_hidden_layers - 1, batch.mask.sum(1)

    def watch(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: object
    ) -> Tensor:
        if module.layer_idx == last:
            # A mask is there only where causality is not all, that is with a sliding window.
            mask = None if attention_mask is None else attention_mask.expand(len(query), -1, -1, -1)[:, 0]
            size = max(1, MAX_WEIGHTS // (query.shape[1] * query.shape[2] * MAX_ROWS))
            for start in range(0, len(query), size):
                some = slice(start, start + size)
                visible = None if mask is None else mask[some]
                how = kwargs["scaling"], kwargs.get("softcap")
                parts = _look(query[some], key[some], genes[some], lengths[some], visible, *how)
                ends = lengths[some].tolist()
                prompts.extend((row[:, :n], *rest) for row, *rest, n in zip(*parts, ends, strict=True))
        return _attention(module, query, key, value, attention_mask, **kwargs)[0]

    _run(decoder, batch.ids, batch.positions, batch.attention_mask, watch)
    return prompts
