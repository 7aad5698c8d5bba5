"""Training: memory and speed against the plain Trainer of transformers and the SFTTrainer of TRL.

All three tune the same LoRA adapter (rank 8, all linear layers) of the same small Llama with as many words as Llama 3.1
has (128,256), on the same question-answer pairs, batches and number of steps. Each runs in a process of its own:

    python benchmarks/train.py                      # the table
    python benchmarks/train.py ours transformers    # two of them

Peak memory counts what a process holds above its size before the model is loaded: weights, optimizer, activations,
logits. Speed is tokens of the examples (padding not counted) per second of the steps behind the first two. All run in
turn, twice, and the better round of each counts. TRL runs with its defaults, and with its own chunked loss.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shared import MINI, Tokens, memory

VOCABULARY, STEPS, WARM, BATCH, MAX_TOKENS = 128_256, 14, 2, 4, 1024
SHAPE = {
    "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 8,
    "num_key_value_heads": 4, "max_position_embeddings": 2048,
}  # fmt: skip
METHODS = ["ours", "transformers", "trl", "trl-chunked"]


def questions():
    """Question-answer pairs of the corpus, from generated cells and interactions."""
    import cellhermes as ch

    adata = ch.datasets.toy(n_obs=300, rng=0)
    ch.pp.cell_sentences(adata)
    graph = ch.datasets.ppi("toy")
    parts = [ch.train.corpus.mlm_pairs(adata), ch.train.corpus.ar_pairs(adata), ch.train.corpus.node_pairs(graph)]
    return list(ch.train.corpus.mixture(parts, None, seed=0)[: STEPS * BATCH])


def write_base(folder: Path) -> None:
    """A Llama with random weights and the tokenizer of the bundled model, whose ids are far below the vocabulary."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.for_model("llama", vocab_size=VOCABULARY, tie_word_embeddings=True, **SHAPE)
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(MINI).save_pretrained(folder)


class Clock:
    """Seconds from the end of step ``WARM`` to the end of the last one."""

    def __init__(self):
        from transformers import TrainerCallback

        clock = self

        class Ticks(TrainerCallback):
            def on_step_end(self, args, state, control, **_):
                if state.global_step == WARM:
                    clock.start = time.perf_counter()
                clock.seconds = time.perf_counter() - getattr(clock, "start", 0.0)

        self.callback = Ticks()


def encoded(base: Path) -> list[tuple[list[int], list[int]]]:
    """Ids of each question and of its answer, in the order in which our data set gives them."""
    from transformers import AutoTokenizer

    import cellhermes as ch

    tokens = Tokens(AutoTokenizer.from_pretrained(base), ch.text.Wrap.load("llama3-chat-blank"))
    examples = [(tokens.prompt(pair.prompt), tokens.answer(pair.answer)) for pair in questions()]
    assert max(len(question) + len(answer) for question, answer in examples) <= MAX_TOKENS  # nothing is cut
    return examples


def ours(base: Path, out: Path, clock: Clock) -> None:
    from transformers import Trainer

    from cellhermes.train import TrainConfig, fit

    plain = Trainer.__init__

    def timed(self, *args, **kwargs):
        plain(self, *args, **kwargs)
        self.add_callback(clock.callback)

    Trainer.__init__ = timed
    config = TrainConfig(
        n_epochs=1, batch_size=BATCH, accumulation=1, group_by_length=False, dtype="float32", save_every=10**6
    )
    fit(questions(), config, base=base, out=out, wrap="llama3-chat-blank", device="cpu")


def arguments(kind, out: Path, **more):
    return kind(
        output_dir=str(out), num_train_epochs=1, per_device_train_batch_size=BATCH, learning_rate=5e-5,
        lr_scheduler_type="cosine", use_cpu=True, save_strategy="no", logging_steps=1, report_to="none",
        disable_tqdm=True, dataloader_pin_memory=False, bf16=False, **more,
    )  # fmt: skip


def lora():
    from peft import LoraConfig

    return LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")


