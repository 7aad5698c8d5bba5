"""The rules of the house that no single module can check: layering, signatures, data files, documents."""

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import cellhermes as ch
from cellhermes import _keys

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "cellhermes"
MODULES = sorted(PACKAGE.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
NAMESPACES = [name for name in ch.__all__ if inspect.ismodule(getattr(ch, name))]
ROOMS = ["train.corpus", "train.questions"]  # public rooms within a room, and floors of their own

# Who may import whom. Planned parts stand here already, so that they are born on their floor.
MAY_IMPORT = {
    "_keys": set(),
    "_fetch": {"_disk"},
    "_disk": set(),
    "_blocks": {"_disk"},
    "_paths": set(),
    "_place": set(),
    "_symbols": set(),
    "_gene_names": {"_symbols"},
    "text": {"_symbols"},
    "io": {"_disk", "_symbols"},
    "metrics": {"_keys", "_streams", "_symbols"},
    "baselines": {"_streams", "_symbols"},
    "model": {"text", "_disk", "_fetch"},
    "_rows": set(),
    "_adata": {"_entries", "_gene_names", "_keys", "_paths", "_place", "_rows", "_symbols"},
    "_groups": {"_adata", "_keys"},
    "_entries": {"_keys"},
    "_hash": {"text"},
    "_chunks": {"_disk"},
    "_result": {"_adata", "_blocks", "_chunks", "_disk", "_hash", "_keys"},
    "_networks": {"_adata", "_groups", "_keys"},
    "_vectors": {"_adata", "_groups", "_keys"},
    "_explained": {"_adata", "_keys"},
    "pp": {"text", "_adata", "_blocks", "_chunks", "_entries", "_gene_names", "_groups", "_hash", "_keys"}
    | {"_result", "_rows", "_symbols"},
    "tl": {"text", "model", "_adata", "_blocks", "_chunks", "_disk", "_networks", "_vectors", "_explained"}
    | {"_entries", "_fetch", "_groups", "_hash", "_keys", "_result", "_rows", "_streams", "io"},
    "get": {"_adata", "_disk", "_groups", "_networks", "_vectors", "_explained", "_keys", "text"},
    "pl": {"_keys", "get"},
    "datasets": {"_disk", "_fetch", "io"},
    "cache": {"_disk", "_fetch", "model"},
    "_streams": set(),
    "train.corpus": {"text", "_adata", "_blocks", "_disk", "_keys", "_place", "_rows", "_streams", "io"},
    "train.questions": {"text", "train.corpus", "_disk", "_streams", "_symbols"},
    "train": {"text", "model", *ROOMS, "_blocks", "_disk", "_keys", "_paths", "_place", "_streams", "io"},
    "_options": set(),
    "cli": {"cellhermes", "_adata", "_blocks", "_disk", "_entries", "_options", "_paths", "_place", "_result"}
    | {*NAMESPACES, *ROOMS},
    "__main__": {"cli"},
    "__init__": {"cellhermes", *NAMESPACES},
}


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def floor_of(path: Path) -> str:
    """First part of a module's place below the package, or a room's two: ``text``, ``_keys``, ``train.corpus``, ..."""
    return floor_named(path.relative_to(PACKAGE).with_suffix("").parts)


def floor_named(parts: Sequence[str]) -> str:
    room = ".".join(parts[:2])
    return room if room in ROOMS else parts[0]


def imported(path: Path, source: str | None = None) -> Iterator[tuple[int, str]]:
    """(line, absolute name) of whatever a module imports, wherever in the file it does."""
    here = ("cellhermes", *path.relative_to(PACKAGE).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text("utf-8") if source is None else source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # one dot is the package that holds the module, also when the module is that package's __init__
            start = ".".join(here[: len(here) - node.level]) if node.level else ""
            module = ".".join(part for part in (start, node.module) if part)
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def upward(path: Path, source: str | None = None) -> list[str]:
    """Imports of our own that the table does not allow."""
    floor = floor_of(path)
    found = []
    for line, name in imported(path, source):
        parts = name.split(".")
        if parts[0] != "cellhermes":
            continue
        target = floor_named(parts[1:]) if len(parts) > 1 else "cellhermes"
        if target == "CellHermes":  # the one class at the top, which lives in model
            target = "model"
        private = floor == "cli" != target and any(part.startswith("_") for part in parts[2:])
        if private or (target != floor and target not in MAY_IMPORT[floor]):
            found.append(f"{name_of(path)}:{line} imports {name}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_imports_upward(path: Path) -> None:
    assert floor_of(path) in MAY_IMPORT, "give the new part a line in MAY_IMPORT and in docs/design.md"
    assert upward(path) == []


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("text/_template.py", "from ..model import CellHermes"),
        ("text/_template.py", "def f():\n    import cellhermes.tl"),
        ("model/_card.py", "from .. import pp"),
        ("tl/_embed.py", "from ..get import prompts"),
        ("metrics/__init__.py", "from .._adata import resolve"),
        ("get/_prompts.py", "import cellhermes"),
        ("cli/_vectors.py", "from ..model import _card"),
        ("train/corpus/_pairs.py", "from .._fit import fit"),
        ("train/corpus/_pairs.py", "from .. import _fit"),
        ("train/corpus/_pairs.py", "from ..questions import split"),
    ],
)
def test_layering_check_sees_an_upward_import(place: str, source: str) -> None:
    assert len(upward(PACKAGE / place, source)) == 1


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("tl/_embed.py", "from ..model import CellHermes"),
        ("tl/_embed.py", "from ._other import helper"),
        ("pp/__init__.py", "from ._genes import mask_genes"),
        ("train/_fit.py", "from . import corpus"),
        ("train/questions/_task_pairs.py", "from ..corpus._pairs import Pairs"),
        ("cli/_vectors.py", "import cellhermes as ch\nfrom cellhermes import pp"),
    ],
)
def test_layering_check_lets_a_downward_import_pass(place: str, source: str) -> None:
    assert upward(PACKAGE / place, source) == []


