"""The tutorials: valid, executed, free of this machine, and in step with the public names; and that they still run."""

import ast
import importlib.util
import inspect
import json
import os
import re
from pathlib import Path
from types import ModuleType

import pytest

import cellhermes as ch

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = sorted((ROOT / "tutorials").glob("*.ipynb"))
LARGEST = 1_000_000  # bytes
PATHS = re.compile(r"/(?:home|root|tmp|work|Users|mnt|opt|private|var)/\w")
DECIMAL = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.]|\.\d)")
Notebook = dict


@pytest.fixture(params=TUTORIALS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def notebook(path: Path) -> Notebook:
    return json.loads(path.read_text("utf-8"))


def sources(notebook: Notebook, kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def shown(notebook: Notebook) -> list[str]:
    """Texts of all outputs."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    texts = [output.get("text", []) for output in outputs]
    texts += [text for output in outputs for kind, text in output.get("data", {}).items() if kind[:5] == "text/"]
    return ["".join(text) for text in texts]


def test_there_are_tutorials_for_what_the_package_does() -> None:
    expected = {"add_a_task", "immune", "mudata", "perturbation", "pretrain_your_own", "t_cells"}
    assert {path.stem for path in TUTORIALS} == expected


def test_notebook_is_small_and_of_the_current_format(path: Path, notebook: Notebook) -> None:
    assert path.stat().st_size < LARGEST
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", one) for one in ids)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert all(set(cell["metadata"]) <= {"tags"} for cell in notebook["cells"])


def test_notebook_was_executed_from_top_to_bottom_without_errors_or_warnings(notebook: Notebook) -> None:
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [*range(1, len(code) + 1)]
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}
    figures = [kind for output in outputs for kind in output.get("data", {}) if kind.startswith("image/")]
    assert set(figures) <= {"image/png"}


def test_nothing_of_a_machine_is_shown(notebook: Notebook) -> None:
    texts = shown(notebook) + sources(notebook, "code") + sources(notebook, "markdown")
    assert [PATHS.search(text).group() for text in texts if PATHS.search(text)] == []


def test_first_cells_name_the_data_and_the_line_to_switch(notebook: Notebook) -> None:
    first = sources(notebook, "code")[0]
    assert re.search(r"^SOURCE = .*  # <- the one line to switch", first, re.M)
    assert "CELLHERMES_TUTORIAL_CELLS" in first
    assert "outputs stored here are of" in sources(notebook, "markdown")[0]


def names_used(tree: ast.AST) -> set[str]:
    """Dotted names behind ``ch.`` in code."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            parts, inner = [node.attr], node.value
            while isinstance(inner, ast.Attribute):
                parts, inner = [inner.attr, *parts], inner.value
            if isinstance(inner, ast.Name) and inner.id == "ch":
                names.add(".".join(parts))
    return names


def is_public(name: str) -> bool:
    """Whether each room on the way lists the next name, down to the first that is no room."""
    here = ch
    for part in name.split("."):
        inner = getattr(here, part, None)
        is_room = inspect.ismodule(inner) and not part.startswith("_")
        if not is_room:
            return part in here.__all__
        here = inner
    return True


def test_names_of_the_package_are_public(notebook: Notebook) -> None:
    code = [ast.parse(source) for source in sources(notebook, "code")]
    assert [name for name in sorted(set().union(*map(names_used, code))) if not is_public(name)] == []
    said = set(re.findall(r"`ch\.([\w.]+\w)", " ".join(sources(notebook, "markdown"))))
    assert [name for name in said if not is_public(name)] == []


def test_decimals_in_the_prose_were_printed_or_set_by_a_cell(notebook: Notebook) -> None:
    text = "\n".join(shown(notebook) + sources(notebook, "code"))
    printed = [float(number) for number in re.findall(r"(?<![\w.])\d+\.?\d*(?:e[-+]?\d+)?", text)]
    prose = re.sub(r"`[^`]*`|\(https?:[^)]*\)", "", "\n".join(sources(notebook, "markdown")))
    missing = []
    for number in DECIMAL.findall(prose):
        half = 0.5 * 10.0 ** -len(number.split(".")[1])
        if not any(abs(value - float(number)) <= half * 1.001 for value in printed):
            missing.append(number)
    assert missing == []


def test_tutorials_are_on_the_page_and_linked() -> None:
    page = (ROOT / "docs" / "tutorials.md").read_text("utf-8")
    listed = re.findall(r"^tutorials/(\w+)$", page, re.M)
    assert sorted(listed) == [path.stem for path in TUTORIALS]
    assert sorted(re.findall(r"\]\(tutorials/(\w+)\.ipynb\)", page)) == [path.stem for path in TUTORIALS]


# ---- the tool


@pytest.fixture
def tool() -> ModuleType:
    pytest.importorskip("nbclient", reason="needs the extra tutorials")
    spec = importlib.util.spec_from_file_location("tutorials", ROOT / "tools" / "tutorials.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("old", "new", "n"),
    [
        ("accuracy 0.912 of 235 cells", "accuracy 0.915 of 235 cells", 0),
        ("accuracy 0.912 of 235 cells", "accuracy 0.712 of 235 cells", 1),
        ("1,205 clones", "1,206 clones", 0),
        ("1,205 clones", "1,505 clones", 1),
        ("CD3D 1", "LYZ 1", 1),
        ("a 1 2", "a 1", 1),
    ],
)
def test_check_sees_numbers_that_moved_and_words_that_changed(tool: ModuleType, old: str, new: str, n: int) -> None:
    def one(text: str) -> object:
        output = tool.nbformat.v4.new_output("stream", text=text)
        return tool.nbformat.v4.new_notebook(cells=[tool.nbformat.v4.new_code_cell(outputs=[output])])

    assert len(tool.differences(one(old), one(new))) == n


@pytest.mark.parametrize(("tags", "n"), [([], 1), (["trained"], 1), (["trained", "example"], 0)])
def test_single_cells_of_a_trained_model_may_turn(tool: ModuleType, tags: list[str], n: int) -> None:
    books = []
    for text in ("Helper 0.96 0 of 3", "Cytotoxic 0.25 7 of 3"):
        cell = tool.nbformat.v4.new_code_cell(outputs=[tool.nbformat.v4.new_output("stream", text=text)])
        cell.metadata["tags"] = tags
        books.append(tool.nbformat.v4.new_notebook(cells=[cell]))
    assert len(tool.differences(*books)) == n
    books[1].cells[0].outputs[0].text += ", 4"
    assert len(tool.differences(*books)) == 1, "what is missing or new is seen"


@pytest.mark.slow
@pytest.mark.parametrize("with_data", [True, False], ids=["data", "generated"])
def test_tutorial_runs_on_few_cells(
    tool: ModuleType, path: Path, with_data: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("scib_metrics", reason="needs the extra tutorials")
    if with_data and not tool.DATA.is_dir():
        pytest.skip(f"no real data at {tool.DATA}; set CELLHERMES_TEST_DATA to a folder that has them")
    if not with_data:
        monkeypatch.setattr(tool, "DATA", tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    assert tool.problems(tool.run(path, n_cells=200)) == []
