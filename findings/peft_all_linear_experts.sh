#!/usr/bin/env bash
# LoRA with target_modules="all-linear" and r=2 on mixture-of-experts models.
#
# Versions: peft 0.21.2, transformers 5.23.0, torch 2.13.0 (Python 3.11).
#
# Behaviour: the experts of transformers 5 are tensors of three dimensions and no linear layers. For Mixtral and
# Qwen3-MoE peft adds them by itself, and the routing layer with them, which is a linear map too and so begins to be
# trained. The first tensor of the experts gets twice the rank asked for, by a rank_pattern that peft writes into the
# config; yet peft then warns that this very pattern matched nothing and was ignored. For gpt_oss, whose experts are
# kept likewise, the same option adapts the attention only: neither experts nor router, without a word.
#
# Output seen:
#   peft 0.21.2, transformers 5.23.0, torch 2.13.0
#   mixtral, r=2: ranks attention 2, router 2, gate_up_proj 4, down_proj 2
#     warned that rank_pattern for gate_up_proj was ignored: yes
#   qwen3_moe, r=2: ranks attention 2, router 2, gate_up_proj 4, down_proj 2
#     warned that rank_pattern for gate_up_proj was ignored: yes
#   gpt_oss, r=2: ranks attention 2
#     warned that rank_pattern for gate_up_proj was ignored: no
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
python=$work/venv/bin/python

cat >"$work/show.py" <<'PYTHON'
import warnings
from importlib.metadata import version

import transformers as t
from peft import LoraConfig, get_peft_model

N_EXPERTS = 4
sizes = dict(vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2)
configs = {
    "mixtral": t.MixtralConfig(**sizes, intermediate_size=64, num_local_experts=N_EXPERTS),
    "qwen3_moe": t.Qwen3MoeConfig(
        **sizes, intermediate_size=64, moe_intermediate_size=16, head_dim=8, num_experts=N_EXPERTS,
        num_experts_per_tok=2,
    ),
    "gpt_oss": t.GptOssConfig(
        **sizes, intermediate_size=64, head_dim=8, num_local_experts=N_EXPERTS, num_experts_per_tok=2
    ),
}


def place(name: str, weight) -> tuple[str, int]:
    """Say what a lora_A matrix adapts, and its rank for one expert."""
    if "self_attn" in name:
        return "attention", weight.shape[0]
    if "experts" not in name:
        return "router", weight.shape[0]
    # the first tensor, of shape (experts, 2 x intermediate, hidden), reads the hidden state
    return "gate_up_proj" if weight.shape[1] == sizes["hidden_size"] else "down_proj", weight.shape[0] // N_EXPERTS


print(", ".join(f"{name} {version(name).partition('+')[0]}" for name in ("peft", "transformers", "torch")))
for family, config in configs.items():
    model = t.AutoModelForCausalLM.from_config(config)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    ranks = dict(place(name, weight) for name, weight in model.named_parameters() if "lora_A" in name)
    order = [part for part in ("attention", "router", "gate_up_proj", "down_proj") if part in ranks]
    print(f"{family}, r=2: ranks {', '.join(f'{part} {ranks[part]}' for part in order)}")
    warned = any("rank_pattern" in str(one.message) and "gate_up_proj" in str(one.message) for one in seen)
    print(f"  warned that rank_pattern for gate_up_proj was ignored: {'yes' if warned else 'no'}")
PYTHON

"$python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0 tokenizers==0.23.3 huggingface_hub==2.4.0 safetensors==0.8.0 numpy==2.4.6 \
    peft==0.21.2 accelerate==1.15.0
"$python" "$work/show.py" 2>"$work/log" | tee "$work/seen"
cat >"$work/expected" <<'TEXT'
peft 0.21.2, transformers 5.23.0, torch 2.13.0
mixtral, r=2: ranks attention 2, router 2, gate_up_proj 4, down_proj 2
  warned that rank_pattern for gate_up_proj was ignored: yes
qwen3_moe, r=2: ranks attention 2, router 2, gate_up_proj 4, down_proj 2
  warned that rank_pattern for gate_up_proj was ignored: yes
gpt_oss, r=2: ranks attention 2
  warned that rank_pattern for gate_up_proj was ignored: no
TEXT
if ! diff "$work/expected" "$work/seen"; then
    cat "$work/log" >&2
    echo "The behaviour has changed." >&2
    exit 1
fi
