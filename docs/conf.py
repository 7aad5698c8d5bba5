"""Sphinx configuration, and the pages whose tables come from the package's own TOML files."""

import inspect
import os
import shutil
import tomllib
import warnings
from importlib.metadata import version as installed_version
from importlib.resources import files
from operator import attrgetter
from pathlib import Path

from sphinx.deprecation import RemovedInSphinx10Warning

import cellhermes as ch

# once for each parsed type, from inside the extension
warnings.filterwarnings("ignore", category=RemovedInSphinx10Warning, module="sphinx_autodoc_typehints")

HERE = Path(__file__).parent

project = "cellhermes"
author = "cellhermes developers"
project_copyright = "2026, cellhermes developers"
release = version = installed_version("cellhermes")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_autodoc_typehints",  # types from the signatures
    "scanpydoc.elegant_typehints",  # prose under Returns
    "scanpydoc.definition_list_typed_field",
    "sphinx_copybutton",
]
nitpicky = True
exclude_patterns = ["_build", "_generated", "**.ipynb_checkpoints"]
templates_path = ["_templates"]

nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = True
typehints_defaults = "braces"
typehints_document_rtype_none = False  # pp and tl say under Returns what they write
always_use_bars_union = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "sphinx_book_theme"
html_title = "cellhermes"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_theme_options = {
    "repository_url": "https://github.com/cellhermes/cellhermes",
    "use_repository_button": True,
    "path_to_docs": "docs",
}

