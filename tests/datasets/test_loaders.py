"""Data sets by name: each loader reads a miniature of its file's true layout from a server on this machine."""

import dataclasses
import gzip
import hashlib
import io
import json
import tarfile
import zipfile

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import cellhermes as ch
from cellhermes import _fetch
from cellhermes.io._graphs import TAB3

pytestmark = pytest.mark.usefixtures("cache")
RECORD = "/records/21060572/files/"


def h5ad(tmp_path, obs, *, layers=("counts",), n_obs=30, n_vars=8):
    counts = np.random.default_rng(0).poisson(1.0, (n_obs, n_vars)).astype(np.float32)
    adata = ad.AnnData(sparse.csr_matrix(np.log1p(counts)))
    adata.obs_names = [f"cell{i}" for i in range(n_obs)]
    adata.var_names = [f"GENE{i}" for i in range(n_vars)]
    for column in obs:
        adata.obs[column] = pd.Categorical([f"{column}{i % 3}" for i in range(n_obs)])
    for layer in layers:
        adata.layers[layer] = sparse.csr_matrix(counts)
    adata.write_h5ad(tmp_path / "made.h5ad")
    return adata, (tmp_path / "made.h5ad").read_bytes()


def archive(files):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return made.getvalue()


def questions(*answers):
    return json.dumps([{"instruction": f"Question {i}?", "input": "CD3E", "output": a} for i, a in enumerate(answers)])


CELLS = {"immune": ("batch", "final_annotation"), "pancreas": ("tech", "celltype"), "lung": ("batch", "cell_type")}


@pytest.mark.parametrize("name", [*CELLS, "pbmc"])
def test_cells_arrive_with_what_the_docstring_promises(serve, tmp_path, name):
    entry = _fetch.find("data", name)
    adata, content = h5ad(tmp_path, entry.expects["obs"], layers=entry.expects["layers"])
    assert set(CELLS.get(name, ("batch", "Cell type"))) == set(entry.expects["obs"])
    small = {**entry.expects, "n_obs": 30, "n_vars": entry.expects["n_vars"] and 8}
    serve(name, {entry.files[0].name: content}, expects=small)
    found = ch.datasets.cells(name)
    np.testing.assert_array_equal(found.X.toarray(), adata.X.toarray())
    assert found.obs.equals(adata.obs)
    part = ch.datasets.cells(name, subsample=7, rng=1)
    assert part.n_obs == 7
    assert not part.isbacked
    np.testing.assert_array_equal(part.X.toarray(), adata[part.obs_names].X.toarray())
    again, other = (ch.datasets.cells(name, subsample=7, rng=rng).obs_names for rng in (1, 2))
    assert list(again) == list(part.obs_names) != list(other)
    assert ch.datasets.cells(name, subsample=99).n_obs == 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_obs": 31}, "30 cells, expected 31"),
        ({"n_vars": 9}, "8 genes, expected 9"),
        ({"obs": ["batch", "type"]}, r"no column obs\['type'\].*Columns of obs: \['batch'"),
        ({"layers": ["raw"]}, r"no layers\['raw'\]"),
    ],
)
def test_cells_that_are_not_as_expected_are_refused_on_arrival(serve, tmp_path, cache, change, message):
    _, content = h5ad(tmp_path, ["batch"])
    expects = {"n_obs": 30, "n_vars": 8, "obs": ["batch"], "layers": ["counts"]} | change
    serve("immune", {"Immune_ALL_human.h5ad": content}, expects=expects)
    with pytest.raises(ValueError, match=message):
        ch.datasets.cells("immune")
    assert not list(cache.rglob("*.h5ad*"))


def test_a_page_in_place_of_cells_is_refused(serve, cache):
    serve("pbmc", {"PBMC.merged.h5ad": b"<html>moved</html>"})
    with pytest.raises(ValueError, match=r"PBMC.merged.h5ad did not give .*: what came is a web page.*an HDF5 file"):
        ch.datasets.cells("pbmc")
    assert not list(cache.rglob("PBMC*"))


