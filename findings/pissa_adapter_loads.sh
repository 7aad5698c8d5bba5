#!/usr/bin/env bash
# Loading one LoRA adapter twice that was begun with init_lora_weights="pissa_niter_4".
#
# Versions: peft 0.21.2, transformers 5.23.0, torch 2.13.0 (Python 3.11).
#
# Behaviour: PiSSA moves the leading singular vectors of each weight into the adapter and leaves the rest in the base
# model. The saved folder holds the adapter only, so that loading decomposes the base model's weights again, and
# "pissa_niter_N" does so by a randomised decomposition that draws from torch's global generator: the rest that is
# left in the base model is another one at every load, and the adapter saved no longer fits it. Both loads differ from
# the model that was saved, and from one another. With the exact "pissa" they agree; saving with
# path_initial_model_for_weight_conversion is the way out. Neither is the base model given back by unload(), which
# leaves the rest where the weights were.
#
# Output seen:
#   peft 0.21.2, transformers 5.23.0, torch 2.13.0
#   init_lora_weights  loaded = saved  two loads alike  base model after unload()
#   True               yes             yes              as before
#   pissa              yes             yes              changed
#   pissa_niter_4      no              no               changed
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
python=$work/venv/bin/python

cat >"$work/show.py" <<'PYTHON'
import tempfile
from importlib.metadata import version

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

tokens = torch.arange(10)[None]


def base() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=48, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).eval()


def loaded(folder: str, seed: int) -> PeftModel:
    model = base()
    torch.manual_seed(seed)
    return PeftModel.from_pretrained(model, folder).eval()


def alike(one, other) -> bool:
    with torch.no_grad():
        return torch.allclose(one(tokens).logits, other(tokens).logits, atol=1e-3)


print(", ".join(f"{name} {version(name).partition('+')[0]}" for name in ("peft", "transformers", "torch")))
print("init_lora_weights  loaded = saved  two loads alike  base model after unload()")
for begun in (True, "pissa", "pissa_niter_4"):
    model = base()
    torch.manual_seed(1)
    model = get_peft_model(model, LoraConfig(r=4, init_lora_weights=begun, target_modules=["q_proj", "down_proj"]))
    with tempfile.TemporaryDirectory() as folder:
        model.eval().save_pretrained(folder)
        first, second = loaded(folder, 2), loaded(folder, 3)
        same_as_saved = "yes" if alike(model, first) and alike(model, second) else "no"
        same_twice = "yes" if alike(first, second) else "no"
        after = "as before" if alike(first.unload(), base()) else "changed"
    print(f"{begun!s:<17}  {same_as_saved:<14}  {same_twice:<15}  {after}")
PYTHON

"$python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0 tokenizers==0.23.3 huggingface_hub==2.4.0 safetensors==0.8.0 numpy==2.4.6 \
    peft==0.21.2 accelerate==1.15.0
"$python" "$work/show.py" 2>"$work/log" | tee "$work/seen"
cat >"$work/expected" <<'TEXT'
peft 0.21.2, transformers 5.23.0, torch 2.13.0
init_lora_weights  loaded = saved  two loads alike  base model after unload()
True               yes             yes              as before
pissa              yes             yes              changed
pissa_niter_4      no              no               changed
TEXT
if ! diff "$work/expected" "$work/seen"; then
    cat "$work/log" >&2
    echo "The behaviour has changed." >&2
    exit 1
fi
