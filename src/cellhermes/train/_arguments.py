"""What the trainer of transformers is told."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transformers import TrainingArguments

    from ._config import TrainConfig

logger = logging.getLogger("cellhermes")


def arguments(
    config: TrainConfig,
    folder: Path,
    *,
    device: str | None,
    evaluates: bool,
    kind: type[TrainingArguments] | None = None,
    extra: Mapping[str, object] | None = None,
) -> TrainingArguments:
    """Make the arguments of transformers, which also joins the processes of a launcher.

    Parameters
    ----------
    config
        Ours.
    folder
        For checkpoints.
    device
        ``"cpu"``, or None for what is there.
    evaluates
        Whether there are held-out pairs.
    kind
        Arguments of another trainer, which take more.
    extra
        These.
    """
    import torch
    from transformers import TrainingArguments
    from transformers.utils import is_accelerate_available

    if not is_accelerate_available():
        msg = "Training needs accelerate: pip install 'cellhermes[train]'."
        raise ImportError(msg)
    on_cpu = _is_on_cpu(device)
    on_cuda = not on_cpu and torch.cuda.is_available()
    bf16 = config.dtype == "bfloat16" or (config.dtype == "auto" and on_cuda and torch.cuda.is_bf16_supported())
    args = (kind or TrainingArguments)(
        output_dir=str(folder),
        use_cpu=on_cpu,
        seed=config.seed,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant_with_warmup" if config.schedule == "constant" else config.schedule,
        weight_decay=config.weight_decay,
        adam_beta1=config.adam_betas[0],
        adam_beta2=config.adam_betas[1],
        max_grad_norm=config.max_grad_norm,
        num_train_epochs=config.n_epochs,
        max_steps=config.max_steps or -1,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        bf16=bf16,
        fp16=config.dtype == "float16",
        use_liger_kernel=config.liger,
        # the fused loss would replace ours, which has fewer logits to begin with
        liger_kernel_config={"fused_linear_cross_entropy": False, "cross_entropy": False} if config.liger else None,
        logging_steps=config.log_every,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if evaluates else "no",
        eval_steps=config.eval_every,
        save_strategy="steps",
        save_steps=config.save_every,
        save_total_limit=None,  # theirs goes by the times of files; Recorded removes old checkpoints by their steps
        load_best_model_at_end=config.keep_best,
        metric_for_best_model="loss" if evaluates else None,
        greater_is_better=False if evaluates else None,
        restore_callback_states_from_checkpoint=bool(config.patience),
        report_to=list(config.report_to) or "none",
        disable_tqdm=True,
        remove_unused_columns=False,
        train_sampling_strategy="sequential",  # the data set orders itself
        dataloader_pin_memory=on_cuda,
        ddp_find_unused_parameters=False,
        accelerator_config={"dispatch_batches": False},  # each process reads a stream and takes its part
        **(extra or {}),
    )
    if args.n_gpu > 1:
        logger.warning("One of %d GPUs is used; start with `accelerate launch` or `torchrun` for all.", args.n_gpu)
        args._n_gpu = 1
    return args


def _is_on_cpu(device: str | None) -> bool:
    import torch

    there = str(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else "cpu"
    if device not in (None, "cpu", there):
        msg = f"device={device!r}; expected 'cpu', or None for what is there ({there})."
        raise ValueError(msg)
    return "cpu" in (device, there)


def check_gpu(config: TrainConfig) -> None:
    """Raise where what is asked for needs a GPU, or a library, that is not there."""
    import torch
    from transformers.utils import is_bitsandbytes_available, is_liger_kernel_available

    for wanted, name, there, package in (
        (config.quantize, "quantize='4bit' needs bitsandbytes", is_bitsandbytes_available, "'cellhermes[quantize]'"),
        (config.liger, "liger=True needs liger-kernel", is_liger_kernel_available, "liger-kernel"),
    ):
        if wanted and not (torch.cuda.is_available() and there()):
            msg = f"{name} and a CUDA device; CUDA is {'there' if torch.cuda.is_available() else 'not there'}."
            raise ValueError(msg if there() else f"{msg} The library is not there: pip install {package}.")