def test_unknown_cells_are_told_what_there_is():
    with pytest.raises(ValueError, match="No cells 'imune'. Did you mean 'immune'.*aorta, melanoma, tabula_sapiens/<t"):
        ch.datasets.cells("imune")


@pytest.mark.parametrize("n", [0, -3])
def test_subsample_must_be_positive(serve, tmp_path, n):
    entry = _fetch.find("data", "pbmc")
    _, content = h5ad(tmp_path, entry.expects["obs"], layers=())
    serve("pbmc", {"PBMC.merged.h5ad": content}, expects={"n_obs": 30})
    with pytest.raises(ValueError, match="expected at least 1"):
        ch.datasets.cells("pbmc", subsample=n)


def test_licence_is_shown_before_the_first_download_only(serve, caplog):
    serve("gene-sets-hallmark", {"hallmark.gmt": b"A\tx\tCD3E\tCD4\n"})
    for _ in range(2):
        assert ch.datasets.gene_sets("hallmark") == {"A": ["CD3E", "CD4"]}
    assert caplog.text.count("Licence: CC BY 4.0. Please cite: Liberzon") == 1
    assert caplog.text.index("Licence") < caplog.text.index("No checksum of hallmark.gmt is published")


def test_aorta_is_found_in_the_authors_archive(serve, tmp_path, cache):
    adata, content = h5ad(tmp_path, ["batch", "celltype"])
    files = {"cell_level/Aorta.h5ad": content, "cell_level/Lung.h5ad": b"x", "__MACOSX/Aorta.h5ad": b"y"}
    serve("cell-tasks", {"cell_level_downstream_tasks.zip": archive(files)})
    assert ch.datasets.cells("aorta").obs.equals(adata.obs)
    assert ch.datasets.cells("aorta", subsample=5).n_obs == 5
    assert not list(cache.rglob("Aorta*"))  # unpacked for a while only


def test_checksums_of_the_record_are_used_and_kept(serve, site, caplog):
    content = archive({"a.json": "[]"})
    serve("gene-tasks", {"gene_level_downstream_tasks.zip": content})
    path = ch.cache.fetch("gene-tasks") / "gene_level_downstream_tasks.zip"
    assert f"(md5:{hashlib.md5(content).hexdigest()}) comes from the record's own list" in caplog.text
    assert path.with_name(path.name + ".sha256").is_file()
    site.faults["*"] = ("status", 500)
    assert ch.cache.fetch("gene-tasks") == path.parent  # nothing is asked for again


def test_an_archive_that_differs_from_its_record_is_refused(serve, site, cache):
    serve("gene-tasks", {"gene_level_downstream_tasks.zip": archive({"a": "1"})})
    site.files[RECORD + "gene_level_downstream_tasks.zip"] = archive({"a": "2"})
    with pytest.raises(ValueError, match="its md5 is .*, but was "):
        ch.cache.fetch("gene-tasks")
    assert not list(cache.rglob("*.zip*"))


def test_a_record_without_the_file_says_what_it_has(serve, site):
    serve("gene-tasks", {"gene_level_downstream_tasks.zip": b"x"})
    site.files["/api/records/21060572"] = json.dumps({"files": [{"key": "other.zip", "checksum": "md5:0"}]}).encode()
    with pytest.raises(ValueError, match=r"lists no file 'gene_level.*it has \['other.zip'\]"):
        ch.cache.fetch("gene-tasks")


AWAY = {  # what happens, and what the error says of it
    "no such host": "its host is not found, is there a network",
    "refused": "its host refuses the connection",
    "status 403": "answers 403",
    "status 404": "answers 404",
    "status 500": "answers 500.*5 times",
    "a page": "no JSON object .a login page",
    "a list": r"answers with b'\[\]', which is no JSON object",
    "another form": "answers in another form than expected",
}


@pytest.fixture
def away(site, monkeypatch):
    """Let a host go wrong in one of the ways of ``AWAY``, for a page; returns where it is now."""

    def go(what, page):
        if what == "no such host":
            return "http://no.such.host.invalid"
        if what == "refused":
            site.close()
        elif what.startswith("status"):
            site.faults["*"] = ("status", int(what[-3:]))
        else:
            site.files[page] = {"a page": b"<html>log in", "a list": b"[]", "another form": b'{"files": "none"}'}[what]
        return site.url

    return go


