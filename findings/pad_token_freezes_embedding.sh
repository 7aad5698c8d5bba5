#!/usr/bin/env bash
# Using the end-of-sequence token as padding token, the usual answer to a tokenizer without one, and training.
#
# Versions: transformers 5.23.0, torch 2.13.0 (Python 3.11).
#
# Behaviour: Llama-like models build their input embedding with padding_idx=config.pad_token_id, and torch gives that
# row no gradient wherever the token stands. With pad_token_id equal to eos_token_id the end token between two turns
# is read by a vector of the model's beginning for ever (all zeros in a new model), though it is no padding there and
# the attention and the labels count it. Whether this holds depends on when pad_token_id was set: set on the config of
# a built model it does nothing until the model is saved and loaded. GPT-2 has no such row, and
# resize_token_embeddings keeps it.
#
# Output seen:
#   transformers 5.23.0, torch 2.13.0
#   gradient at the input embedding of the end token inside a sequence
#   llama, no padding token: yes
#   llama, pad_token_id=eos_token_id: none
#   llama, the same, resized: none
#   llama, pad_token_id set after it was built: yes
#   llama, the same, saved and loaded: none
#   gpt2, pad_token_id=eos_token_id: yes
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
python=$work/venv/bin/python

cat >"$work/show.py" <<'PYTHON'
import tempfile
from importlib.metadata import version

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

END = 2
sizes = dict(vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64)
tokens = torch.tensor([[5, 6, END, 7, 8, END, 9]])


def llama(**options) -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(**sizes, eos_token_id=END, tie_word_embeddings=False, **options))


def report(words: str, model) -> None:
    embedding = model.get_input_embeddings().weight
    logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), labels=tokens)
    (gradient,) = torch.autograd.grad(logits.loss, embedding)
    print(f"{words}: {'yes' if gradient[END].abs().sum() > 0 else 'none'}")


print(", ".join(f"{name} {version(name).partition('+')[0]}" for name in ("transformers", "torch")))
print("gradient at the input embedding of the end token inside a sequence")
report("llama, no padding token", llama())
model = llama(pad_token_id=END)
report("llama, pad_token_id=eos_token_id", model)
model.resize_token_embeddings(70)
report("llama, the same, resized", model)
model = llama()
model.config.pad_token_id = END
report("llama, pad_token_id set after it was built", model)
with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder)
report("llama, the same, saved and loaded", model)
gpt2 = GPT2Config(
    vocab_size=64, n_embd=32, n_layer=1, n_head=4, eos_token_id=END, pad_token_id=END, tie_word_embeddings=False
)
report("gpt2, pad_token_id=eos_token_id", GPT2LMHeadModel(gpt2))
PYTHON

"$python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0 tokenizers==0.23.3 huggingface_hub==2.4.0 safetensors==0.8.0 numpy==2.4.6
"$python" "$work/show.py" 2>"$work/log" | tee "$work/seen"
cat >"$work/expected" <<'TEXT'
transformers 5.23.0, torch 2.13.0
gradient at the input embedding of the end token inside a sequence
llama, no padding token: yes
llama, pad_token_id=eos_token_id: none
llama, the same, resized: none
llama, pad_token_id set after it was built: yes
llama, the same, saved and loaded: none
gpt2, pad_token_id=eos_token_id: yes
TEXT
if ! diff "$work/expected" "$work/seen"; then
    cat "$work/log" >&2
    echo "The behaviour has changed." >&2
    exit 1
fi
