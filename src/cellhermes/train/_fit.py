"""One call from pairs to an adapter: check, tokenise, load, train, write."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .._disk import json_hash
from . import _encoded, _folder, _loop
from ._bases import folders_of
from ._config import TrainConfig
from ._held_out import overlap
from .corpus._groups import as_groups
from .corpus._pairs import Pairs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, TrainingArguments

    from ..model import ModelCard
    from ..model._tokens import Encoder
    from ..text import QAPair
    from ._encoded import Examples, Source
    from ._trainer import HermesTrainer
    from .corpus._groups import Groups

logger = logging.getLogger("cellhermes")


def fit(
    pairs: Source | Mapping[str, Source] | Iterable[QAPair],
    config: TrainConfig | None = None,
    *,
    out: str | Path,
    base: str | Path = "mini",
    evaluation: Source | None = None,
    groups: Groups | Mapping[str, Groups] | None = None,
    weights: Mapping[str, float] | None = None,
    caps: Mapping[str, int] | None = None,
    wrap: str | None = None,
    device: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Train a model on question-answer pairs.

    By default this is the paper's pretraining: LoRA of rank 8 on all linear layers of the base (eq. 6), loss on the
    tokens of the answers (eq. 5). The result is a folder that :meth:`CellHermes.from_pretrained
    <cellhermes.CellHermes.from_pretrained>` loads, and peft too.

    An interrupted run goes on from its last checkpoint when it is called again with the same arguments. SIGINT and
    SIGTERM write a checkpoint first. Under ``accelerate launch`` or ``torchrun`` all processes call this function.

    Parameters
    ----------
    pairs
        What to learn from: :class:`~cellhermes.train.corpus.Pairs`, a list of :class:`~cellhermes.text.QAPair`, the
        path of a corpus that :meth:`~cellhermes.train.corpus.Pairs.read` knows, or several of these by name. A stream
        of unknown length (any other iterable) needs ``max_steps`` in the config.
    config
        How to learn; None takes :class:`~cellhermes.train.TrainConfig` with its defaults, the paper's values.
    out
        Folder of the result.
    base
        Name, folder, GGUF file or hub id of the model to start from. Adapters of its card are merged first.
    evaluation
        Held-out pairs. Their loss and the share of exact answers are logged for each task.
    groups
        What the vectors shall learn beside the pairs: :class:`~cellhermes.train.corpus.Groups`, or several of these by
        name. With every forward pass one group of each is read, and its losses are added.
    weights
        Name of each source to its share of an epoch. An epoch keeps its size; sources are repeated or sampled.
    caps
        Name of a source to how many of its pairs are used at most, drawn without replacement.
    wrap
        A name of :meth:`cellhermes.text.Wrap.names`; None takes that of the base.
    device
        ``"cpu"`` keeps an accelerator idle; None uses it, or those that a launcher assigns.
    overwrite
        Replace what an earlier run left in ``out``.

    Returns
    -------
    ``out``, with ``adapter_model.safetensors`` and ``adapter_config.json`` (or ``model.safetensors`` and a tokenizer
    with ``method="full"``), a model card, ``cellhermes.json`` (how to read the model), ``log.jsonl`` (for
    :func:`cellhermes.pl.training`), ``training.json`` (config, data with hashes, versions, results) and
    ``checkpoints``.

    Raises
    ------
    ~builtins.BlockingIOError
        If another run is writing to ``out``.
    ~builtins.FileExistsError
        If ``out`` holds a run with other arguments.
    ~builtins.FloatingPointError
        If the loss is not finite.
    KeyboardInterrupt, SystemExit
        After SIGINT and SIGTERM, with a checkpoint written.
    ~builtins.OSError
        If ``out`` cannot be written, or the disk is full; checkpoints before stay.
    TypeError
        If ``pairs`` are something else.
    ValueError
        If there is no pair to train on, a name of ``weights`` or ``caps`` is not known, or base and tokenizer do not
        belong together.

    Examples
    --------
    >>> import tempfile
    >>> import cellhermes as ch
    >>> ask = ch.text.Prompt("Is CD3E a T-cell gene?")
    >>> pairs = [ch.text.QAPair(ask, "Yes", "demo")]
    >>> with tempfile.TemporaryDirectory() as out:
    ...     adapter = ch.train.fit(pairs, ch.train.TrainConfig(max_steps=2), out=out, device="cpu")
    ...     ch.CellHermes.from_pretrained(adapter, device="cpu").dim
    224
    """
    config, out = config or TrainConfig(), Path(out)
    stream = None if isinstance(pairs, str | Path | Sequence | Mapping) else pairs
    sources = {} if stream is not None else _encoded.as_sources(pairs)
    named = as_groups(groups)
    held_out = {} if evaluation is None else _encoded.as_sources({"evaluation": evaluation})
    _check(config, sources, stream, weights, caps, has_evaluation=bool(held_out))
    read = [Path(source) for source in (*sources.values(), *held_out.values()) if isinstance(source, str | Path)]
    _folder.check(out, read)
    if stream is not None:
        stream = _encoded.Stream(stream)
    run = _run(config, out, base, wrap, device, sources or {"stream": stream}, held_out, weights, caps, named)
    with _folder.held(run.out, is_first=run.is_first):
        if _folder.is_finished(run.out, run.record, overwrite=overwrite):
            return run.out
        run.args.distributed_state.wait_for_everyone()  # all have looked before one writes
        if run.is_first:
            _folder.begin(run.out, run.record, overwrite=overwrite)
        encoded = _tokenise(run, "train", sources, caps or {}) if stream is None else None
        evaluated = _tokenise(run, "evaluation", held_out, {}) if held_out else None
        shared = _overlap(run, sources, held_out) if evaluated is not None else {}
        with _loop.random_state_kept():
            trainer = _trainer(run, encoded if stream is None else stream, evaluated, named)
            _loop.train(trainer, run.out)
            _finish(trainer, run, evaluated, shared)
    return run.out