@pytest.mark.parametrize("what", AWAY)
def test_a_record_that_cannot_be_read_is_named_with_its_host_and_what_to_do(
    serve, site, monkeypatch, cache, away, what
):
    serve("biounibench", {"multitask_datasets.zip": b"PK"})
    host = away(what, "/api/records/21060572")
    entry = _fetch.find("data", "biounibench")
    moved = dataclasses.replace(entry.files[0], urls=(host + RECORD + "multitask_datasets.zip",))
    monkeypatch.setitem(_fetch.registry()["data"], "biounibench", dataclasses.replace(entry, files=(moved,)))
    thing = rf"multitask_datasets\.zip of 'biounibench' was not downloaded.*{host}/api/records/21060572.*{AWAY[what]}"
    with pytest.raises(
        ConnectionError, match=rf"(?s){thing}.*download it from https://doi\.org/\S+ and put it by hand"
    ):
        ch.datasets.questions("GI_general")
    assert not [path for path in cache.rglob("*") if path.is_file() and path.parent.name != "locks"]


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("gene-pairs", "train_label.txt", b"Moved permanently.", "its first line is 'Moved permanently"),
        ("gene-sets-kegg", "kegg.gmt", b"Please accept our licence", "its first line is 'Please accept"),
        ("string", "9606.protein.info.v12.0.txt.gz", gzip.compress(b"Moved", mtime=0), "its first line is 'Moved'"),
        ("tabula-sapiens", "collection.json", b'{"message": "down"}', "lists no data sets"),
        ("tabula-sapiens", "collection.json", b'{"datasets": [{"assets": 3}]}', "lists no data sets"),
    ],
)
def test_text_that_is_no_table_is_never_recorded(serve, cache, name, file, content, message):
    whole = {
        "train_text.txt": b"CD3E CD4", "valid_text.txt": b"CD3E CD4", "test_text.txt": b"CD3E CD4",
        "train_label.txt": b"1", "valid_label.txt": b"0", "test_label.txt": b"1",
        "9606.protein.links.v12.0.txt.gz": gzip.compress(b"protein1 protein2 combined_score"),
    }  # fmt: skip
    serve(name, whole | {file: content})
    with pytest.raises(ValueError, match=message):
        ch.datasets.cells("tabula_sapiens/Blood") if name == "tabula-sapiens" else ch.cache.fetch(name)
    assert not list(cache.rglob(f"{file}*"))


def test_questions_of_biounibench(serve):
    answers = {"Gene2disease_training": ["asthma"], "r_Gene2disease_training": ["x"]}
    answers["Gene2disease_test"] = ["gout", "asthma"]
    content = archive({f"data/{name}.json": questions(*held) for name, held in answers.items()})
    serve("biounibench", {"multitask_datasets.zip": content})
    assert ch.datasets.questions("Gene2disease")["answer"].tolist() == ["asthma"]
    assert ch.datasets.questions("r_Gene2disease")["answer"].tolist() == ["x"]
    test = ch.datasets.questions("Gene2disease", "test")
    assert test["answer"].tolist() == ["gout", "asthma"]
    assert test["question"].tolist() == ["Question 0?\nCD3E", "Question 1?\nCD3E"]
    with pytest.raises(ValueError, match="has 0 files that match .*data/Gene2disease_test.json"):
        ch.datasets.questions("GI_dosage")
    with pytest.raises(ValueError, match="No questions 'GI'.*Known: .*GI_synthetic.*gene_pairs"):
        ch.datasets.questions("GI")


