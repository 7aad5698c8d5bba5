#!/usr/bin/env bash
# What cells are embedded beside changes their vectors in Cell2Sentence.
#
# Versions: cell2sentence 1.2.0, transformers 5.23.0, torch 2.13.0 (Python 3.11).
#
# Behaviour: CSModel.embed_cells_batched pads the prompts of a batch on the left and takes the mean of the last layer
# over the whole row, the padding included. So the vector of a cell with a short sentence is another one beside a cell
# with a long sentence than alone, and tasks.embed_cells, which reads eight cells at a time in their order, gives vectors
# that depend on the order of the cells and on inference_batch_size. The mean over the cell's own tokens is the same in
# both. How far the vectors are apart depends on the weights: shown with random ones of a small GPT-NeoX, the
# architecture of the published Pythia models.
#
# Output seen:
#   cell2sentence 1.2.0, transformers 5.23.0, torch 2.13.0
#   30 genes alone, against beside 31 genes: cosine 0.9980
#   30 genes alone, against beside 60 genes: cosine 0.3350
#   30 genes alone, against beside 200 genes: cosine -0.0780
#   the mean over its own tokens, against alone: cosine 1.0000
#   the longest of the batch, against alone: cosine 1.0000
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
python=$work/venv/bin/python
"$python" -m pip install -q "cell2sentence==1.2.0" --no-deps
"$python" -m pip install -q "transformers==5.23.0" "torch==2.13.0" "tokenizers==0.23.3" "datasets==5.2.0" \
    "anndata==0.12.19" "scanpy==1.11.5" "numpy==2.4.6" plotnine

cat >"$work/show.py" <<'PYTHON'
import contextlib
import io
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from cell2sentence.csmodel import CSModel

warnings.simplefilter("ignore")
work = Path(sys.argv[1])
words = {"<|endoftext|>": 0, **{f"GENE{i}": i + 1 for i in range(300)}}
tokenizer = Tokenizer(models.WordLevel(words, unk_token="<|endoftext|>"))
tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(work / "model")
torch.manual_seed(0)
config = GPTNeoXConfig(
    vocab_size=301, hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=128
)
GPTNeoXForCausalLM(config).save_pretrained(work / "model")
with contextlib.redirect_stdout(io.StringIO()):
    cs = CSModel(str(work / "model"), str(work / "saved"), "tiny")
model = AutoModelForCausalLM.from_pretrained(cs.save_path).eval()
order = np.random.default_rng(0).permutation(300)


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def sentence(n, start=0):
    return " ".join(f"GENE{i}" for i in order[start : start + n])


print(", ".join(f"{name} {version(name).partition('+')[0]}" for name in ("cell2sentence", "transformers", "torch")))
with torch.no_grad():
    alone = cs.embed_cell(model, sentence(30))
    cosines = []
    for n in (31, 60, 200):
        beside, long = cs.embed_cells_batched(model, [sentence(30), sentence(n, 50)])
        cosines.append(cosine(alone, beside))
        print(f"30 genes alone, against beside {n} genes: cosine {cosines[-1]:.4f}")
    same = cosine(long, cs.embed_cell(model, sentence(200, 50)))
    batch = cs.tokenizer([sentence(30), sentence(200, 50)], padding=True, return_tensors="pt")
    states = model(batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True).hidden_states
    own = cosine(alone, states[-1][0][batch["attention_mask"][0].bool()].mean(0).numpy())
print(f"the mean over its own tokens, against alone: cosine {own:.4f}")
print(f"the longest of the batch, against alone: cosine {same:.4f}")
sys.exit(0 if cosines == sorted(cosines, reverse=True) and cosines[-1] < 0.9 and min(own, same) > 0.9999 else 1)
PYTHON
"$python" "$work/show.py" "$work"
