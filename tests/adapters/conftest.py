"""One tiny pair that was saved and opened again."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tiny
from pair_folder import TEXTS, save_pair

from leafkit.embedders.make_embedder import make_embedder
from leafkit.pipeline.load_pair import load_pair
from leafkit.pipeline.pair import Pair

# read when they are imported: no test reports anything to anybody
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
os.environ["LANGSMITH_TRACING"] = "false"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the saved pair; read only."""
    return save_pair(tmp_path_factory.mktemp("adapted"))


@pytest.fixture(scope="session")
def pair(folder: Path) -> Pair:
    """The pair, opened; its query and document vectors of one text are far apart."""
    pair = load_pair(folder)
    asked, stored = pair.encode_query(TEXTS), pair.encode_document(TEXTS)
    assert float(np.abs(asked - stored).max()) > 0.05
    bare = make_embedder(tiny.make_encoder(seed=0)).embed(TEXTS, "query", 128)
    assert float(np.abs(asked - bare).max()) > 0.01  # without the prompt they would be others
    return pair


@pytest.fixture
def another(tmp_path: Path) -> Path:
    """A folder with a pair of another student; its teacher has the same weights."""
    return save_pair(tmp_path, seed=7)