@dataclass(frozen=True, slots=True)
class _Run:
    """What all steps of a run need.

    Parameters
    ----------
    config, out
        As given.
    args
        Of transformers.
    card, tokenizer, encoder
        Of the base.
    record
        What decides the result: config, base, and hashes of the pairs.
    """

    config: TrainConfig
    out: Path
    args: TrainingArguments
    card: ModelCard
    tokenizer: PreTrainedTokenizerBase
    encoder: Encoder
    record: Mapping[str, object]

    @property
    def is_first(self) -> bool:
        """Tell whether this process is the one that writes."""
        return self.args.process_index == 0


# Checks --------------------------------------------------------------------------------------------------------------


def _check(
    config: TrainConfig,
    sources: Mapping[str, Source],
    stream: Iterable[QAPair] | None,
    weights: Mapping[str, float] | None,
    caps: Mapping[str, int] | None,
    *,
    has_evaluation: bool,
) -> None:
    if stream is not None:
        if not isinstance(stream, Iterable):
            kind = type(stream).__name__
            msg = f"pairs are a {kind}; expected ch.train.corpus.Pairs, a list, a path, or a mapping of these."
            raise TypeError(msg)
        if not config.max_steps or weights or caps:
            msg = "A stream has no length: set max_steps in the config, and neither weights nor caps."
            raise ValueError(msg)
    for what, given in (("weights", weights), ("caps", caps)):
        if given is None:
            continue
        unknown = sorted(set(given) - set(sources))
        missing = sorted(set(sources) - set(given)) if what == "weights" else []
        is_empty = what == "weights" and not any(given.values())
        kind = int if what == "caps" else int | float
        wrong = [value for value in given.values() if not isinstance(value, kind) or not 0 <= value < math.inf]
        if unknown or missing or is_empty or wrong:
            words = "whole numbers" if what == "caps" else "numbers"
            msg = f"{what}={dict(given)}; expected {words} of at least 0 for the sources {list(sources)}."
            raise ValueError(msg)
    if (config.patience or config.keep_best) and not has_evaluation:
        msg = "patience and keep_best need held-out pairs; pass evaluation=."
        raise ValueError(msg)
    if config.quantize or config.liger:
        from ._arguments import check_gpu

        check_gpu(config)


