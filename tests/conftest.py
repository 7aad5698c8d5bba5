"""Fixtures of all tests; data sets are made by public functions, so that the documentation uses the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import cellhermes as ch

if TYPE_CHECKING:
    import networkx as nx
    from anndata import AnnData


@pytest.fixture
def adata() -> AnnData:
    """Generated blood cells; a new copy for each test."""
    return ch.datasets.toy()


@pytest.fixture
def ppi() -> nx.Graph:
    """Generated interactions of the genes of ``adata``."""
    return ch.datasets.toy_ppi()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with real data: ``$CELLHERMES_TEST_DATA``, or ``../shared/data`` beside the repository."""
    folder = Path(os.environ.get("CELLHERMES_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set CELLHERMES_TEST_DATA to a folder that has them")
    return folder


@pytest.fixture(scope="session")
def model() -> ch.CellHermes:
    """The bundled model on the CPU."""
    return ch.CellHermes.from_pretrained("mini", device="cpu")
