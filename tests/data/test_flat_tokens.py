"""Flat token ids: what goes in comes out, in memory and on disk, and damaged files are refused by
name.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crash import kill_at_every_operation

from leafkit.core.errors import LeafkitError
from leafkit.data.stored.flat_tokens import FlatTokens, flatten, open_tokens, write_tokens

PARTS: list[list[list[int]]] = [[[5, 6, 7], []], [], [[2**31 - 1]], [[8, 9], [0]]]
IDS = [ids for part in PARTS for ids in part]
OTHERS = [[[1, 2], [3]], [[4]], [[5], [6]]]
OLD = [ids for part in OTHERS for ids in part]


def as_lists(tokens: FlatTokens) -> list[list[int]]:
    return [ids.tolist() for ids in tokens]


def opened(folder: Path, **changes: Any) -> FlatTokens | None:
    return open_tokens(**{"folder": folder, "identity": "who", "num_texts": len(IDS)} | changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Committed token ids of five texts."""
    write_tokens(tmp_path / "tokens", "who", PARTS)
    return tmp_path / "tokens"


@pytest.fixture(params=["memory", "disk"])
def tokens(request: pytest.FixtureRequest, folder: Path) -> FlatTokens:
    """The same ids in memory and mapped."""
    found = flatten(PARTS) if request.param == "memory" else opened(folder)
    assert found is not None
    return found


def test_what_goes_in_comes_out(tokens: FlatTokens) -> None:
    assert as_lists(tokens) == IDS
    assert [tokens[i].tolist() for i in range(len(tokens))] == IDS
    assert tokens[-1].tolist() == [0]
    assert tokens[1].dtype == np.int32
    assert tokens.lengths.tolist() == [3, 0, 1, 2, 1]
    assert tokens.num_tokens == 7
    assert tokens.nbytes == 4 * 7 + 8 * 6


def test_an_item_is_a_view(tokens: FlatTokens) -> None:
    assert np.shares_memory(tokens[0], tokens._ids)


def test_files_cannot_be_written_through_a_view(folder: Path) -> None:
    found = opened(folder)
    assert found is not None
    with pytest.raises(ValueError, match="read-only"):
        found[0][0] = 1


def test_a_slice_is_its_texts(tokens: FlatTokens) -> None:
    part = tokens[2:4]
    assert as_lists(part) == IDS[2:4]
    assert part.num_tokens == 3
    assert np.concatenate(list(part.chunks())).tolist() == [2**31 - 1, 8, 9]
    assert as_lists(part[1:]) == [[8, 9]]
    assert as_lists(tokens[4:2]) == []
    with pytest.raises(ValueError, match="texts in a row"):
        tokens[::2]
    with pytest.raises(IndexError):
        tokens[5]


