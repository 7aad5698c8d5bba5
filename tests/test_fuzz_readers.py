"""Files that are not what they should be: every reader returns, or says in an error which file is wrong and why.

Valid files are cut, doubled and sprinkled with what breaks parsers; in JSON and TOML, values are also replaced.
"""

import gzip
import hashlib
import io
import json
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cellhermes as ch
from cellhermes._blocks import MARK, Shard, Work
from cellhermes._fetch import _bundle, _cache, _weights
from cellhermes.io._graphs import TAB3
from cellhermes.model import _adapter, _card
from cellhermes.tl._checkpoint import Arrays
from cellhermes.train import _run_file

EXPECTED = (ValueError, KeyError, TypeError, FileNotFoundError)


@dataclass(frozen=True)
class Reader:
    """How a kind of file is read (the call gets its path), what it is called, and valid files of it."""

    read: Callable[[Path], object]
    name: str
    valid: tuple[bytes | str | dict | list, ...]
    is_toml: bool = False


# ---- valid files


def lines(*rows: Iterable[str], sep: str = "\t") -> str:
    return "".join(sep.join(row) + "\n" for row in rows)


def biogrid() -> str:
    row = dict.fromkeys(TAB3, "-") | {
        "Official Symbol Interactor A": "MAP2K4", "Official Symbol Interactor B": "FLNC",
        "Experimental System": "Synthetic Lethality", "Experimental System Type": "physical",
        "Organism ID Interactor A": "9606", "Organism ID Interactor B": "9606",
    }  # fmt: skip
    return "#" + lines(row, row.values(), (row | {"Experimental System Type": "genetic"}).values())


def gzipped(text: str) -> bytes:
    return gzip.compress(text.encode(), mtime=0)


def zipped(**files: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return sink.getvalue()


def npz() -> bytes:
    sink = io.BytesIO()
    np.savez(sink, genes=np.array(["TP53", "LYZ"]), vectors=np.array([[1.0, 2.0], [3.0, 4.0]]))
    return sink.getvalue()


def parquet(frame: pd.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.to_parquet(sink)
    return sink.getvalue()


EDGES = lines(["a", "b"], ["TP53", "MDM2"], ["MDM2", "EGFR"], ["EGFR", "EGFR"])
LINKS = lines(["protein1", "protein2", "combined_score"], ["9606.ENSP1", "9606.ENSP2", "999"], sep=" ")
INFO = lines(["#string_protein_id", "preferred_name"], ["9606.ENSP1", "TP53"], ["9606.ENSP2", "MDM2"])
TENX = lines(
    ["barcode", "contig_id", "chain", "v_gene", "j_gene", "productive", "cdr3", "cdr3_nt", "reads", "umis"],
    ["AAAC-1", "c1", "TRA", "TRAV25", "TRAJ20", "True", "CGF", "TGTGGGTTC", "90", "4"],
    ["AAAC-1", "c2", "TRB", "TRBV5-1", "TRBJ2-7", "True", "CAF", "TGTGCCTTC", "80", "3"],
    sep=",",
)
AIRR = lines(
    ["cell_id", "sequence_id", "v_call", "j_call", "junction", "junction_aa", "duplicate_count", "productive"],
    ["AAAC-1", "c1", "TRAV25", "TRAJ20", "TGTGGGTTC", "CGF", "4", "T"],
)
DEPMAP = lines(["ModelID", "RPL3 (6122)", "OR4F5 (79501)"], ["ACH-000001", "-1.2", "0.1"], sep=",")
MODELS = lines(["ModelID", "CellLineName", "OncotreeLineage"], ["ACH-000001", "NIH:OVCAR-3", "Ovary"], sep=",")
CTD = (
    "# Fields:\n# GeneSymbol,GeneID,DiseaseName,DiseaseID,DirectEvidence\n#\n"
    "BRCA1,672,Breast Neoplasms,MESH:D001943,marker/mechanism\nACTB,60,Breast Neoplasms,MESH:D001943,\n"
)
ORPHANET = (
    '<?xml version="1.0" encoding="UTF-8"?><JDBOR><Disorder><OrphaCode>1</OrphaCode><Name lang="en">Fever</Name>'
    "<DisorderGeneAssociation><Gene><Symbol>MEFV</Symbol></Gene></DisorderGeneAssociation></Disorder></JDBOR>"
)
LABELS = lines(["gene", "class", "task"], ["MYOD1", "short", "range"], ["CTCF", "long", "range"], sep=",")
WORD2VEC = "2 3\nTP53 0.1 0.2 0.3\nLYZ 1 0 -1\n"
EFFECTS = lines(
    ["target", "names", "logfoldchanges", "pvals_adj"],
    ["KLF1+ctrl", "HBZ", "2.1", "1e-9"],
    ["KLF1+ctrl", "ACTB", "0.1", "0.8"],
    sep=",",
)
RECORD = {"instruction": "Do they interact?", "input": "BRCA1 PARP1", "output": "Yes", "task": "gi", "version": 1}
TASK = {
    "version": 1, "unit": "row", "source": "here", "instructions": ["Is {gene} there? Answer {answers}."],
    "input": "Gene {gene}", "expression": "Genes: {cell_sentence}", "answers": ["Yes", "No"], "label": "answer",
    "pattern": "<a>(.*?)</a>", "labels": {"1": "Yes"},
}  # fmt: skip
TRAIN = {"preset": "multitask", "rank": 4, "learning_rate": 1e-4, "adam_betas": [0.9, 0.99], "packing": True}
REINFORCE = {"group_size": 4, "temperature": 0.5, "class_weights": {"Yes": 2.0}, "train": {"rank": 4}}
RUN = {
    "out": "adapter", "base": "mini", "train": {**TRAIN, "max_steps": 1}, "evaluation": {"held_out": 1},
    "pairs": [{"path": "corpus.jsonl", "name": "a", "weight": 1.0, "cap": 3}],
}  # fmt: skip
RUN_OF_QUESTIONS = {
    "out": "adapter", "reinforce": REINFORCE,
    "questions": {"path": "questions.csv", "task": "question", "answers": ["Yes", "No"], "expression": False},
}  # fmt: skip
ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "mini", "r": 8, "lora_alpha": 16, "revision": None}
NOTE = {"wrap": "plain", "read_at": {"default": "mean", "cell": "prompt_end"}, "license": "MIT", "version": "0.1"}
LOCK = {
    "commit": "0" * 40,
    "files": {"a.json": {"name": "a.json", "urls": ["https://x"], "hash": "git:" + "0" * 40, "size": 3}},
}
INDEX = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}, "metadata": {}}
LOG = '{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 2.25, "eval_loss": 2.0}\n'

