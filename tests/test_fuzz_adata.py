"""Any AnnData: functions that read it agree with a slow loop, or say what is wrong with it.

Few cells and genes, but every kind of number and storage; entries of sparse matrices stand in any order, in parts, and
as zeros; symbols are empty, blank, missing, twice there, or of any alphabet.
"""

import re
import warnings
from hashlib import blake2b
from types import SimpleNamespace

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

import cellhermes as ch
from cellhermes._symbols import human_symbols
from cellhermes.pp._genes import MIN_MATCHED

DTYPES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
STORAGES = {
    "dense": lambda m: m.toarray(), "fortran": lambda m: np.asfortranarray(m.toarray()), "csr": sparse.csr_matrix,
    "csr array": sparse.csr_array, "csc": sparse.csc_matrix, "csc array": sparse.csc_array,
    "dask": lambda m: da.from_array(m.toarray(), chunks=(2, -1)),
    "dask csr": lambda m: da.from_array(sparse.csr_matrix(m), chunks=(2, -1), asarray=False),
}  # fmt: skip
SYMBOLS = [
    "CD3E", "CD4", "CD8A", "MS4A1", "LYZ", "TP53", "NKG7", "MT-CO1", "MT-ND1", "RPL3", "RPS6", "RPS6KA1", "MALAT1",
    "AL592183.1", "Cd3e", "基因", "geneß", "\U0001f9ec", "nan", "NA", "-", "", " ", "CD 4", "CD4\n", "ENSG00000139618",
]  # fmt: skip
HUMAN = SYMBOLS[:13]


@st.composite
def matrices(draw, *, bad=True, whole=True, large=True, dtypes=DTYPES):
    """A matrix, as it is stored and dense, with the sums of what stands in parts."""
    n_rows, n_columns, dtype = draw(st.integers(0, 6)), draw(st.integers(0, 7)), np.dtype(draw(st.sampled_from(dtypes)))
    values = [0, 1, 2, 3] if whole else [0.0, 0.5, 1.25, 2.0]
    if dtype.kind in "iu" and large:
        values += [np.iinfo(dtype).max]
    if dtype.kind == "f":
        values += [0.5, -0.0, 1e-30, *([1e300 if dtype.itemsize == 8 else 1e38] if large else [])]
    if bad and dtype.kind != "b" and draw(st.integers(0, 3)) == 0:
        values += [np.nan, np.inf, -np.inf, -1.0] if dtype.kind == "f" else [-1] if dtype.kind == "i" else []
    storage = draw(st.sampled_from([*STORAGES]))
    is_kept = "csr" in storage or "csc" in storage  # parts of an entry, whose sum may be too large for its type
    n = draw(st.integers(0, 3 * n_rows * n_columns)) if n_rows and n_columns else 0
    entries = draw(st.lists(st.tuples(
        st.integers(0, max(n_rows - 1, 0)), st.integers(0, max(n_columns - 1, 0)), st.sampled_from(values)
    ), min_size=n, max_size=n))  # fmt: skip
    entries.sort(key=lambda entry: entry[0])  # rows only: columns stay in any order, also twice
    rows, columns = ([entry[i] for entry in entries] for i in (0, 1))
    data = np.array([entry[2] for entry in entries], dtype)
    ends = np.searchsorted(rows, range(n_rows + 1))
    stored = sparse.csr_matrix((data, np.array(columns, np.int32), ends), shape=(n_rows, n_columns))
    dense, exact = np.zeros((n_rows, n_columns), dtype), np.zeros((n_rows, n_columns))
    with np.errstate(all="ignore"):
        for row, column, value in zip(rows, columns, data, strict=True):
            dense[row, column] += value
            exact[row, column] += value
        if not is_kept:
            exact, data = dense, dense
        return SimpleNamespace(stored=STORAGES[storage](stored), dense=dense, exact=exact, parts=data)


def annotated(matrix, **var):
    n_rows, n_columns = matrix.dense.shape
    obs = pd.DataFrame(index=[f"cell{i}" for i in range(n_rows)])
    return AnnData(matrix.stored, obs, pd.DataFrame(var, index=[f"gene{i}" for i in range(n_columns)]))


def drawn_symbols(data, n, pool=SYMBOLS):
    return data.draw(st.lists(st.sampled_from(pool), min_size=n, max_size=n), "symbols")


def is_bad(dense):
    return bool(dense.size) and (not np.isfinite(dense).all() or bool((dense < 0).any()))


def tie(symbol):
    return int.from_bytes(blake2b(symbol.encode(), digest_size=8).digest(), "big")


def fuzz(n_examples, check, *strategies):
    quiet = settings(max_examples=n_examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)

    @quiet
    @given(st.tuples(*strategies))
    def run(drawn):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # names that are not unique, cells without genes, overflow
            check(*drawn)

    run()