def test_chunks_hold_all_ids_in_order(tokens: FlatTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leafkit.data.stored.flat_tokens._TOKENS_PER_CHUNK", 3)
    assert [chunk.tolist() for chunk in tokens.chunks()] == [[5, 6, 7], [2**31 - 1, 8, 9], [0]]
    assert [chunk.tolist() for chunk in tokens[2:].chunks()] == [[2**31 - 1, 8, 9], [0]]


def test_equal_ids_of_other_texts_are_not_equal(tokens: FlatTokens) -> None:
    assert tokens.equals(flatten([IDS]))
    assert flatten([[[1], *IDS]])[1:].equals(tokens)
    assert not tokens.equals(flatten([[[5, 6], [7], [2**31 - 1], [8, 9], [0]]]))
    assert not tokens.equals(flatten([[*IDS[:-1], [1]]]))
    assert not tokens.equals(flatten([[*IDS, []]]))


@pytest.mark.parametrize("parts", [[], [[]], [[[], []]]])
def test_nothing_is_something(tmp_path: Path, parts: Any) -> None:
    num_texts = sum(map(len, parts))
    write_tokens(tmp_path / "none", "who", parts)
    kept = opened(tmp_path / "none", num_texts=num_texts)
    assert kept is not None
    for found in (flatten(parts), kept):
        assert as_lists(found) == [[]] * num_texts
        assert list(found.chunks()) == []


def test_arrays_go_in_as_lists_do() -> None:
    assert as_lists(flatten([[np.array([3, 4], dtype=np.int64)], flatten(PARTS)])) == [[3, 4], *IDS]


def test_an_id_beyond_32_bits_is_no_other_id() -> None:
    with pytest.raises(OverflowError):
        flatten([[[2**31]]])


def test_no_list_of_python_numbers_is_kept(tmp_path: Path) -> None:
    """A part is gone before the next one is made."""
    alive = 0

    class Part(list[list[int]]):
        def __init__(self) -> None:
            nonlocal alive
            alive += 1
            assert alive <= 2
            super().__init__([[1, 2, 3]] * 10)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    assert len(flatten(Part() for _ in range(50))) == 500
    write_tokens(tmp_path / "tokens", "who", (Part() for _ in range(50)))
    assert opened(tmp_path / "tokens", num_texts=500) is not None


def test_no_descriptor_stays_open(folder: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    kept = [opened(folder) for _ in range(8)]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert all(found is not None and as_lists(found) == IDS for found in kept)


# --- what is refused


def test_what_was_never_committed_is_not_there(tmp_path: Path, folder: Path) -> None:
    assert opened(tmp_path / "nowhere") is None
    (folder / "tokens.json").unlink()
    assert opened(folder) is None


@pytest.mark.parametrize("changes", [{"identity": "else"}, {"num_texts": 6}])
def test_ids_of_something_else_are_refused(folder: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(LeafkitError, match=r"tokens\.json is of other texts or another tokenizer"):
        opened(folder, **changes)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["ids.int32", "offsets.int64"])
@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_cut, "has not the [0-9]+ bytes"),
        (Path.unlink, "is missing"),
        (_flip, "does not have the sha256"),
    ],
)
def test_a_damaged_file_is_named(
    folder: Path, name: str, damage: Callable[[Path], None], complaint: str
) -> None:
    damage(folder / name)
    with pytest.raises(LeafkitError, match=complaint) as caught:
        opened(folder)
    assert str(folder / name) in str(caught.value)
    assert str(folder) in caught.value.hint
    write_tokens(folder, "who", PARTS)
    found = opened(folder)
    assert found is not None
    assert as_lists(found) == IDS


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"texts": "5"},
        {"tokens": True},
        {"sha256": {"ids.int32": "0"}},
        {"sha256": 3},
        {"more": 1},
    ],
)
def test_a_record_of_another_form_is_named(folder: Path, change: dict[str, Any]) -> None:
    path = folder / "tokens.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(LeafkitError, match=r"tokens\.json is no commit record"):
        opened(folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_a_record_that_is_none_is_named(folder: Path, content: bytes) -> None:
    (folder / "tokens.json").write_bytes(content)
    with pytest.raises(LeafkitError, match=r"tokens\.json is no commit record"):
        opened(folder)


# --- a machine that stops


@pytest.mark.parametrize("before", [False, True])
def test_a_process_killed_at_any_moment_leaves_all_or_nothing(tmp_path: Path, before: bool) -> None:
    folder, kept = tmp_path / "tokens", tmp_path / "kept"
    write_tokens(kept, "who", OTHERS)
    outcomes = set()

    def prepare() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        if before:
            shutil.copytree(kept, folder)

    for _ in kill_at_every_operation(prepare, lambda: write_tokens(folder, "who", PARTS)):
        found = opened(folder)
        state = None if found is None else as_lists(found)
        assert state in ([None, IDS] + [OLD] * before)
        outcomes.add("none" if state is None else "old" if state != IDS else "new")
        write_tokens(folder, "who", PARTS)
        found = opened(folder)
        assert found is not None
        assert as_lists(found) == IDS
    assert outcomes == {"none", "new"} | ({"old"} if before else set())


def test_a_mapped_file_that_is_replaced_stays_what_it_was(folder: Path) -> None:
    found = opened(folder)
    assert found is not None
    write_tokens(folder, "who", OTHERS)
    assert as_lists(found) == IDS


def test_a_full_disk_is_one_error_and_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(LeafkitError, match=r"cannot write .*: No space left"):
        write_tokens(tmp_path / "tokens", "who", PARTS)
    assert list((tmp_path / "tokens").iterdir()) == []