def _run(
    config: TrainConfig,
    out: Path,
    base: str | Path,
    wrap: str | None,
    device: str | None,
    sources: Mapping[str, Source],
    held_out: Mapping[str, Source],
    weights: Mapping[str, float] | None,
    caps: Mapping[str, int] | None,
    groups: Mapping[str, Groups],
) -> _Run:
    from ..model import _card, _identity
    from ..model._store import located
    from ._arguments import arguments

    card, tokenizer, encoder = _loop.opened(base, wrap)
    _folder.check(out, folders_of(located(card)))
    _folder.check_writable(out)
    record = {
        "config": config.to_dict(),
        "base": _card.reference(card),
        "base_sha256": _identity.sha256(card),
        "wrap": encoder.wrap.note(),
        "vocabulary": encoder.fingerprint(),
        "pairs": {name: _described(source) for name, source in sources.items()},
        "evaluation": {name: _described(source) for name, source in held_out.items()},
        "weights": dict(weights or {}),
        "caps": dict(caps or {}),
        "groups": {
            name: {"sha256": part.fingerprint(), "task": part.task, "about": dict(part.about)}
            for name, part in groups.items()
        },
    }
    if groups:
        _check_read_at(card)
    record = json.loads(json.dumps(record))  # as it will be read again: lists for tuples
    args = arguments(config, out / _folder.CHECKPOINTS, device=device, evaluates=bool(held_out))
    return _Run(config, out, args, card, tokenizer, encoder, record)


def _check_read_at(card: ModelCard) -> None:
    """Refuse a model that is read elsewhere than at the end of a prompt, where groups teach the vector."""
    places = {card.read(kind) for kind in ("gene", "cell", "gene_in_cell")}
    if places != {"prompt_end"}:
        msg = f"{card.name} is read at {sorted(places)}; groups train the vector at 'prompt_end' only."
        raise ValueError(msg)


def _described(source: Source) -> dict[str, object]:
    about = {"sha256": _encoded.fingerprint(source)}
    if isinstance(source, Pairs):
        return about | {"task": source.task, "about": dict(source.about), "dropped": dict(source.dropped)}
    return about | ({"file": Path(source).name} if isinstance(source, str | Path) else {})


# Data ----------------------------------------------------------------------------------------------------------------


def _tokenise(run: _Run, name: str, sources: Mapping[str, Source], caps: Mapping[str, int]) -> Examples:
    """Map the examples, which the first process writes."""
    config, folder = run.config, run.out / _folder.TOKENS / name
    if run.is_first:
        parts = [run.record["pairs" if name == "train" else name], run.record["vocabulary"], run.record["wrap"]]
        key = json_hash([*parts, config.max_tokens, dict(caps), config.seed])
        _encoded.encode(
            sources, run.encoder, folder, max_tokens=config.max_tokens, caps=caps, seed=config.seed, key=key
        )
    run.args.distributed_state.wait_for_everyone()
    encoded = _encoded.load(folder)
    if not len(encoded):
        msg = f"There is no pair to {'train on' if name == 'train' else 'evaluate'}: {encoded.about()}."
        raise ValueError(msg)
    if run.is_first:
        for reason, n in encoded.dropped.items():
            logger.warning("%s pairs dropped, %s", f"{n:,}", reason)
        if encoded.n_cut:
            logger.warning("%s of %s examples were cut to %d tokens", encoded.n_cut, len(encoded), config.max_tokens)
    return encoded