def check_sentences(matrix, data):
    n_columns = matrix.dense.shape[1]
    symbols = drawn_symbols(data, n_columns)
    mask = data.draw(st.lists(st.booleans(), min_size=n_columns, max_size=n_columns), "mask")
    missing = [np.nan if symbol == "" and data.draw(st.booleans()) else symbol for symbol in symbols]
    adata = annotated(matrix, symbol=np.array(missing, object), wanted=np.array(mask, bool))
    n_genes, chunk_size = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 4))
    marked = [symbol for symbol, is_marked in zip(symbols, mask, strict=True) if is_marked]
    is_wrong = (
        not matrix.dense.size or not marked or is_bad(matrix.dense) or len(set(marked)) < len(marked)
        or any(len(symbol.split()) != 1 or symbol != symbol.strip() for symbol in marked)
        or symbols.count("ENSG00000139618") > len(symbols) / 2
    )  # fmt: skip
    call = {"gene_symbols": "symbol", "gene_mask": "wanted", "n_genes": n_genes, "chunk_size": chunk_size}
    if is_wrong:
        with pytest.raises(ValueError, match=r"expected|but blanks separate|twice"):
            ch.pp.cell_sentences(adata, **call)
        assert "cell_sentence" not in adata.obs
        return
    ch.pp.cell_sentences(adata, **call)
    expected = []
    for row in matrix.dense:
        genes = [(-float(v), tie(s), s) for v, s, m in zip(row, symbols, mask, strict=True) if m and v > 0]
        expected.append(" ".join(symbol for _, _, symbol in sorted(genes)[:n_genes]))
    assert adata.obs["cell_sentence"].tolist() == expected
    if any(expected):
        prompts = ch.get.prompts(adata, wrap="plain")
        assert prompts["prompt"].str.split(": ").str[1].tolist() == [text for text in expected if text]


def check_mask(matrix, data):
    n_columns = matrix.dense.shape[1]
    symbols = drawn_symbols(data, n_columns, [*HUMAN * 4, *SYMBOLS])
    adata = annotated(matrix, symbol=np.array(symbols, object))
    human = human_symbols()
    named = [symbol for symbol in symbols if symbol and not symbol.startswith("ENSG")]
    best, totals = {}, matrix.exact.sum(axis=0)
    for column, symbol in enumerate(symbols):
        is_kept = symbol in human.protein_coding and not symbol.startswith("MT-")
        if is_kept and not re.match(r"RP[LS](?!6K|19BP1$)", symbol):
            before = best.setdefault(symbol, column)
            if totals[column] > totals[before]:
                best[symbol] = column
    n_known = sum(symbol in human.known for symbol in named)
    n_ids = symbols.count("ENSG00000139618")
    if not matrix.dense.size or not best or n_known < MIN_MATCHED * len(named) or n_ids > len(symbols) / 2:
        with pytest.raises(ValueError, match=r"expected|human symbol|is left in the mask"):
            ch.pp.mask_genes(adata, gene_symbols="symbol")
        return
    ch.pp.mask_genes(adata, gene_symbols="symbol")
    assert np.flatnonzero(adata.var["sentence_gene"]).tolist() == sorted(best.values())


def check_weighted(matrix, data):
    n_rows, n_columns = matrix.dense.shape
    adata = annotated(matrix)
    vectors = np.array(
        data.draw(st.lists(st.sampled_from([np.nan, -1.0, 0.0, 2.5]), min_size=n_columns, max_size=n_columns)), float
    )[:, None] * [1, 2]  # fmt: skip
    adata.varm["X_cellhermes"] = vectors
    known = ~np.isnan(vectors[:, 0])
    if is_bad(matrix.dense) and not is_bad(matrix.exact):
        return  # only the sum of the parts of an entry is too large for its type
    if is_bad(matrix.dense) or not known.any():
        with pytest.raises(ValueError, match=r"expected|has a vector for none"):
            ch.tl.embed_cells(adata, method="weighted")
        return
    try:
        ch.tl.embed_cells(adata, method="weighted")
    except ValueError as error:
        why = {
            "raw counts": matrix.dense.size and (matrix.dense == np.floor(matrix.dense)).all(),
            "expected": is_bad(matrix.parts),
            "too large": not np.isfinite(matrix.dense.astype(float).sum(axis=1)).all(),
        }
        assert any(holds for what, holds in why.items() if what in str(error))  # noqa: PT017
        return
    expected = np.full((n_rows, 2), np.nan)
    for i, row in enumerate(matrix.dense.astype(float)):
        total = sum(row[known])
        if total > 0:
            expected[i] = sum(
                weight / total * vector for weight, vector in zip(row[known], vectors[known], strict=True)
            )
    np.testing.assert_allclose(adata.obsm["X_cellhermes"], expected, rtol=1e-5, atol=1e-6)


def check_prompts(column):
    n = len(column)
    adata = AnnData(np.zeros((n, 1)), pd.DataFrame(index=[f"cell{i}" for i in range(n)]))
    adata.obs["cell_sentence"] = pd.Series(column, adata.obs_names, dtype=object)
    shown = [sentence for sentence in column if isinstance(sentence, str) and sentence]
    if any("" in sentence.split(" ") or sentence != sentence.rstrip() for sentence in shown):
        with pytest.raises(ValueError, match=r"nothing to write|without white space"):
            ch.get.prompts(adata, wrap="plain")
        return
    found = ch.get.prompts(adata, wrap="plain")["prompt"].tolist()
    assert found == [f"A cell with genes ranked by expression: {sentence}" for sentence in shown]


CHECKS = {
    "sentences": (check_sentences, matrices(), st.data()),
    "mask": (check_mask, matrices(bad=False, large=False), st.data()),
    "weighted": (check_weighted, matrices(whole=False, dtypes=["float32", "float64"]), st.data()),
    "weighted, counts": (check_weighted, matrices(), st.data()),
    "prompts": (
        check_prompts,
        st.lists(
            st.sampled_from([None, np.nan, 3, "", " ", "CD4", "CD4 基因", "A  B", "A ", " A"]) | st.text(), max_size=4
        ),
    ),
}


@pytest.mark.parametrize("name", CHECKS)
def test_any_matrix_gives_what_a_slow_loop_gives_or_a_clear_error(name):
    fuzz(60, *CHECKS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_many_matrices_give_what_a_slow_loop_gives_or_a_clear_error(name):
    fuzz(1000, *CHECKS[name])