def declared(extra: str | None = None) -> dict[str, Requirement]:
    lines = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(r.name): r for r in requirements if r.name != PROJECT["name"]}


def test_every_imported_library_is_declared() -> None:
    distribution = {"sklearn": "scikit-learn", "community": "python-louvain", "huggingface_hub": "huggingface-hub"}
    distribution |= {"scib_metrics": "scib-metrics", "scvi": "scvi-tools"}
    extras = ("train", "rl", "metrics", "scvi", "quantize", "gguf")
    known = {*declared(), *(name for extra in extras for name in declared(extra))}
    missing = {
        f"{name_of(path)} imports {top}"
        for path in MODULES
        for _, name in imported(path)
        if (top := name.split(".")[0]) not in {*sys.stdlib_module_names, "cellhermes"}
        and distribution.get(top, top) not in known
        # dask only appears when the caller's matrix is a dask array, so it is installed then
        and top != "dask"
    }
    assert sorted(missing) == []


def test_importing_cellhermes_loads_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "scanpy", "numba", "peft")
    code = f"import sys, cellhermes; print(*[name for name in {heavy} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == []


def test_code_that_comes_with_a_model_is_never_run() -> None:
    """Left out, ``trust_remote_code`` makes transformers ask on the terminal."""
    calls = [
        (name_of(path), node)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and re.match(r"(transformers\.)?Auto\w+\.(from_\w+)$", ast.unparse(node.func))
    ]
    assert len(calls) >= 4
    assert [
        f"{name}:{node.lineno}"
        for name, node in calls
        if "trust_remote_code=False" not in {ast.unparse(keyword) for keyword in node.keywords}
    ] == []
    assert "trust_remote_code=True" not in "".join(path.read_text("utf-8") for path in MODULES)


# ---- public functions


def public(kind: Callable[[object], bool]) -> dict[str, Callable]:
    """Public objects of a kind by dotted name, each once."""
    spaces = {space: attrgetter(space)(ch) for space in (*NAMESPACES, *ROOMS)}
    found = {f"{space}.{name}": getattr(module, name) for space, module in spaces.items() for name in module.__all__}
    return {name: thing for name, thing in found.items() if kind(thing)}


def public_callables() -> dict[str, Callable]:
    """Public functions, and the public methods of public classes that we wrote."""
    methods = {
        f"{name}.{key}": getattr(cls, key)
        for name, cls in public(inspect.isclass).items()
        for base in cls.__mro__
        if base.__module__.startswith("cellhermes")
        for key, value in vars(base).items()
        if not key.startswith("_") and (isinstance(value, classmethod | staticmethod) or inspect.isfunction(value))
    }
    return {name: inspect.unwrap(thing) for name, thing in (public(inspect.isroutine) | methods).items()}


CALLABLES = public_callables()


