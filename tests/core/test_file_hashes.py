"""A file that has not changed is not read again; one that has, however it is disguised, is."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest

from leafkit.core import file_hashes
from leafkit.core.artifact import open_artifact, publish
from leafkit.core.checkpoint_layout import VERIFIED_FILE
from leafkit.core.errors import LeafkitError
from leafkit.core.file_hashes import HashMemory, remembered_hashes, sha256_of_file
from leafkit.core.watch import is_settled

SETTLED_S = 0.05  # longer than a tick of the file system's clock


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read to be hashed, in order."""
    names: list[str] = []
    plain = file_hashes.read_sha256

    def count(path: Path) -> str:
        names.append(path.name)
        return plain(path)

    monkeypatch.setattr(file_hashes, "read_sha256", count)
    return names


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """An artifact of two files, one of them in a folder, finished a moment ago."""
    with publish(tmp_path / "ck" / "model", "train", {}, {}) as draft:
        (draft / "part").mkdir()
        (draft / "part" / "weights.bin").write_bytes(b"w" * 1000)
        (draft / "about.txt").write_bytes(b"about")
    time.sleep(SETTLED_S)
    return tmp_path / "ck" / "model"


def test_an_unchanged_artifact_is_read_once(artifact: Path, read: list[str]) -> None:
    for _ in range(3):
        open_artifact(artifact, "train")
    assert sorted(read) == ["about.txt", "weights.bin"]


def test_a_copied_folder_is_read_once(artifact: Path, read: list[str]) -> None:
    open_artifact(artifact)
    for number, copy in enumerate((shutil.copy, shutil.copy2)):
        place = artifact.with_name(f"copy{number}")
        shutil.copytree(artifact, place, copy_function=copy)
        time.sleep(SETTLED_S)
        read.clear()
        for _ in range(3):
            open_artifact(place)
        assert sorted(read) == ["about.txt", "weights.bin"]


@pytest.mark.parametrize("shift_ns", [-(10**9), 0, 10**9])
def test_a_changed_byte_is_found_whatever_time_is_put_on_it(artifact: Path, shift_ns: int) -> None:
    open_artifact(artifact)
    path = artifact / "part" / "weights.bin"
    before = path.stat()
    with path.open("r+b") as stream:
        stream.write(b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + shift_ns))
    assert path.stat().st_size == before.st_size
    for _ in range(2):
        with pytest.raises(LeafkitError, match=r"weights\.bin does not have the sha256"):
            open_artifact(artifact)


def test_a_file_put_in_its_place_is_found(artifact: Path) -> None:
    open_artifact(artifact)
    path = artifact / "about.txt"
    before = path.stat()
    other = artifact.with_name("other")
    other.write_bytes(b"ABOUT")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, path)
    with pytest.raises(LeafkitError, match=r"about\.txt does not have the sha256"):
        open_artifact(artifact)


def test_a_touched_file_is_read_once_more(artifact: Path, read: list[str]) -> None:
    open_artifact(artifact)
    (artifact / "about.txt").touch()
    time.sleep(SETTLED_S)
    read.clear()
    open_artifact(artifact)
    open_artifact(artifact)
    assert read == ["about.txt"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": 0, "files": {}}',
        '{"format": 1}',
        '{"format": 1, "files": {"about.txt": [1]}}',
        '{"format": 1, "files": {"about.txt": [5, 0, 0, 0, "no hash"]}}',
        "\xff",
    ],
)
def test_a_torn_or_foreign_memory_counts_as_empty(
    artifact: Path, read: list[str], text: str
) -> None:
    (artifact / VERIFIED_FILE).write_text(text, encoding="latin-1")
    open_artifact(artifact)
    assert sorted(read) == ["about.txt", "weights.bin"]
    read.clear()
    open_artifact(artifact)
    assert read == []


def test_a_memory_of_a_lie_does_not_help_a_changed_file(artifact: Path) -> None:
    """What is remembered is the file's own hash, which the manifest's must equal."""
    (artifact / "about.txt").write_bytes(b"ABOUT")
    time.sleep(SETTLED_S)
    for _ in range(2):
        with pytest.raises(LeafkitError, match=r"about\.txt does not have the sha256"):
            open_artifact(artifact)


def test_a_file_changed_just_now_is_not_trusted(tmp_path: Path, read: list[str]) -> None:
    path = tmp_path / "file"
    memory = HashMemory(tmp_path / "memory.json")
    path.write_bytes(b"one")
    state = path.stat()
    os.utime(path, ns=(state.st_atime_ns, time.time_ns() + 10**9))
    memory.sha256(path, "file")
    memory.sha256(path, "file")
    assert read == ["file", "file"]
    # a clock of whole seconds
    os.utime(path, ns=(0, time.time_ns() // 10**9 * 10**9))
    assert not is_settled((3, 10**9, 10**9, 1), 2 * 10**9)
    assert is_settled((3, 10**9 + 1, 10**9, 1), 2 * 10**9)


def test_a_folder_that_cannot_be_written_is_opened_all_the_same(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, read: list[str]
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(file_hashes, "draft_of_file", refuse)
    open_artifact(artifact)
    open_artifact(artifact)
    assert not (artifact / VERIFIED_FILE).exists()
    assert len(read) == 4


def test_what_a_stopped_reader_left_of_its_memory_goes(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    left = artifact / f".{VERIFIED_FILE}.{socket.gethostname()}.{child}-{child}.tmp"
    left.write_text("half")  # of a process that was killed
    open_artifact(artifact)
    assert not left.exists()
    (artifact / VERIFIED_FILE).unlink()

    def stop(*args: object) -> None:
        raise SystemExit(143)  # as a signal's handler does

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", stop)
        with pytest.raises(SystemExit):
            open_artifact(artifact)
    assert {path.name for path in artifact.iterdir()} == {"part", "about.txt", "manifest.json"}


def test_readers_at_once_leave_one_whole_memory(artifact: Path) -> None:
    errors: list[BaseException] = []

    def reader() -> None:
        try:
            for _ in range(20):
                open_artifact(artifact, "train")
                (artifact / VERIFIED_FILE).unlink(missing_ok=True)
        except BaseException as err:
            errors.append(err)

    threads = [threading.Thread(target=reader) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    open_artifact(artifact)
    assert errors == []
    names = {path.name for path in artifact.iterdir()}
    assert names == {"part", "about.txt", "manifest.json", VERIFIED_FILE}
    kept = json.loads((artifact / VERIFIED_FILE).read_text())["files"]
    assert kept["about.txt"][-1] == hashlib.sha256(b"about").hexdigest()


def test_hashes_are_remembered_from_one_run_to_the_next(tmp_path: Path, read: list[str]) -> None:
    path, kept = tmp_path / "data.jsonl", tmp_path / ".hashes.json"
    path.write_bytes(b"{}\n")
    time.sleep(SETTLED_S)
    expected = hashlib.sha256(b"{}\n").hexdigest()
    for _ in range(2):
        with remembered_hashes(kept):
            assert sha256_of_file(path) == expected
            assert sha256_of_file(path) == expected
    assert read == ["data.jsonl"]
    assert sha256_of_file(path) == expected  # outside nothing is remembered
    assert read == ["data.jsonl"] * 2
    path.write_bytes(b"[]\n")
    with remembered_hashes(kept, is_kept=False):
        assert sha256_of_file(path) == hashlib.sha256(b"[]\n").hexdigest()


def test_a_missing_file_is_an_error_of_its_own(tmp_path: Path) -> None:
    with remembered_hashes(tmp_path / "kept"), pytest.raises(FileNotFoundError):
        sha256_of_file(tmp_path / "none")
