#!/usr/bin/env bash
# The order of prompts in GRPO training that goes on from a checkpoint.
#
# Versions: trl 1.16.0, transformers 5.23.0, accelerate 1.15.0, datasets 5.2.0, torch 2.13.0 (Python 3.11).
#
# Behaviour: a run of Trainer that is resumed reads what an uninterrupted run would have read: the sampler is told the
# epoch, and batches that were read already are skipped. The sampler of GRPOTrainer is told no epoch. It draws an order
# from one generator each time a process asks it, so that the second order of a process is that of its second epoch,
# and a process that resumes in the second epoch reads the order of the first one again. Here six prompts, one a step,
# are read in two epochs. The run that resumes from the checkpoint of step 6 repeats the order of epoch 1; the one that
# resumes from step 8 skips two places of that order, so that it reads prompts that this epoch had read already, and
# leaves others out. Losses and weights differ from the uninterrupted run, and nothing is said.
#
# Output seen:
#   trl 1.16.0, transformers 5.23.0
#   uninterrupted, epoch 1    b f c a d e
#   uninterrupted, epoch 2    b c d f e a
#   resumed from step 6       b f c a d e
#   resumed from step 8           c a d e
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
python=$work/venv/bin/python

cat >"$work/show.py" <<'PYTHON'
import os
import sys
from importlib.metadata import version

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

words = ["<pad>", "<eos>", *"abcdef"]
raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
raw.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>")


def run(checkpoint=None):
    """Prompts in the order in which they are read."""
    read = []

    def reward(prompts, completions, **_):
        read.append(prompts[0])
        return [float(len(text)) for text in completions]

    torch.manual_seed(0)
    shape = dict(vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1)
    shape |= dict(num_attention_heads=2, num_key_value_heads=2, eos_token_id=1, pad_token_id=0)
    model = LlamaForCausalLM(LlamaConfig(**shape))
    args = GRPOConfig(
        output_dir="run", num_train_epochs=2, per_device_train_batch_size=2, num_generations=2, save_steps=2,
        gradient_accumulation_steps=1, max_completion_length=2, report_to=[], use_cpu=True, disable_tqdm=True,
        logging_strategy="no", seed=1,
    )
    trainer = GRPOTrainer(
        model=model, reward_funcs=reward, args=args, train_dataset=Dataset.from_dict({"prompt": list("abcdef")}),
        processing_class=tokenizer,
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    return " ".join(read)


out = sys.stdout
sys.stdout = open(os.devnull, "w")
whole, from_6, from_8 = run(), run("run/checkpoint-6"), run("run/checkpoint-8")
print(", ".join(f"{name} {version(name)}" for name in ("trl", "transformers")), file=out)
print("uninterrupted, epoch 1   ", whole[:11], file=out)
print("uninterrupted, epoch 2   ", whole[12:], file=out)
print("resumed from step 6      ", from_6, file=out)
print("resumed from step 8          ", from_8, file=out)
PYTHON

"$python" -m pip install --quiet --disable-pip-version-check \
    trl==1.16.0 transformers==5.23.0 accelerate==1.15.0 datasets==5.2.0 torch==2.13.0
cd "$work"
HF_HUB_OFFLINE=1 "$python" "$work/show.py" 2>"$work/log" | tee "$work/seen"
cat >"$work/expected" <<'TEXT'
trl 1.16.0, transformers 5.23.0
uninterrupted, epoch 1    b f c a d e
uninterrupted, epoch 2    b c d f e a
resumed from step 6       b f c a d e
resumed from step 8           c a d e
TEXT
if ! diff "$work/expected" "$work/seen"; then
    cat "$work/log" >&2
    echo "The behaviour has changed." >&2
    exit 1
fi