def _overlap(run: _Run, sources: Mapping[str, Source], held_out: Mapping[str, Source]) -> dict[str, dict[str, int]]:
    """Count what training has of the held-out pairs; of a stream nothing is known."""
    if not run.is_first or not sources:
        return {}
    return overlap(_encoded.read(sources), _encoded.read(held_out))


# Training ------------------------------------------------------------------------------------------------------------


def _trainer(
    run: _Run, pairs: Examples | Iterable[QAPair], evaluated: Examples | None, groups: Mapping[str, Groups]
) -> HermesTrainer:
    from transformers import EarlyStoppingCallback, set_seed

    from ._epochs import Epochs, StreamRows
    from ._trainer import HermesTrainer
    from ._tunable import tunable

    config, args = run.config, run.args
    set_seed(config.seed)  # before the adapter draws its start values
    lm = tunable(config, run.card, run.tokenizer, half=args.bf16 or args.fp16)
    common = {"batch_size": config.batch_size, "seed": config.seed, "group_by_length": config.group_by_length}
    n_steps, per_step = config.max_steps, config.batch_size * args.world_size * config.accumulation
    if isinstance(pairs, _encoded.Examples):
        rows = Epochs(
            pairs, n_processes=args.world_size, weights=run.record["weights"] or None,
            max_tokens=config.max_tokens if config.packing else 0, **common,
        )  # fmt: skip
        n_steps = n_steps or config.n_epochs * -(-len(rows) // per_step)
    else:
        rows = StreamRows(
            pairs, run.encoder, step=per_step, max_tokens=config.max_tokens, packing=config.packing, **common
        )  # fmt: skip
    args.warmup_steps = round(config.warmup_ratio * n_steps)
    held_out = None
    if evaluated is not None:
        held_out = Epochs(evaluated, batch_size=config.batch_size, n_processes=args.world_size), evaluated
    trainer = HermesTrainer(lm, args, config, rows, held_out, run.out / _folder.LOG, groups=groups, encoder=run.encoder)
    if config.patience:
        trainer.add_callback(EarlyStoppingCallback(config.patience))
    return trainer


# Writing -------------------------------------------------------------------------------------------------------------


def _finish(
    trainer: HermesTrainer, run: _Run, evaluated: Examples | None, shared: Mapping[str, Mapping[str, int]]
) -> None:
    """Write weights, card and record; the tokens go."""
    from ._recorded import read_log

    if trainer.state.global_step < trainer.config.max_steps and not trainer.config.patience:
        logger.warning(
            "The pairs ended after %d of %d steps, before the learning rate had fallen; lower max_steps, or pass more.",
            trainer.state.global_step,
            trainer.config.max_steps,
        )
    facts = {
        "run": run.record,
        "data": {"train": trainer.train_dataset.about(), "evaluation": evaluated.about() if evaluated else {}},
        "held out": shared,
        "results": _results(trainer, read_log(run.out / _folder.LOG)),
        "versions": _loop.versions("torch", "transformers", "peft", "accelerate", "tokenizers"),
    }
    tokenizer = run.tokenizer if run.config.method == "full" else None
    _loop.leave(trainer, run.out, card=run.card, facts=facts, tokenizer=tokenizer)
    if run.is_first:
        _encoded.remove(run.out / _folder.TOKENS)


def _results(trainer: HermesTrainer, log: list[dict[str, float]]) -> dict[str, object]:
    lines = [line for line in log if "loss" in line]
    step = trainer.state.best_global_step if trainer.config.keep_best else trainer.state.global_step
    evaluated = next((line for line in log if "eval_loss" in line and line["step"] == step), {})
    return {
        "steps": trainer.state.global_step,
        "weights_of_step": step,
        "epochs": trainer.state.epoch,
        "processes": trainer.args.world_size,
        "device": trainer.args.device.type,
        "tokens": lines[-1]["tokens"] if lines else 0,
        "seconds": log[-1]["seconds"] if log else 0.0,
        "loss": lines[-1]["loss"] if lines else None,
        "evaluation": {name: value for name, value in evaluated.items() if name.startswith("eval_")},
    }
