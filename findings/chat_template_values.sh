#!/usr/bin/env bash
# Values that are no plain list or string, handed to a chat template: an AnnData's gene names, a date, a function.
#
# Versions: transformers 5.23.0, jinja2 3.1.6, pandas 2.3.3, numpy 2.4.6 (Python 3.11).
#
# Behaviour: apply_chat_template hands its keyword arguments and the messages to the template, but first replaces every
# value that is not of a known kind by a string that names its type. A list of genes is a list in the template; the same
# genes as pandas.Index (adata.var_names) or numpy array are the string "<Index>", over which a loop runs letter by
# letter, and a date is "<date>". The prompt is made without an error or a warning. A function becomes "<function>", so
# that the usual strftime_now cannot be set to a fixed day by an argument. jinja2 itself renders all of them.
#
# Output seen:
#   transformers 5.23.0, jinja2 3.1.6
#   list      Genes: CD4 CD8A. | jinja2: Genes: CD4 CD8A.
#   Index     Genes: < I n d e x >. | jinja2: Genes: CD4 CD8A.
#   ndarray   Genes: < n d a r r a y >. | jinja2: Genes: CD4 CD8A.
#   date      <date> | jinja2: 2026-01-31
#   Decimal   <Decimal> | jinja2: 0.05
#   function  TypeError: 'str' object is not callable | jinja2: 2026
#   warnings: 0
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
python=$work/venv/bin/python

cat >"$work/render.py" <<'PYTHON'
import datetime
import decimal
import warnings
from importlib.metadata import version

import jinja2
import numpy as np
import pandas as pd
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")
loop = "Genes:{% for gene in value %} {{ gene }}{% endfor %}."
genes = ["CD4", "CD8A"]


def year(form: str) -> str:
    return "2026"


def rendered(template: str, value) -> str:
    try:
        return tokenizer.apply_chat_template(
            [{"role": "user", "content": "Which cell?"}], chat_template=template, tokenize=False, value=value
        )
    except TypeError as error:
        return f"TypeError: {error}"


print(", ".join(f"{name} {version(name)}" for name in ("transformers", "jinja2")))
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    for template, value in [
        (loop, genes),
        (loop, pd.Index(genes)),
        (loop, np.array(genes)),
        ("{{ value }}", datetime.date(2026, 1, 31)),
        ("{{ value }}", decimal.Decimal("0.05")),
        ("{{ value('%Y') }}", year),
    ]:
        plain = jinja2.Template(template).render(value=value)
        print(f"{type(value).__name__:<9} {rendered(template, value)} | jinja2: {plain}")
print(f"warnings: {len(seen)}")
PYTHON

"$python" -m pip install --quiet --disable-pip-version-check \
    transformers==5.23.0 tokenizers==0.23.3 huggingface_hub==2.4.0 jinja2==3.1.6 pandas==2.3.3 numpy==2.4.6
"$python" "$work/render.py" 2>"$work/log" | tee "$work/seen"
cat >"$work/expected" <<'TEXT'
transformers 5.23.0, jinja2 3.1.6
list      Genes: CD4 CD8A. | jinja2: Genes: CD4 CD8A.
Index     Genes: < I n d e x >. | jinja2: Genes: CD4 CD8A.
ndarray   Genes: < n d a r r a y >. | jinja2: Genes: CD4 CD8A.
date      <date> | jinja2: 2026-01-31
Decimal   <Decimal> | jinja2: 0.05
function  TypeError: 'str' object is not callable | jinja2: 2026
warnings: 0
TEXT
if ! diff "$work/expected" "$work/seen"; then
    cat "$work/log" >&2
    echo "The behaviour has changed." >&2
    exit 1
fi