# ---- readers, whatever file stands beside the one that is damaged


def beside(path: Path, name: str, content: str) -> Path:
    made = path.with_name(name)
    made.write_text(content, "utf-8")
    return made


def card(path: Path) -> object:
    beside(path, "README.md", "# a model")
    beside(path, "config.json", "{}")
    return _card.resolve(path.parent)


def adapter_on_top(path: Path) -> object:
    return _card.trained_on(path.parent), _card.resolve(path.parent)


def checkpoint(path: Path) -> None:
    try:
        with Work(path.parent, Shard()) as work:
            work.claim({"block": 2})
    except FileExistsError as error:  # a folder that is not ours
        raise ValueError(str(error).replace(str(path.parent), str(path))) from error


def block(path: Path) -> object:
    kept = Arrays(path.parent)
    return kept.load(0) if kept.has(0) else None


def run_file(path: Path) -> object:
    """All that is read before a model is loaded."""
    others = [{**RECORD, "input": f"Gene {gene}"} for gene in ("CD3E", "LYZ")]  # questions to hold out, and to train on
    beside(path, "corpus.jsonl", "".join(json.dumps(one) + "\n" for one in others))
    beside(path, "questions.csv", "question,answer\nIs it?,Yes\n")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fit", "reinforce"):
            patch.setattr(_run_file, name, lambda *given, **named: path)
        return ch.train.run(path)


def index(path: Path) -> object:
    beside(path, "config.json", "{}")
    beside(path, "tokenizer.json", "{}")
    return _weights._incomplete(path.parent)


def bundle(path: Path) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELLHERMES_CACHE", str(path.parent / "cache"))
        return _bundle.read_bundle(path)