# Links into other projects need their inventories from the network, so they are made where the pages are published;
# elsewhere the names stay plain text and the build is complete without a connection.
if os.environ.get("READTHEDOCS"):
    intersphinx_mapping = {
        "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
        "matplotlib": ("https://matplotlib.org/stable/", None),
        "mudata": ("https://mudata.readthedocs.io/stable/", None),
        "networkx": ("https://networkx.org/documentation/stable/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "pandas": ("https://pandas.pydata.org/docs/", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable/", None),
        "python": ("https://docs.python.org/3/", None),
        "torch": ("https://docs.pytorch.org/docs/stable/", None),
    }
_EXTERNAL = "|".join(
    [
        "accelerate",
        "anndata",
        "builtins",
        "collections",
        "importlib",
        "matplotlib",
        "mudata",
        "networkx",
        "numpy",
        "os",
        "pandas",
        "pathlib",
        "peft",
        "scanpy",
        "scipy",
        "sklearn",
        "tokenizers",
        "torch",
        "transformers",
        "typing",
    ]
)
nitpick_ignore_regex = [
    (r"py:.*", rf"({_EXTERNAL})(\..*)?"),
    (r"py:.*", r"(bool|bytes|dict|float|int|list|object|set|str|tuple|type|None|Ellipsis)"),
    (r"py:.*", r"[A-Z]\w*Error"),  # Python's own exceptions
    (r"py:.*", r"(np|pd|nx)\..*"),
    (r"py:class", r"cellhermes\.train\.corpus\._groups\.Group"),  # what a function that makes groups returns
]


def _public_places() -> dict[str, str]:
    """Where a public class or function is documented, by where it is defined."""
    places = {}
    spaces = [name for name in ch.__all__ if inspect.ismodule(getattr(ch, name))]
    for space in (*spaces, "train.corpus", "train.questions"):
        room = attrgetter(space)(ch)
        for name in room.__all__:
            thing = getattr(room, name)
            shown = f"cellhermes.{name}" if name in ch.__all__ else f"cellhermes.{space}.{name}"
            places[f"{thing.__module__}.{thing.__qualname__}"] = shown
    return places


qualname_overrides = _public_places()


# ---- tables from TOML


def _markdown(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines) + "\n"


def _models_table() -> str:
    rows = [["name", "what it is", "base", "adapters, merged in this order", "licence of the weights"]]
    for name, model in ch.cache.list().query("kind == 'model'").iterrows():
        base, *adapters = [f"`{part}`" for part in model["holds"].split(" -> ")]
        base = "in the package" if "bundled:" in base else base
        adapters = ", ".join(adapters)
        rows.append([f"`{name}`", model["description"], base, adapters or "none", model["license"]])
    return _markdown(rows)


def _data_page() -> str:
    """Every artefact: what it is, where from, licence, how to cite it."""
    titles = {"data": "Data sets", "model": "Weights"}
    table = tomllib.loads((files("cellhermes") / "registry.toml").read_text("utf-8"))
    lines = []
    for kind, entries in table.items():
        lines += [f"## {titles[kind]}", ""]
        for name, entry in entries.items():
            lines += [f"### `{name}`", "", f"{entry['description']}. Version {entry['version']}.", ""]
            held = [
                f"`{file['name']}`" + (f" ({file['size']:,} bytes)" if file["size"] else "") for file in entry["files"]
            ]
            lines += [f"- files: {', '.join(held)}"] if held else []
            lines += [f"- sits on `{entry['parent']}`"] if entry.get("parent") else []
            hashes = dict.fromkeys(file["hash"] for file in entry["files"])
            lines += [f"- checked against: {', '.join(f'`{one}`' for one in hashes)}"] if hashes else []
            lines += [f"- commit: `{entry['commit']}`"] if "commit" in entry else []
            lines += [
                f"- from: <{entry['source']}>",
                f"- licence: {entry['license']}",
                f"- cite: {entry['citation']}",
                "",
            ]
    return "\n".join(lines)


def _templates_table() -> str:
    rows = [["template", "version", "text", "the vector stands for"]]
    for name in ch.text.Template.names():
        template = ch.text.Template.load(name)
        if template.entity is not None:
            wordings = "<br>".join(f"`{wording}`" for wording in template.variants)
            rows.append([f"`{name}`", str(template.version), wordings, f"`{{{template.entity}}}`"])
    return _markdown(rows)


def _wraps_table() -> str:
    def shown(text: str) -> str:
        return f"`{text}`".replace("\n", "\\n") if text.strip() else ("a blank" if text else "nothing")

    rows = [["wrap", "before the prompt", "after the prompt", "an answer begins with", "an answer ends with"]]
    rows += [
        [f"`{name}`", *(shown(part) for part in (wrap.head, wrap.tail, wrap.lead, wrap.end))]
        for name, wrap in ((name, ch.text.Wrap.load(name)) for name in ch.text.Wrap.names())
    ]
    return _markdown(rows)


def _corpus_gallery() -> str:
    """Every wording and every block of the corpus, with a pair of generated data for each kind."""
    adata, ppi = ch.datasets.toy(n_obs=40), ch.datasets.ppi("toy")
    ch.pp.cell_sentences(adata, n_genes=16)
    sets = [
        ch.train.corpus.mlm_pairs(adata, metadata=["cell_type", "donor"]),
        ch.train.corpus.ar_pairs(adata, metadata=["cell_type", "donor"], n_prefix=(8, 11), n_answer=5),
        ch.train.corpus.node_pairs(ppi, n_neighbors=(5, 4, 3)),
        ch.train.corpus.link_pairs(ppi, n_neighbors=(5, 4, 3)),
    ]
    return "\n".join(_objective(pairs) for pairs in sets)


def _objective(pairs: ch.train.corpus.Pairs) -> str:
    names = [name for name in ch.text.Template.names() if name.split("/")[0] == pairs.task and name.count("/") == 1]
    first = ch.text.Template.load(names[0])
    lines = [f"## `{pairs.task}`, version {first.version}", "", "The twenty descriptions:", ""]
    # numbered from 0, as in the column `variant`
    lines += [f"{i}. {text.splitlines()[0]}" for i, text in enumerate(first.variants)]
    for i, name in enumerate(names):
        block = ch.text.Template.load(name).variants[0].split("\n", 1)[1]
        # another wording for each kind
        pair = next(p for p in pairs if p.prompt.kind == name and p.prompt.variant % len(names) == i)
        example = f"{pair.prompt.text}\n-> {pair.answer}"
        lines += ["", f"### `{name}`", "", "Block:", "", _fenced(block), "", "A pair:", "", _fenced(example)]
    return "\n".join(lines) + "\n"


def _fenced(text: str) -> str:
    return f"```text\n{text}\n```"


def _modalities_table() -> str:
    rows = [["modality", "one word of a sentence", "in front of the list", "what may stand in it"]]
    for name in ch.text.Modality.names():
        modality = ch.text.Modality.load(name)
        genes = modality.mask == "protein_coding"
        rule = "the rules of `pp.mask_genes`" if genes else f"names that match `{modality.mask}`"
        rows.append([f"`{name}`", f"{modality.noun}, {modality.nouns}", f"`{modality.sentence}:`", rule])
    return _markdown(rows)


def _relations_table() -> str:
    words = ["network", "edge", "verb", "partners"]
    table = tomllib.loads((files("cellhermes.text") / "templates" / "relations.toml").read_text("utf-8"))
    return _markdown([["relation", *words], *([f"`{name}`", *(row[w] for w in words)] for name, row in table.items())])


def _write_tables() -> None:
    folder = HERE / "_generated"
    folder.mkdir(exist_ok=True)
    tables = {
        "data.md": _data_page,
        "models.md": _models_table,
        "templates.md": _templates_table,
        "wraps.md": _wraps_table,
        "corpus.md": _corpus_gallery,
        "modalities.md": _modalities_table,
        "relations.md": _relations_table,
    }
    for name, table in tables.items():
        (folder / name).write_text(table(), "utf-8")


def _copy_tutorials() -> None:
    """Make pages of the notebooks at the root of the repository; their outputs are stored in them."""
    folder = HERE / "tutorials"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HERE.parent / "tutorials", folder, ignore=shutil.ignore_patterns(".*"))


_write_tables()
_copy_tutorials()