def section(docstring: str | None, title: str) -> str:
    """Text below a heading of a numpy docstring, ``""`` where there is none."""
    text = inspect.cleandoc(docstring or "") + "\n"
    match = re.search(rf"^{title}\n-+\n(.*?)(?=^\S[^\n]*\n-+\n|\Z)", text, re.M | re.S)
    return match.group(1) if match else ""


def arguments(function: Callable) -> list[inspect.Parameter]:
    return [p for p in inspect.signature(function).parameters.values() if p.name not in {"self", "cls"}]


@pytest.mark.parametrize("name", CALLABLES)
def test_at_most_two_positional_arguments_follow_the_data(name: str) -> None:
    positional = [p for p in arguments(CALLABLES[name]) if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    assert len(positional) <= 3
    assert [p.name for p in positional if isinstance(p.default, bool) or "bool" in str(p.annotation)] == []
    assert [p.name for p in arguments(CALLABLES[name]) if p.kind is p.VAR_POSITIONAL] == []


ON_TABLES = {
    "get.training_log",
    "pl.roc",
    "pl.scores",
    "pl.training",
    "tl.answer",
}  # of a run, scores, questions: no AnnData
ON_ANNDATA = [name for name in CALLABLES if name.startswith(("pp.", "tl.", "get.", "pl.")) and name not in ON_TABLES]


@pytest.mark.parametrize("name", ON_ANNDATA)
def test_functions_on_anndata_take_the_data_first_and_a_modality(name: str) -> None:
    parameters = arguments(CALLABLES[name])
    assert parameters[0].name == "data"
    assert parameters[0].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert "mod" in [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]


def test_randomness_enters_as_rng_but_for_training_which_records_its_seed() -> None:
    seeded = {name for name, thing in CALLABLES.items() if "seed" in [p.name for p in arguments(thing)]}
    assert sorted(name for name in seeded if not name.startswith("train.")) == []


@pytest.mark.parametrize("name", CALLABLES)
def test_everything_public_is_annotated(name: str) -> None:
    signature = inspect.signature(CALLABLES[name])
    assert [p.name for p in arguments(CALLABLES[name]) if p.annotation is p.empty] == []
    assert signature.return_annotation is not signature.empty
    assert "Any" not in re.findall(r"\w+", str(signature))


@pytest.mark.parametrize("name", [n for n in CALLABLES if n in public(inspect.isroutine) or "CellHermes." in n])
def test_docstrings_have_their_sections(name: str) -> None:
    function = CALLABLES[name]
    docstring = function.__doc__
    described = section(docstring, "Parameters")
    names = re.findall(r"^\*{0,2}(\w+(?:, \w+)*)$", described, re.M)
    assert [n for entry in names for n in entry.split(", ")] == [p.name for p in arguments(function)]
    writes = name.startswith(("pp.", "tl."))  # what is written where stands under Returns
    if writes or inspect.signature(function).return_annotation not in {None, "None"}:
        assert section(docstring, "Returns")
    assert ">>> " in section(docstring, "Examples")


@pytest.mark.parametrize("name", public(inspect.isclass))
def test_public_classes_are_described_with_an_example(name: str) -> None:
    assert ">>> " in section(public(inspect.isclass)[name].__doc__, "Examples")


# ---- size and words


def lines_of(paths: list[Path]) -> int:
    return sum(len(path.read_text("utf-8").splitlines()) for path in paths)


def test_public_names_are_few() -> None:
    top = [name for name in ch.__all__ if name not in NAMESPACES]
    assert len(public(lambda _: True)) + len([name for name in top if name not in ch.model.__all__]) <= 115


@pytest.mark.parametrize("name", CALLABLES)
def test_public_functions_have_at_most_twelve_arguments(name: str) -> None:
    assert len(arguments(CALLABLES[name])) <= 12


def test_rooms_and_files_are_of_a_size_to_be_read() -> None:
    assert {name_of(path): n for path in MODULES if (n := lines_of([path])) > 500} == {}
    rooms: dict[str, list[Path]] = {}
    for path in MODULES:
        rooms.setdefault(floor_of(path), []).append(path)
    total = lines_of(MODULES)
    assert {room: share for room, paths in rooms.items() if (share := lines_of(paths) / total) > 0.15} == {}


def test_no_name_with_an_underscore_is_imported_from_another_file() -> None:
    parts = {part.removesuffix(".py") for path in MODULES for part in path.relative_to(PACKAGE).parts}
    hits = [
        f"{name_of(path)}:{line} {name}"
        for path in MODULES
        for line, name in imported(path)
        if name.startswith("cellhermes.") and (last := name.rsplit(".", 1)[1]).startswith("_") and last not in parts
    ]
    assert hits == []


def test_names_in_uns_stand_in_the_file_of_keys() -> None:
    """And the defaults of arguments that are keys."""
    values = {value for name, value in vars(_keys).items() if name.isupper() and isinstance(value, str)}
    hits = [
        f"{name_of(path)}:{node.lineno} {node.slice.value}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Subscript)
        and getattr(node.value.value, "attr", "") == "uns"
        and getattr(node.slice, "value", None) in values
    ]
    defaults = [
        f"{name} {argument.name}={argument.default!r}"
        for name, function in CALLABLES.items()
        for argument in arguments(function)
        if argument.name.endswith(("key", "key_added"))
        and argument.default not in {inspect.Parameter.empty, None, *values}
    ]
    assert hits + defaults == []


def test_no_two_classes_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(name_of(path))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


VAGUE = {"found", "made", "told", "left", "one", "thing", "stuff"}


def stored(path: Path) -> Iterator[tuple[int, str]]:
    """(line, name) of what is assigned, but for the variables of comprehensions."""
    tree = ast.parse(path.read_text("utf-8"))
    short = {id(n) for node in ast.walk(tree) if isinstance(node, ast.comprehension) for n in ast.walk(node.target)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in short:
            yield node.lineno, node.id


def test_variables_are_nouns_that_say_what_they_hold() -> None:
    hits = [f"{name_of(path)}:{line} {name}" for path in MODULES for line, name in stored(path) if name in VAGUE]
    assert hits == []


# ---- benchmarks and tools

SCRIPTS = sorted(path for folder in ("benchmarks", "tools") for path in (ROOT / folder).rglob("*.py"))
INSIDE = {  # scripts that see what no public name shows, and why
    "benchmarks/network.py": "times a clustering and a Jaccard index alone, on vectors that no model made",
    "benchmarks/soak.py": "makes blocks small, as there have to be many in little work",
    "tools/refresh_registry.py": "fills in what downloads read, by their own readers of what hosts publish",
}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_scripts_use_public_names_only(path: Path) -> None:
    nodes = [*ast.walk(ast.parse(path.read_text("utf-8")))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and not node.level:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) != "self":
            names.append(f"cellhermes.{node.attr}")  # of a model, perhaps
    private = [name for name in names if re.match(r"cellhermes\b.*\._(?!_)", name)]
    assert bool(private) == (path.relative_to(ROOT).as_posix() in INSIDE), private


# ---- data files


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.toml")), ids=name_of)
def test_every_toml_file_loads(path: Path) -> None:
    assert tomllib.loads(path.read_text("utf-8"))


def test_every_toml_entry_reaches_its_loader_once() -> None:
    def load(place: str) -> dict:
        return tomllib.loads((PACKAGE / place).read_text("utf-8"))

    files = {path.stem: load(path) for path in PACKAGE.glob("text/templates/*.toml")}
    templates = [name.split("/") for name in ch.text.Template.names()]  # an objective gives one for each kind
    words = {files["pretrain"][task]["words"]: task for task in files["pretrain"]}
    loaded = [key for name, table in files.items() if name not in words for key in table]
    assert sorted(loaded) == sorted({name[0] for name in templates})
    for table, task in words.items():  # the first entry of a table is not in the names
        assert [*files[table]][1:] == [*dict.fromkeys(name[2] for name in templates if name[0] == task and name[2:])]
    assert [*files["modalities"]] == [*ch.text.Modality.names()]
    assert sorted(load("text/wraps.toml")) == sorted(ch.text.Wrap.names())
    assert sorted(load("model/models.toml")) == sorted(ch.cache.list().query("kind == 'model'").index)


def test_every_model_can_be_asked_for_and_states_how_to_read_it() -> None:
    for name, card in import_module("cellhermes.model._card").named().items():
        assert card.wrap in {"chat", *ch.text.Wrap.names()}, name
        assert card.license, name
        assert card.base.startswith("bundled:") or re.fullmatch(r"[0-9a-f]{40}", card.revision), name


FORBIDDEN = (
    r"^\s*(import|from)\s+(pickle|cPickle|dill|joblib)\b",
    r"trust_remote_code\s*=\s*True",
    r"\bnp\.random\.seed\b",
    r"(?<!np\.)\brandom\.seed\(",
    r"\btorch\.(cuda\.)?manual_seed",
    r"weights_only\s*=\s*False",
    r"known_hash\s*=\s*None",
)


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_source_is_free_of(pattern: str) -> None:
    hits = [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in MODULES
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert hits == []


def calls_on_text(path: Path) -> Iterator[tuple[int, set[str], bool]]:
    """(line, named arguments, whether it writes) of calls that read or write text; an encoding needs no name."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if ast.unparse(node.func) in ("tarfile.open", "zipfile.ZipFile"):  # whose modes are those of archives
            continue
        named = {keyword.arg for keyword in node.keywords}
        given = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
        if name in ("read_text", "write_text"):
            yield node.lineno, named | ({"encoding"} if {"utf-8", "utf-8-sig"} & {*given} else set()), name[0] == "w"
        elif name == "open" and any(isinstance(mode, str) and re.fullmatch("[rwax]t?", mode) for mode in given):
            yield node.lineno, named, not any(mode in ("r", "rt") for mode in given)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_text_has_one_encoding_and_one_end_of_line_on_every_system(path: Path) -> None:
    calls = list(calls_on_text(path))
    assert [line for line, named, _ in calls if "encoding" not in named] == []
    assert [line for line, named, writes in calls if writes and "newline" not in named] == []


# ---- documents


def fenced(marker: str) -> str:
    """The fenced block of README.md that follows a marker."""
    match = re.search(
        rf"^<!-- {marker} -->\n```bash\n(.*?)\n```$", (ROOT / "README.md").read_text("utf-8"), re.M | re.S
    )
    assert match, f"README.md has no block after <!-- {marker} -->"
    return match.group(1)


@pytest.mark.parametrize(
    ("marker", "ending"),
    [("ci:demo", "cellhermes demo"), ("ci:test", "python -m pytest -n auto --dist worksteal")],
    ids=["demo", "test"],
)
def test_readme_has_one_command_that_installs_with_constraints_and_runs(marker: str, ending: str) -> None:
    command = fenced(marker)
    assert len(command.splitlines()) == 1
    assert "pip install -c constraints.txt" in command
    assert command.endswith(ending)


def test_readme_commands_exist_on_the_command_line() -> None:
    blocks = re.findall(r"^```bash\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
    asked = set(re.findall(r"(?:^|&& )cellhermes ([a-z]+)", "".join(blocks), re.M))
    known = {c.name or c.callback.__name__ for c in import_module("cellhermes.cli").app.registered_commands}
    assert asked
    assert asked <= known


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_relative_links_lead_somewhere(page: str) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", (ROOT / page).read_text("utf-8"))
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_constraints_pin_each_direct_dependency_within_its_bounds() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    pinned = {canonicalize_name(pin.name): pin for pin in pins}
    assert len(pinned) == len(pins)
    assert [str(pin) for pin in pins if not re.fullmatch(r"==[\w.]+", str(pin.specifier))] == []
    direct = [item for extra in (None, *PROJECT["optional-dependencies"]) for item in declared(extra).items()]
    assert sorted({name for name, _ in direct} - set(pinned)) == []
    outside = [name for name, r in direct if not r.specifier.contains(str(pinned[name].specifier).removeprefix("=="))]
    assert outside == []


def test_version_is_the_same_everywhere() -> None:
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.M)
    assert citation
    assert citation.group(1) == PROJECT["version"] == ch.__version__


def test_every_public_name_is_on_an_api_page() -> None:
    listed = {
        entry
        for page in (ROOT / "docs" / "api").glob("*.md")
        for entry in re.findall(r"^   ([\w.]+)$", page.read_text("utf-8"), re.M)
    }
    expected = {f"{space}.{name}" for space in (*NAMESPACES, *ROOMS) for name in attrgetter(space)(ch).__all__}
    expected -= {f"model.{name}" for name in ch.__all__}  # what has a name at the top is listed under that one
    expected |= {name for name in ch.__all__ if name not in NAMESPACES}
    assert sorted(expected - listed) == []
    assert sorted(listed - expected) == []


@pytest.mark.skipif(not (ROOT / ".github").is_dir(), reason="a source distribution has no workflows")
def test_workflow_actions_are_pinned_by_commit_with_their_version() -> None:
    uses = [
        line.strip()
        for path in (ROOT / ".github" / "workflows").iterdir()
        for line in path.read_text("utf-8").splitlines()
        if "uses:" in line and "uses: ./" not in line
    ]
    assert uses
    assert [line for line in uses if not re.fullmatch(r"(- )?uses: [\w./-]+@[0-9a-f]{40} # v[\d.]+", line)] == []