def transformers(base: Path, out: Path, clock: Clock) -> None:
    """The plain Trainer: padded batches, labels of -100 on questions, logits of every token."""
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    examples = [
        {"input_ids": question + answer, "labels": [-100] * len(question) + answer}
        for question, answer in encoded(base)
    ]

    def collate(rows):
        width = max(len(row["input_ids"]) for row in rows)
        pad = {"input_ids": 0, "labels": -100, "attention_mask": 0}
        for row in rows:
            row["attention_mask"] = [1] * len(row["input_ids"])
        return {
            name: torch.tensor([row[name] + [fill] * (width - len(row["input_ids"])) for row in rows])
            for name, fill in pad.items()
        }

    lm = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora())
    args = arguments(TrainingArguments, out, remove_unused_columns=False)
    Trainer(lm, args, data_collator=collate, train_dataset=examples, callbacks=[clock.callback]).train()


def trl(base: Path, out: Path, clock: Clock, **more) -> None:
    """SFTTrainer on the same ids, with its mask of completions."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    rows = [
        {"input_ids": question + answer, "completion_mask": [0] * len(question) + [1] * len(answer)}
        for question, answer in encoded(base)
    ]
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = tokenizer.eos_token
    options = {"max_length": MAX_TOKENS, "completion_only_loss": True, "gradient_checkpointing": False, **more}
    args = arguments(SFTConfig, out, **options)
    lm = AutoModelForCausalLM.from_pretrained(base)
    trainer = SFTTrainer(
        lm, args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, peft_config=lora(),
        callbacks=[clock.callback],
    )  # fmt: skip
    trainer.train()


def run(method: str, base: Path) -> dict[str, float]:
    """Tokens a second and MB of one method."""
    import torch

    torch.set_num_threads(2)
    examples, clock = encoded(base), Clock()
    before = memory("VmRSS")
    with tempfile.TemporaryDirectory() as out:
        if method == "trl-chunked":
            trl(base, Path(out), clock, loss_type="chunked_nll")
        else:
            globals()[method](base, Path(out), clock)
    tokens = [len(question) + len(answer) for question, answer in examples]
    answers = sum(len(answer) for _, answer in examples) / sum(tokens)
    speed = sum(tokens[WARM * BATCH :]) / clock.seconds
    return {"tokens_per_second": speed, "peak_mb": memory("VmHWM") - before, "answers": answers}


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print("RESULT " + json.dumps(run(sys.argv[2], Path(sys.argv[3]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_base(Path(folder))
        found = {}
        for method in 2 * (sys.argv[1:] or METHODS):
            command = [sys.executable, __file__, "--one", method, folder]
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
            lines = [line for line in ended.stdout.splitlines() if line.startswith("RESULT ")]
            if not lines:
                print(f"{method}: no result\n{ended.stderr[-1500:]}")
                continue
            now = json.loads(lines[-1].removeprefix("RESULT "))
            print(f"{method}: {now['tokens_per_second']:,.0f} tokens/s, {now['peak_mb']:,.0f} MB")
            before = found.get(method, now)
            found[method] = now | {
                "tokens_per_second": max(now["tokens_per_second"], before["tokens_per_second"]),
                "peak_mb": min(now["peak_mb"], before["peak_mb"]),
            }
    reference = found["ours"]
    print(f"{VOCABULARY:,} words, {BATCH} pairs a step, {reference['answers']:.0%} of the tokens are answers")
    print(f"{'':<16}{'tokens/s':>10}{'peak MB':>10}{'ours is faster':>16}{'our memory':>12}")
    for method, row in found.items():
        faster = reference["tokens_per_second"] / row["tokens_per_second"]
        share = reference["peak_mb"] / row["peak_mb"]
        print(f"{method:<16}{row['tokens_per_second']:>10,.0f}{row['peak_mb']:>10,.0f}{faster:>15.2f}x{share:>12.2f}")


if __name__ == "__main__":
    main()
