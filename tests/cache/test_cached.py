"""Weights and data by name: what is here, what has changed, and moving it to another machine."""

import io
import tarfile

import pytest

import cellhermes as ch

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def hallmark(serve):
    serve("gene-sets-hallmark", {"hallmark.gmt": b"A\tx\tCD3E\tCD4\n"})
    return ch.cache.fetch("gene-sets-hallmark") / "hallmark.gmt"


def test_list_says_what_is_here(hallmark):
    table = ch.cache.list()
    assert table.loc["gene-sets-hallmark", "cached"]
    assert not table.loc["immune", "cached"]
    assert table.loc["immune", "checksum"] == "known"
    assert table.loc["biounibench", "checksum"] == "zenodo"


def test_verify_tells_good_from_changed(hallmark):
    assert ch.cache.verify()[["name", "state"]].to_numpy().tolist() == [["gene-sets-hallmark", "good"]]
    hallmark.write_bytes(b"B\tx\tCD3E\tCD4\n")
    assert ch.cache.verify("gene-sets-hallmark")["state"].item().startswith("changed: its sha256 is ")


def test_removed_files_must_come_back_the_same(hallmark, site):
    size = hallmark.stat().st_size
    assert ch.cache.remove("gene-sets-hallmark") == size
    assert not hallmark.exists()
    assert not ch.cache.list().loc["gene-sets-hallmark", "cached"]
    site.files["/hallmark.gmt"] = b"B\tx\tCD3E\n"
    with pytest.raises(ValueError, match="another file: its sha256"):
        ch.datasets.gene_sets("hallmark")


def test_a_bundle_makes_a_machine_without_a_network_complete(hallmark, site, tmp_path, monkeypatch):
    (tmp_path / "unfinished.bundle.tar").write_text("mine")
    ch.cache.export_bundle(tmp_path / "bundle.tar", ["gene-sets-hallmark"])
    assert (tmp_path / "unfinished.bundle.tar").read_text() == "mine"
    with pytest.raises(FileExistsError, match="bundle.tar is there already"):
        ch.cache.export_bundle(tmp_path / "bundle.tar", ["gene-sets-hallmark"])
    asked = len(site.seen)
    monkeypatch.setenv("CELLHERMES_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("CELLHERMES_OFFLINE", "1")
    with pytest.raises(ConnectionError, match="hallmark.gmt is not there, and CELLHERMES_OFFLINE=1 forbids"):
        ch.datasets.gene_sets("hallmark")
    for _ in range(2):  # a second time changes nothing
        assert len(ch.cache.import_bundle(tmp_path / "bundle.tar")) == 2
    assert ch.datasets.gene_sets("hallmark") == {"A": ["CD3E", "CD4"]}
    assert ch.cache.verify()["state"].tolist() == ["good"]
    assert len(site.seen) == asked


def rewrite(path, change):
    """A bundle with members changed by ``change(name, content)``."""
    with tarfile.open(path) as old:
        held = {m.name: old.extractfile(m).read() for m in old.getmembers()}
    with tarfile.open(path, "w") as new:
        for name, content in held.items():
            name, content = change(name, content)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            new.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n, c: (n, c.replace(b"CD4", b"CD8")), "is damaged: its sha256 is"),
        (lambda n, c: (n.replace("cache/", "cache/../../"), c.replace(b"cache/", b"cache/../../")), "leads out"),
        (lambda n, c: (n.replace("cache/", "home/"), c.replace(b"cache/", b"home/")), "differ in .'home/"),
        (lambda n, c: (n.replace("SHA256SUMS", "SUMS"), c), "no bundle: it has no SHA256SUMS"),
    ],
)
def test_bundles_that_are_not_whole_or_not_safe_are_refused(hallmark, tmp_path, monkeypatch, change, message):
    ch.cache.export_bundle(tmp_path / "b.tar", ["gene-sets-hallmark"])
    rewrite(tmp_path / "b.tar", change)
    monkeypatch.setenv("CELLHERMES_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(ValueError, match=message):
        ch.cache.import_bundle(tmp_path / "b.tar")
    assert not list((tmp_path / "elsewhere").rglob("*.gmt"))


def test_an_import_replaces_nothing(hallmark, tmp_path):
    ch.cache.export_bundle(tmp_path / "b.tar", ["gene-sets-hallmark"])
    hallmark.write_bytes(b"mine")
    with pytest.raises(ValueError, match="another file than the bundle's.*nothing was changed"):
        ch.cache.import_bundle(tmp_path / "b.tar")
    assert hallmark.read_bytes() == b"mine"


def test_the_card_of_a_folder_is_the_file_in_it(folders):
    card = ch.model.ModelCard.load(folders("llama"))
    with pytest.raises(FileNotFoundError, match="has no README.md, which would be its card"):
        card.text()
