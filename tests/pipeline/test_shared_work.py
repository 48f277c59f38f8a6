"""Vector stores that several processes fill: ranks of a launch, and commands on their own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny

from leafkit.core.checkpoint_layout import PRECISION_FILE, shard_claim_file
from leafkit.core.process.lock import claimed, exclusive

pytestmark = pytest.mark.slow

NUM_DOCUMENTS = 700


class Home:
    """A recipe that embeds a corpus, and what one process makes of it."""

    def __init__(self, root: Path) -> None:
        home = tiny.make_home(root / "home")
        rows = [{"id": f"doc{i}", "text": text} for i, text in enumerate(make_texts())]
        corpus = tiny.write_lines(root / "documents.jsonl", rows)
        self.recipe = tiny.write_recipe(
            root / "tiny.yaml",
            {
                "device": "cpu",
                "precision": "float32",
                "data": {"corpus": f"jsonl:{corpus}", "max_document_tokens": 48},
                "teacher": {"source": f"model:{home / 'big'}"},
            },
        )
        self.two = root / "two"
        for number, folder in enumerate((root / "one", self.two), start=1):
            done = tiny.run_cli(*self.words(folder), processes=number)
            assert done.returncode == 0, done.stderr[-3000:]
        self.vectors, self.sizes = read_store(root / "one")

    def words(self, checkpoints: Path, *more: str) -> tuple[str, ...]:
        return ("embed", f"recipe={self.recipe}", f"checkpoints={checkpoints}", *more)

    def start(self, checkpoints: Path, *more: str, **changes: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "leafkit.cli", *self.words(checkpoints, *more)],
            env=tiny.environment(**changes),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def make_texts() -> list[str]:
    """No two alike."""
    documents = [document for _, document in tiny.make_pairs(NUM_DOCUMENTS)]
    assert len(set(documents)) == NUM_DOCUMENTS
    return documents


def store_of(checkpoints: Path) -> Path:
    (store,) = (p for p in (checkpoints / "vectors").iterdir() if not p.name.startswith("."))
    return store


def read_store(checkpoints: Path) -> tuple[np.ndarray, list[int]]:
    """All vectors, bit by bit, and how many rows each shard has."""
    store = store_of(checkpoints)
    records = [json.loads(p.read_text()) for p in sorted(store.glob("[0-9]*.json"))]
    vectors = [np.fromfile(p, dtype="<f2") for p in sorted(store.glob("*.vectors"))]
    assert not list(store.glob(".*"))
    return np.concatenate(vectors).reshape(NUM_DOCUMENTS, -1), [r["rows"] for r in records]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    return Home(tmp_path_factory.mktemp("shared"))


@pytest.fixture
def begun(home, tmp_path) -> Path:
    """What a launch of two processes leaves where it is killed before the first shard."""
    shutil.copytree(home.two, tmp_path / "ck")
    shutil.rmtree(tmp_path / "ck" / "tiny")
    for path in store_of(tmp_path / "ck").glob("[0-9]*"):
        path.unlink()
    return tmp_path / "ck"


def test_two_processes_of_a_launch_hold_what_one_computes(home):
    vectors, sizes = read_store(home.two)
    assert home.sizes == [NUM_DOCUMENTS]
    assert sizes == [64] * 10 + [60]
    assert np.array_equal(vectors, home.vectors)
    index = np.load(home.two / "tiny" / "index" / "vectors.npy")
    assert np.array_equal(index, home.vectors)


def test_commands_that_know_nothing_of_each_other_share_a_store(home, begun):
    """As an array of jobs does. One shard is another's all the while, so that both wait in the
    end.
    """
    store = store_of(begun)
    with claimed(store / shard_claim_file(3)) as holder:
        assert not holder
        children = [home.start(begun) for _ in range(2)]
        deadline_s = time.monotonic() + 120
        while len(list(store.glob("[0-9]*.json"))) < 10:
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        assert not (store / "00003.json").exists()
    said = [child.communicate(timeout=200)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0], said
    counts = re.findall(r"vectors of documents documents: (\d+) texts in", "".join(said))
    assert sum(map(int, counts)) == NUM_DOCUMENTS, said
    vectors, sizes = read_store(begun)
    assert sizes == [64] * 10 + [60]
    assert np.array_equal(vectors, home.vectors)
    index = np.load(begun / "tiny" / "index" / "vectors.npy")
    assert np.array_equal(index, home.vectors)


def test_a_command_that_embeds_waits_for_none_on_other_stores(home, begun):
    other = begun / ".locks" / ".vectors-of-another-store"
    with exclusive(begun), claimed(other):  # a training holds the whole folder
        done = tiny.run_cli(*home.words(begun))
    assert done.returncode == 0, done.stderr
    with exclusive(begun / "tiny"):  # a distillation of the same recipe
        refused = tiny.run_cli(*home.words(begun))
    assert refused.returncode == 1
    assert "is in use by" in refused.stderr


@pytest.mark.parametrize("lost", [0, 1])
def test_a_rank_that_dies_is_named_and_ends_the_other_within_half_a_minute(home, begun, lost):
    """Started one by one, for torchrun would end the other itself; the first one waits for its
    turn, and the second for the first.
    """
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": tiny.free_port()}
    with claimed(begun / ".locks" / PRECISION_FILE) as holder:
        assert not holder
        children = [home.start(begun, "precision=auto", RANK=str(r), **place) for r in range(2)]
        for line in children[0].stdout:
            if "waiting for precision=auto" in line:
                break
        children[lost].kill()
        started_s = time.monotonic()
        left = children[1 - lost]
        said = left.communicate(timeout=60)[0]
    children[lost].communicate()
    assert time.monotonic() - started_s < 30
    assert left.returncode == 1, said
    assert said.count(f"error: process {lost} of 2 (on ") == 1
    assert "ended without a word" in said
    assert "Traceback" not in said