def bundled() -> bytes:
    sink = io.BytesIO()
    held = b"0123456789" * 5
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, content in {
            "cache/data/a/1/a.csv": held,
            _bundle.SUMS: f"{hashlib.sha256(held).hexdigest()}  cache/data/a/1/a.csv\n".encode(),
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return sink.getvalue()[: 6 * 512]  # without the padding


def saved(array: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array, allow_pickle=False)
    return sink.getvalue()


READERS = {
    "task": Reader(ch.text.Task.load, "task.toml", (TASK,), is_toml=True),
    "run": Reader(run_file, "run.toml", (RUN, RUN_OF_QUESTIONS), is_toml=True),
    "biogrid": Reader(ch.io.read_biogrid, "x.txt", (biogrid(), gzipped(biogrid()), zipped(a=biogrid()))),
    "genetic": Reader(ch.io.read_genetic_interactions, "x.txt", (biogrid(),)),
    "edges": Reader(ch.io.read_edges, "x.tsv", (EDGES, gzipped(EDGES), zipped(a=EDGES, b=EDGES))),
    "string links": Reader(lambda p: ch.io.read_string(p, info=beside(p, "i.txt", INFO)), "l.txt", (LINKS,)),
    "string info": Reader(lambda p: ch.io.read_string(beside(p, "links.txt", LINKS), info=p), "i.txt", (INFO,)),
    "gmt": Reader(ch.io.read_gmt, "x.gmt", ("A\tabout\tTP53\tLYZ,1.0\nB\t\tEGFR\n",)),
    "gmt.gz": Reader(ch.io.read_gmt, "x.gmt.gz", (gzipped("A\tabout\tTP53\tLYZ,1.0\nB\t\tEGFR\n"),)),
    "contigs": Reader(ch.io.read_contigs, "x.csv", (TENX, AIRR, gzipped(TENX))),
    "depmap": Reader(ch.io.read_depmap, "x.csv", (DEPMAP, zipped(a=DEPMAP))),
    "models": Reader(lambda p: ch.io.read_depmap(beside(p, "e.csv", DEPMAP), p), "m.csv", (MODELS,)),
    "categories": Reader(ch.io.read_gene_categories, "x.csv", (CTD, ORPHANET, gzipped(CTD))),
    "labels": Reader(ch.io.read_gene_labels, "x.csv", (LABELS, gzipped(LABELS))),
    "vectors in text": Reader(ch.io.read_embeddings, "x.txt", (WORD2VEC, WORD2VEC[4:], gzipped(WORD2VEC))),
    "vectors in csv": Reader(ch.io.read_embeddings, "x.csv", ("gene,0,1\nTP53,1,2\nLYZ,3,4\n",)),
    "vectors in npz": Reader(ch.io.read_embeddings, "x.npz", (npz(),)),
    "vectors in parquet": Reader(
        ch.io.read_embeddings, "x.parquet", (parquet(pd.DataFrame({"gene": ["TP53", "LYZ"], "a": [1.0, 2.0]})),)
    ),
    "vectors in zip": Reader(ch.io.read_embeddings, "x.zip", (zipped(**{"a.txt": WORD2VEC}),)),
    "effects": Reader(lambda p: ch.io.read_perturbation_effects(p, cell_line="K562"), "x.csv", (EFFECTS,)),
    "questions": Reader(ch.io.read_table, "x.json", ([RECORD, RECORD],)),
    "corpus": Reader(lambda p: list(ch.train.corpus.Pairs.read(p)), "x.jsonl", (json.dumps(RECORD) + "\n",)),
    "corpus as a list": Reader(lambda p: list(ch.train.corpus.Pairs.read(p)), "x.json", ([RECORD, RECORD],)),
    "corpus as parquet": Reader(
        lambda p: list(ch.train.corpus.Pairs.read(p)), "x.parquet", (parquet(pd.DataFrame([RECORD, RECORD])),)
    ),
    "adapter": Reader(adapter_on_top, "adapter_config.json", (ADAPTER,)),
    "adapter on a model": Reader(
        lambda p: _adapter.check(torch.nn.Module(), p.parent), "adapter_config.json", (ADAPTER | {"peft_type": "X"},)
    ),
    "note": Reader(card, "cellhermes.json", (NOTE,)),
    "lock": Reader(_weights.read_lock, "lock.json", (LOCK,)),
    "hash": Reader(lambda p: _cache.recorded(p.with_suffix("")), "x.sha256", (f"{'0' * 64}  x\n",)),
    "index of weights": Reader(index, "model.safetensors.index.json", (INDEX,)),
    "bundle": Reader(bundle, "x.tar", (bundled(),)),
    "log": Reader(ch.get.training_log, "log.jsonl", (LOG,)),
    "stamp of a checkpoint": Reader(checkpoint, "about.json", ({MARK: {"block": 2}},)),
    "block of a checkpoint": Reader(block, "000000.npy", (saved(np.ones((2, 3))),)),
}

# ---- what happens to them

SPICE = [
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3", b"\n", b"\r", b"\t", b" ", b",", b'"', b"'", b"#", b"{", b"}", b"[",
    b"]", b"{}", b"{0}", b"\\", b"<", b">", b"-", b"1e999", b"nan", b"inf", b"-1", b"9" * 30, b"\xc2\xb2",
    b"PK\x03\x04", b"\x1f\x8b", b"true", b"null", b"\xe2\x80\xa8", b"[" * 3000, b'{"a":' * 2000, b"<!DOCTYPE a>",
    b"a" * 3000,
]  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8),
    st.sampled_from(["", " ", "{}", "{gene", "{gene!r:>9}", "(", "mini", "../..", "C:\\x", "\0"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=4), one, max_size=3), max_leaves=4
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes with some of them missing, doubled, changed or added."""
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(content)))
        stop = min(len(content), start + draw(st.integers(0, 12)))
        what = draw(st.sampled_from(["cut", "end", "double", "spice", "replace", "flip"]))
        if what == "cut":
            content = content[:start] + content[stop:]
        elif what == "end":
            content = content[:start]
        elif what == "double":
            content = content[:stop] + content[start:]
        elif what == "flip" and start < len(content):
            content = content[:start] + bytes([content[start] ^ 1 << draw(st.integers(0, 7))]) + content[start + 1 :]
        else:
            new = draw(st.sampled_from(SPICE) | st.binary(max_size=6))
            content = content[:start] + new + content[stop if what == "replace" else start :]
    return content


def places(value: object, above: tuple = ()) -> Iterator[tuple]:
    yield above
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in items:
        yield from places(below, (*above, key))


def put(value: object, place: tuple, new: object) -> object:
    if not place:
        return new
    changed = value.copy()
    changed[place[0]] = put(value[place[0]], place[1:], new)
    return changed


def as_toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {as_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return '""' if value is None else json.dumps(value)


@st.composite
def contents(draw: st.DrawFn, reader: Reader) -> bytes:
    content = draw(st.sampled_from(reader.valid))
    if isinstance(content, dict | list):
        if draw(st.booleans()):
            content = put(content, draw(st.sampled_from(list(places(content)))), draw(VALUES))
        if reader.is_toml and isinstance(content, dict):
            content = "".join(f"{json.dumps(key)} = {as_toml(value)}\n" for key, value in content.items())
        else:
            content = json.dumps(content)
        if draw(st.booleans()):
            return content.encode("utf-8", "surrogatepass")
    content = content.encode() if isinstance(content, str) else content
    return draw(damaged(content))


def check(name: str, folder: Path, n_examples: int) -> None:
    reader = READERS[name]

    @settings(max_examples=n_examples, deadline=5000, suppress_health_check=list(HealthCheck), database=None)
    @given(contents(reader))
    def holds(content: bytes) -> None:
        path = folder / reader.name
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                reader.read(path)
            except EXPECTED as error:
                said = f"{error!r} {getattr(error, '__notes__', '')}"
                if path.name not in said and str(folder) not in said:
                    pytest.fail(f"{said} does not name the file")

    holds()


@pytest.mark.parametrize("name", READERS)
def test_valid_files_are_read(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    if name in ("adapter on a model", "edges"):
        pytest.skip("the content is refused, or one of several is")
    for content in reader.valid:
        if isinstance(content, dict | list):
            text = "".join(f"{key} = {as_toml(value)}\n" for key, value in content.items()) if reader.is_toml else None
            content = json.dumps(content) if text is None else text
        path = tmp_path / reader.name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        reader.read(path)


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_named(name: str, tmp_path: Path) -> None:
    check(name, tmp_path, 20)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_files_are_read_or_named(name: str, tmp_path: Path) -> None:
    check(name, tmp_path, 500)
