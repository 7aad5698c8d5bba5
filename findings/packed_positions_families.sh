#!/usr/bin/env bash
# Which causal models keep packed sequences apart when position_ids begin anew (no mask, use_cache=False)?
#
# Versions: transformers 5.23.0, torch 2.13.0 (Python 3.11).
#
# Behaviour: the mask is made by one shared function, which finds the sequences of a row by the positions that begin
# anew, but each model decides whether it hands the positions on. OPT, Falcon with rotary positions, BioGPT and
# gpt_oss use position_ids for their position embedding and not for the mask: the second sequence gets its own
# positions and attends to the first nonetheless. BLOOM and MPT have no such argument and swallow it without an error.
# Where a mask of four dimensions is taken, a block-diagonal one gives the logits of the sequence alone, so that
# nothing but the mask differs.
#
# Output seen:
#   transformers 5.23.0, torch 2.13.0
#   logits of the second sequence, compared with the sequence alone
#   family    position_ids  block-diagonal mask
#   llama     same          same
#   gpt_neox  same          same
#   gpt_neo   same          same
#   opt       other         same
#   falcon    other         same
#   biogpt    other         same
#   gpt_oss   other         same
#   bloom     other         not tried
#   mpt       other         not tried
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
python=$work/venv/bin/python

cat >"$work/show.py" <<'PYTHON'
from importlib.metadata import version

import torch
import transformers as t

sizes = dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
wide = dict(initializer_range=0.3)
configs = {
    "llama": t.LlamaConfig(**sizes, **wide, intermediate_size=64),
    "gpt_neox": t.GPTNeoXConfig(**sizes, **wide, intermediate_size=64),
    "gpt_neo": t.GPTNeoConfig(
        vocab_size=64, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global"], 2]], **wide
    ),
    "opt": t.OPTConfig(**sizes, ffn_dim=64, word_embed_proj_dim=32, max_position_embeddings=64, init_std=0.3),
    "falcon": t.FalconConfig(**sizes, **wide, alibi=False),
    "biogpt": t.BioGptConfig(**sizes, **wide, intermediate_size=64),
    "gpt_oss": t.GptOssConfig(
        **sizes, **wide, intermediate_size=64, num_key_value_heads=2, head_dim=8, num_local_experts=4,
        num_experts_per_tok=2,
    ),
    "bloom": t.BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4, **wide),
    "mpt": t.MptConfig(vocab_size=64, d_model=32, n_layers=2, n_heads=4, max_seq_len=64, **wide),
}
first, second = torch.arange(3, 10)[None], torch.arange(20, 26)[None]
packed = torch.cat([first, second], dim=1)
positions = torch.cat([torch.arange(first.shape[1]), torch.arange(second.shape[1])])[None]
sequence = torch.tensor([0] * first.shape[1] + [1] * second.shape[1])
allowed = (sequence[:, None] == sequence) & torch.ones(len(sequence), len(sequence)).tril().bool()
blocks = torch.where(allowed, 0.0, torch.finfo(torch.float32).min)[None, None]

print(", ".join(f"{name} {version(name).partition('+')[0]}" for name in ("transformers", "torch")))
print("logits of the second sequence, compared with the sequence alone")
print("family    position_ids  block-diagonal mask")
for family, config in configs.items():
    torch.manual_seed(0)
    model = t.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()

    def verdict(**options) -> str:
        logits = model(input_ids=packed, position_ids=positions, use_cache=False, **options).logits
        return "same" if torch.allclose(logits[:, first.shape[1] :], alone, atol=1e-4) else "other"

    with torch.no_grad():
        alone = model(input_ids=second, use_cache=False).logits
        masked = "not tried" if family in ("bloom", "mpt") else verdict(attention_mask=blocks)
        print(f"{family:<8}  {verdict():<12}  {masked}")
PYTHON

"$python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0 tokenizers==0.23.3 huggingface_hub==2.4.0 safetensors==0.8.0 numpy==2.4.6
"$python" "$work/show.py" 2>"$work/log" | tee "$work/seen"
cat >"$work/expected" <<'TEXT'
transformers 5.23.0, torch 2.13.0
logits of the second sequence, compared with the sequence alone
family    position_ids  block-diagonal mask
llama     same          same
gpt_neox  same          same
gpt_neo   same          same
opt       other         same
falcon    other         same
biogpt    other         same
gpt_oss   other         same
bloom     other         not tried
mpt       other         not tried
TEXT
if ! diff "$work/expected" "$work/seen"; then
    cat "$work/log" >&2
    echo "The behaviour has changed." >&2
    exit 1
fi