def test_questions_of_t_cells_and_of_pretraining(serve):
    serve(
        "melanoma-t-cells",
        {"t_cell_reactivity_dataset.zip": archive({"t/train.json": questions("Reactive"), "t/test.json": "[]"})},
    )
    assert ch.datasets.questions("melanoma")["answer"].tolist() == ["Reactive"]
    with pytest.raises(ValueError, match="has no record"):
        ch.datasets.questions("melanoma", "test")
    sets = {f"p/{name}.json": questions(name) for name in ("cell_sentence_sft_ar", "graph_mask_link")}
    serve("pretraining-pairs", {"pretrain_datasets.zip": archive(sets)})
    assert ch.datasets.questions("graph_mask_link")["answer"].tolist() == ["graph_mask_link"]
    with pytest.raises(ValueError, match="split='test'; graph_mask_link has one part only"):
        ch.datasets.questions("graph_mask_link", "test")


def test_counts_of_melanoma_are_joined_over_samples(serve):
    tables = {
        "GSM6927001_patient1_CD45-counts.tsv.gz": "c1\tc2\nCD3E\t1\t0\nCD4\t2\t3\n",  # a header without its first name
        "GSM6927002_patient2_CD45-counts.tsv.gz": "gene\tc1\nCD4\t5\nLYZ\t7\n",
        "GSM6927002_patient2_tcr.csv.gz": "x",
    }
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as opened:
        for name, text in tables.items():
            content = gzip.compress(text.encode())
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    serve("melanoma-counts", {"GSE222448_RAW.tar": made.getvalue()})
    adata = ch.datasets.cells("melanoma")
    assert ch.datasets.cells("melanoma", subsample=2).n_obs == 2
    assert adata.obs["sample"].tolist() == ["patient1_CD45", "patient1_CD45", "patient2_CD45"]
    assert adata.obs_names.is_unique
    assert sparse.issparse(adata.X)
    expected = pd.DataFrame({"CD3E": [1, 0, 0], "CD4": [2, 3, 5], "LYZ": [0, 0, 7]}, adata.obs_names, dtype="float32")
    pd.testing.assert_frame_equal(adata.to_df()[["CD3E", "CD4", "LYZ"]], expected)


def test_tabula_sapiens_follows_the_index_of_its_collection(serve, site, tmp_path):
    columns = ["cell_type", "tissue", "donor_id", "assay"]
    adata, content = h5ad(tmp_path, columns, layers=())
    site.files["/blood.h5ad"] = content
    index = {
        "datasets": [
            {"title": f"Tabula Sapiens - {title}", "assets": [
                {"filetype": "RDS", "url": "x"}, {"filetype": "H5AD", "url": f"{site.url}/{file}", "filesize": size}]}
            for title, file, size in (("Blood", "blood.h5ad", len(content)), ("Bone_Marrow", "bone.h5ad", 5))
        ]
    }  # fmt: skip
    serve("tabula-sapiens", {"collection.json": json.dumps(index).encode()})
    assert ch.datasets.cells("tabula_sapiens/Blood").obs.equals(adata.obs)
    assert ch.datasets.cells("tabula_sapiens/tabula sapiens - blood", subsample=3).n_obs == 3
    with pytest.raises(ValueError, match="no data set 'B'; it has Blood, Bone_Marrow"):
        ch.datasets.cells("tabula_sapiens/B")
    assert set(ch.cache.verify("tabula-sapiens")["state"]) == {"good"}
    assert len(ch.cache.verify("tabula-sapiens")) == 2


def biogrid(*pairs, organism="9606"):
    rows = ["#" + "\t".join(TAB3)]
    for a, b in pairs:
        row = dict.fromkeys(TAB3, "-") | {"Experimental System Type": "physical"}
        row |= {"Official Symbol Interactor A": a, "Official Symbol Interactor B": b}
        row |= {f"Organism ID Interactor {which}": organism for which in "AB"}
        rows.append("\t".join(row.values()))
    return "\n".join(rows) + "\n"


def test_human_member_of_biogrid_is_read(serve):
    content = archive({
        "BIOGRID-ORGANISM-Mus_musculus-4.4.240.tab3.txt": biogrid(("Cd4", "Lck"), organism="10090"),
        "BIOGRID-ORGANISM-Homo_sapiens-4.4.240.tab3.txt": biogrid(("CD4", "LCK"), ("TP53", "MDM2")),
    })  # fmt: skip
    serve("biogrid", {"BIOGRID-ORGANISM-4.4.240.tab3.zip": content})
    assert sorted(map(sorted, ch.datasets.ppi("biogrid").edges)) == [["CD4", "LCK"], ["MDM2", "TP53"]]
    with pytest.raises(ValueError, match="expected 'biogrid', 'string' or 'toy'"):
        ch.datasets.ppi("intact")


