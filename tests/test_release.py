"""What is published: CITATION.cff, the draft of the scverse entry, the pages' code, and what a wheel may hold."""

import importlib.util
import re
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import cellhermes as ch

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
yaml = pytest.importorskip("yaml")  # comes with transformers


def test_citation_has_what_the_format_asks_for() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited)  # required by the schema of 1.2.0
    assert cited["cff-version"] == "1.2.0"
    assert cited["type"] in {"software", "dataset"}
    assert all(
        set(author) <= {"name", "given-names", "family-names", "orcid", "website"} for author in cited["authors"]
    )
    for work in cited["references"]:
        assert {"type", "title", "authors"} <= set(work)
        assert isinstance(work["year"], int)


def test_entry_of_the_ecosystem_has_what_its_schema_asks_for() -> None:
    entry = yaml.safe_load((DOCS / "ecosystem" / "meta.yaml").read_text("utf-8"))
    required = {"name", "description", "project_home", "documentation_home", "install", "license", "tags", "version"}
    assert required | {"authors"} <= set(entry)
    assert entry["version"] == f"v{ch.__version__}"
    assert all(entry[key].startswith("https://") for key in entry if key.endswith("_home"))
    assert len(entry["tags"]) == len(set(entry["tags"]))
    page = entry["tutorials_home"].rsplit("/", 1)[1].replace(".html", ".md")
    assert (DOCS / page).is_file()


def test_gallery_shows_every_plot_once() -> None:
    page = (DOCS / "gallery.md").read_text("utf-8")
    assert sorted(re.findall(r"^### `(\w+)`$", page, re.M)) == sorted(ch.pl.__all__)
    assert sorted(re.findall(r"figures/gallery_(\w+)\.png", page)) == sorted(ch.pl.__all__)


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_figures_of_a_page_exist_and_are_described(page: Path) -> None:
    text = page.read_text("utf-8")
    figures = re.findall(r"figures/[\w.]+", text)
    assert [figure for figure in figures if not (DOCS / figure).is_file()] == []
    assert text.count(":alt:") == text.count("```{image}")


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text("utf-8"), re.M | re.S)


@pytest.mark.parametrize("page", ["index.md", "embed.md"])
def test_code_of_a_page_runs_from_top_to_bottom(page: str) -> None:
    names: dict[str, object] = {}
    for block in blocks(page):
        exec(compile(block, page, "exec"), names)
    assert "X_cellhermes" in names["adata"].obsm


@pytest.mark.slow
def test_first_hour_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CELLHERMES_OFFLINE", "1")
    names: dict[str, object] = {}
    for block in blocks("first_hour.md"):
        exec(compile(block, "first_hour.md", "exec"), names)
    plt.close("all")
    assert set(names["test"].obs["predicted"].dropna()) <= set(names["answers"])
    assert "faithfulness" in names["test"].uns["explain"]


@pytest.fixture
def check() -> ModuleType:
    path = ROOT / ".ci" / "check_wheel.py"
    if not path.is_file():
        pytest.skip("a source distribution has no CI scripts")
    spec = importlib.util.spec_from_file_location("check_wheel", path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_source_check_sees_what_is_missing_and_what_does_not_belong(check: ModuleType, tmp_path: Path) -> None:
    source = tmp_path / "cellhermes-0.1.0.tar.gz"
    with tarfile.open(source, "w:gz") as archive:
        names = [f"src/{name}" for name in check._own() if not name.endswith("models.toml")]
        names += [
            "pyproject.toml",
            "conftest.py",
            "PKG-INFO",
            ".gitignore",
            "tests/a.py",
            "docs/_build/a.html",
            "tools/a",
            "tutorials/a.ipynb",
            "notes.txt",
        ]
        names += ["README.md", "LICENSE", "CITATION.cff", "constraints.txt", "CHANGELOG.md", "docs/__pycache__/a.pyc"]
        for name in names:
            archive.addfile(tarfile.TarInfo(f"cellhermes-0.1.0/{name}"))
    assert check.problems(source) == [
        "src/cellhermes/model/models.toml is missing",
        "benchmarks is missing",
        "docs/__pycache__/a.pyc does not belong here",
        "docs/_build/a.html does not belong here",
        "notes.txt does not belong here",
    ]


def test_wheel_check_sees_what_is_missing_and_what_does_not_belong(check: ModuleType, tmp_path: Path) -> None:
    wheel = tmp_path / "cellhermes-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in (check.SOURCE / "cellhermes").rglob("*"):
            if path.is_file() and not path.name.endswith(check.CACHES) and path.name != "models.toml":
                archive.writestr(path.relative_to(check.SOURCE).as_posix(), "")
        for name in check.METADATA:
            archive.writestr(f"cellhermes-0.1.0.dist-info/{name}", "")
        archive.writestr("tests/test_house.py", "")
    assert check.problems(wheel) == [
        "cellhermes/model/models.toml is missing",
        "tests/test_house.py does not belong here",
    ]
