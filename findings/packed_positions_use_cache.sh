#!/usr/bin/env bash
# Two sequences packed into one row, told apart by position_ids that begin anew, with and without use_cache.
#
# Versions: transformers 5.23.0, torch 2.13.0 (Python 3.11).
#
# Behaviour: without an attention mask, transformers reads from restarting position_ids that a row holds several
# sequences and keeps them apart, so the second has the logits it has alone. It does so only when no cache is given,
# and with use_cache=True, which is the default of these models in evaluation and in training, the model makes an
# empty cache before the mask is made: the second sequence then attends to the first, silently. use_cache, an option
# about speed, thus changes every logit of later sequences. An attention mask of ones, which masks nothing, has the
# same effect.
#
# Output seen:
#   transformers 5.23.0, torch 2.13.0
#   logits of the second sequence, compared with the sequence alone
#   model  use_cache=False  default  use_cache=False, mask of ones
#   llama  same             other    other
#   qwen2  same             other    other
#   gpt2   same             other    other
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
python=$work/venv/bin/python

cat >"$work/show.py" <<'PYTHON'
from importlib.metadata import version

import torch
import transformers
from transformers import GPT2Config, LlamaConfig, Qwen2Config

sizes = dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, initializer_range=0.3)
configs = {
    "llama": LlamaConfig(**sizes, intermediate_size=64),
    "qwen2": Qwen2Config(**sizes, intermediate_size=64, num_key_value_heads=4),
    "gpt2": GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3),
}
first, second = torch.arange(3, 10)[None], torch.arange(20, 26)[None]
packed = torch.cat([first, second], dim=1)
positions = torch.cat([torch.arange(first.shape[1]), torch.arange(second.shape[1])])[None]
ways = {
    "use_cache=False": {"use_cache": False},
    "default": {},
    "use_cache=False, mask of ones": {"use_cache": False, "attention_mask": torch.ones_like(packed)},
}

print(", ".join(f"{name} {version(name).partition('+')[0]}" for name in ("transformers", "torch")))
print("logits of the second sequence, compared with the sequence alone")
print("model  " + "  ".join(ways))
for name, config in configs.items():
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        alone = model(input_ids=second, use_cache=False).logits
        words = []
        for way, options in ways.items():
            logits = model(input_ids=packed, position_ids=positions, **options).logits[:, first.shape[1] :]
            words.append(f"{'same' if torch.allclose(logits, alone, atol=1e-4) else 'other':<{len(way)}}")
    print(f"{name:<5}  {'  '.join(words)}".rstrip())
PYTHON

"$python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0 tokenizers==0.23.3 huggingface_hub==2.4.0 safetensors==0.8.0 numpy==2.4.6
"$python" "$work/show.py" 2>"$work/log" | tee "$work/seen"
cat >"$work/expected" <<'TEXT'
transformers 5.23.0, torch 2.13.0
logits of the second sequence, compared with the sequence alone
model  use_cache=False  default  use_cache=False, mask of ones
llama  same             other    other
qwen2  same             other    other
gpt2   same             other    other
TEXT
if ! diff "$work/expected" "$work/seen"; then
    cat "$work/log" >&2
    echo "The behaviour has changed." >&2
    exit 1
fi
