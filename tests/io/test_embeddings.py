"""Tables of vectors in all their formats; what may hold a pickle is refused."""

import gzip
import zipfile

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import cellhermes as ch

GENES = ["TP53", "LYZ", "NA"]  # the last is no missing value
X = np.array([[0.5, -1, 2], [0, 1, 3], [4, 5, 6]])


def write(folder, kind):
    path = folder / f"vectors.{kind}"
    frame = pd.DataFrame(X, index=GENES)
    if kind == "csv":
        frame.to_csv(path)
    elif kind == "tsv.gz":
        frame.to_csv(path, sep="\t", header=False)
    elif kind == "txt":
        lines = ["3 3", *(" ".join([gene, *map(str, row)]) for gene, row in zip(GENES, X, strict=True))]
        path.write_text("\n".join(lines) + "\n")
    elif kind == "npz":
        np.savez(path, genes=np.array(GENES), embedding=X)
    elif kind == "parquet":
        frame.rename(columns=str).rename_axis("gene").reset_index().to_parquet(path)
    elif kind == "h5ad":
        ad.AnnData(X, obs=pd.DataFrame(index=GENES)).write_h5ad(path)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(write(folder, "h5ad"), "deep/vectors.h5ad")
            archive.write(write(folder, "csv"), "vectors.csv")
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv.gz", "txt", "npz", "parquet", "h5ad"])
def test_formats_give_the_same_frame(tmp_path, kind):
    found = ch.io.read_embeddings(write(tmp_path, kind))
    assert found.index.tolist() == GENES
    assert found.dtypes.unique() == [np.float32]
    np.testing.assert_array_equal(found, X)
    assert found.attrs["dropped"] == {}


@pytest.mark.parametrize("member", ["vectors.csv", "deep/vectors.h5ad"])
def test_members_of_an_archive_are_read_by_name(tmp_path, member):
    path = write(tmp_path, "zip")
    np.testing.assert_array_equal(ch.io.read_embeddings(path, member=member), X)
    with pytest.raises(ValueError, match="2 files.*member="):
        ch.io.read_embeddings(path)
    with pytest.raises(ValueError, match="no file 'x'"):
        ch.io.read_embeddings(path, member="x")


def test_entries_of_h5ad_are_read_by_key(tmp_path):
    adata = ad.AnnData(np.zeros((2, 3), np.float32), obs=pd.DataFrame(index=["a", "b"]), var=pd.DataFrame(index=GENES))
    adata.varm["X_gene"], adata.obsm["X_cell"] = X, np.ones((2, 4))
    adata.write_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(ch.io.read_embeddings(tmp_path / "a.h5ad", key="X_gene").loc[GENES], X)
    assert ch.io.read_embeddings(tmp_path / "a.h5ad", key="X_cell").shape == (2, 4)
    with pytest.raises(KeyError, match="X_cell"):
        ch.io.read_embeddings(tmp_path / "a.h5ad", key="X_pca")


def test_repeated_genes_and_missing_values_are_dropped_and_counted(tmp_path):
    (tmp_path / "a.csv").write_text("gene,0,1\nA,1,2\nA,3,4\nB,,1\nC,5,6\n")
    found = ch.io.read_embeddings(tmp_path / "a.csv")
    assert found.loc["A"].tolist() == [1, 2]
    assert found.index.tolist() == ["A", "C"]
    assert found.attrs["dropped"] == {"repeated": 1, "not finite": 1}


@pytest.mark.parametrize(
    ("name", "text"), [("a.pkl", "may hold a pickle"), ("a.pt", "may hold"), ("a.xls", "no known")]
)
def test_pickles_and_unknown_formats_are_refused(tmp_path, name, text):
    (tmp_path / name).write_bytes(b"\x80\x04N.")
    with pytest.raises(ValueError, match=text):
        ch.io.read_embeddings(tmp_path / name)


def test_errors_about_a_member_name_the_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("a/txt", "TP53 1 2")
        np.savez(tmp_path / "x.npz", genes=np.array(GENES), x=X)
        archive.write(tmp_path / "x.npz", "x.npz")
    with pytest.raises(ValueError, match=r"all\.zip: a/txt is no known format"):
        ch.io.read_embeddings(tmp_path / "all.zip", member="a/txt")
    with pytest.raises(KeyError, match=r"all\.zip: x\.npz has no array of vectors 'z'"):
        ch.io.read_embeddings(tmp_path / "all.zip", member="x.npz", key="z")


@pytest.mark.parametrize("n_places", [1, 2], ids=["before the file", "everywhere"])
def test_an_archive_with_a_name_that_is_no_text_is_damaged(tmp_path, n_places):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("é.txt", "TP53 1 2\n")
    content = (tmp_path / "a.zip").read_bytes()
    assert content.count("é".encode()) == 2
    (tmp_path / "a.zip").write_bytes(content.replace("é".encode(), b"\xc3\x28", n_places))
    with pytest.raises(ValueError, match=r"a\.zip is damaged or not complete: the name of a member is no text"):
        ch.io.read_embeddings(tmp_path / "a.zip")
    with pytest.raises(ValueError, match=r"a\.zip is damaged or not complete: the name of a member is no text"):
        ch.io.read_biogrid(tmp_path / "a.zip")


def test_object_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", genes=np.array(GENES, object), x=X)
    with pytest.raises(ValueError, match="Python objects"):
        ch.io.read_embeddings(tmp_path / "a.npz")


def test_several_arrays_need_a_key(tmp_path):
    np.savez(tmp_path / "a.npz", genes=np.array(GENES), x=X, y=X + 1)
    with pytest.raises(ValueError, match="one array of names"):
        ch.io.read_embeddings(tmp_path / "a.npz")
    np.testing.assert_array_equal(ch.io.read_embeddings(tmp_path / "a.npz", key="y"), X + 1)
    with pytest.raises(KeyError, match="'z'"):
        ch.io.read_embeddings(tmp_path / "a.npz", key="z")


@pytest.mark.parametrize("text", ["gene,name\nA,b\nC,d\n", "gene\nA\nB\n"])
def test_tables_without_numbers_are_refused(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match="no vectors"):
        ch.io.read_embeddings(tmp_path / "a.csv")


def test_damaged_files_are_named(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"gene,0\nA,1\n" * 100)[:-20])
    with pytest.raises(ValueError, match="damaged"):
        ch.io.read_embeddings(tmp_path / "a.csv.gz")
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match="damaged"):
        ch.io.read_embeddings(tmp_path / "a.zip")
    with pytest.raises(FileNotFoundError, match="no file"):
        ch.io.read_embeddings(tmp_path / "b.csv")