def test_string_has_symbols(serve):
    links = "protein1 protein2 combined_score\n9606.ENSP1 9606.ENSP2 999\n9606.ENSP1 9606.ENSP3 150\n"
    info = "#string_protein_id\tpreferred_name\n" + "".join(f"9606.ENSP{i}\tG{i}\n" for i in (1, 2, 3))
    names = [file.name for file in _fetch.find("data", "string").files]
    serve("string", {names[0]: gzip.compress(links.encode()), names[1]: gzip.compress(info.encode())})
    assert list(ch.datasets.ppi("string").edges) == [("G1", "G2")]


def test_gene_properties_of_the_published_files(serve, data_dir):
    folder = data_dir / "gene_labels"
    names = [file.name for file in _fetch.find("data", "gene-properties").files]
    real = {file.name: file for file in _fetch.find("data", "gene-properties").files}
    for name in names:  # the registry's hashes are those of the real files
        content = (folder / name).read_bytes()
        assert real[name].hash == f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert real[name].size == len(content)
    serve("gene-properties", {name: (folder / name).read_bytes() for name in names})
    for name, counts in {
        "dosage_sensitivity": {"insensitive": 368, "sensitive": 122},
        "bivalent_vs_non_methylated": {"bivalent": 96, "non-methylated": 40},
        "bivalent_vs_lys4_only": {"bivalent": 96, "Lys4-only": 78},
    }.items():
        assert ch.datasets.gene_properties(name)["answer"].value_counts().to_dict() == counts
    with pytest.raises(ValueError, match="expected one of .*dosage_sensitivity"):
        ch.datasets.gene_properties("tf_range")


def test_gene_properties_that_are_no_ids_are_refused(serve):
    names = [file.name for file in _fetch.find("data", "gene-properties").files]
    serve("gene-properties", dict.fromkeys(names, b"dosage_sensitive,dosage_insensitive\nTP53,MYC\n"))
    with pytest.raises(ValueError, match="'TP53', which is no Ensembl id"):
        ch.datasets.gene_properties()


def test_gene_pairs_join_texts_and_labels(serve, site):
    contents = {file.name: b"" for file in _fetch.find("data", "gene-pairs").files}
    contents |= {"test_text.txt": b"TP53 MDM2\nCD4 LYZ\n", "test_label.txt": b"1\n0\n"}
    contents |= {"valid_text.txt": b"TP53 MDM2\n", "valid_label.txt": b"1\n0\n"}
    serve("gene-pairs", contents)
    assert ch.datasets.questions("gene_pairs", "test").to_numpy().tolist() == [
        ["TP53", "MDM2", "Yes"],
        ["CD4", "LYZ", "No"],
    ]
    assert "/train_text.txt" not in [path for path, _ in site.seen]  # only what is needed
    with pytest.raises(ValueError, match="1 lines and valid_label.txt 2 labels"):
        ch.datasets.questions("gene_pairs", "valid")
    with pytest.raises(ValueError, match="split='dev'; expected one of"):
        ch.datasets.questions("gene_pairs", "dev")


def test_gene_sets_of_the_published_file(serve, data_dir):
    content = gzip.decompress((data_dir / "go_bp_enrichr2021.gmt.gz").read_bytes())
    assert _fetch.find("data", "gene-sets-go-bp").files[0].hash == f"sha256:{hashlib.sha256(content).hexdigest()}"
    serve("gene-sets-go-bp", {"go_bp.gmt": content})
    sets = ch.datasets.gene_sets("go_bp")
    assert len(sets) == 6036
    assert len({gene for genes in sets.values() for gene in genes}) == 14937
    with pytest.raises(ValueError, match="expected one of .*'hallmark'"):
        ch.datasets.gene_sets("wikipathways")
