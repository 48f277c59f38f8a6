"""Artifacts: complete and verified or not there, whatever kills the process."""

from __future__ import annotations

import datetime
import errno
import hashlib
import itertools
import json
import math
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crash import kill_at_every_operation

from leafkit.core import swap, version
from leafkit.core.artifact import (
    find_changes,
    fingerprint,
    open_artifact,
    publish,
    read_manifest,
    seal_of,
    write_durably,
)
from leafkit.core.checkpoint_layout import MANIFEST_FILE
from leafkit.core.errors import LeafkitError
from leafkit.core.process.stop_signals import Terminated

OLD, NEW = {"seed": "old"}, {"seed": "new"}


def _publish(target: Path, inputs: dict[str, Any], **more: Any) -> None:
    """An artifact of two files, one of them in a folder, whose text is the inputs' seed."""
    with publish(target, "train", inputs, {"name": "r"}, **more) as draft:
        (draft / "weights").mkdir()
        (draft / "weights" / "model.bin").write_text(inputs["seed"] * 100)
        (draft / "about.txt").write_text(inputs["seed"])


def _publish_half(target: Path, error: BaseException) -> None:
    with publish(target, "train", NEW, {}) as draft:
        (draft / "about.txt").write_text("half")
        raise error


def _publish_big(target: Path) -> None:
    with publish(target, "train", NEW, {}) as draft:
        (draft / "big.bin").write_bytes(b"x" * 200_000)


def _litter(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if path != target)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where artifacts go; the folder above does not exist yet."""
    return tmp_path / "checkpoints" / "recipe" / "train"


# --- publishing and opening


def test_publish_then_open(target: Path) -> None:
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    metrics: dict[str, Any] = {}
    with publish(target, "train", OLD, {"name": "r", "lr": 0.1}, metrics=metrics) as draft:
        (draft / "weights").mkdir()
        (draft / "weights" / "model.bin").write_bytes(b"abc")
        metrics["loss"] = 0.5
        assert not target.exists()
    manifest = open_artifact(target, "train")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert manifest.files == {"weights/model.bin": abc}
    assert (manifest.step, manifest.inputs, manifest.recipe) == (
        "train",
        OLD,
        {"name": "r", "lr": 0.1},
    )
    assert manifest.metrics == {"loss": 0.5}
    assert {"leafkit", "python", "torch", "numpy"} <= manifest.versions.keys()
    assert (
        before
        <= datetime.datetime.fromisoformat(manifest.created)
        <= datetime.datetime.now(datetime.UTC)
    )
    assert _litter(target) == []


def test_publish_replaces_the_old_one_and_leaves_nothing_beside_it(target: Path) -> None:
    _publish(target, OLD)
    _publish(target, NEW)
    assert open_artifact(target).inputs == NEW
    assert (target / "about.txt").read_text() == "new"
    assert _litter(target) == []


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt()])
@pytest.mark.parametrize("is_first", [True, False])
def test_exception_inside_leaves_the_old_one_and_no_draft(
    target: Path, error: BaseException, is_first: bool
) -> None:
    if not is_first:
        _publish(target, OLD)
    with pytest.raises(type(error)):
        _publish_half(target, error)
    assert _litter(target) == []
    assert target.exists() is not is_first
    if not is_first:
        assert open_artifact(target).inputs == OLD


def test_a_draft_left_by_a_killed_process_does_not_leak_into_the_next_artifact(
    target: Path,
) -> None:
    draft = target.with_name(f".{target.name}.draft")
    draft.mkdir(parents=True)
    (draft / "stale.bin").write_text("x")
    _publish(target, NEW)
    assert sorted(open_artifact(target).files) == ["about.txt", "weights/model.bin"]
    assert not (target / "stale.bin").exists()


@pytest.mark.parametrize("is_file", [True, False])
def test_publish_does_not_replace_what_leafkit_did_not_write(target: Path, is_file: bool) -> None:
    precious = target if is_file else target / "thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("ten years")
    with pytest.raises(
        LeafkitError, match="is no leafkit artifact and will not be replaced"
    ) as caught:
        _publish(target, NEW)
    assert str(target) in str(caught.value)
    assert precious.read_text() == "ten years"


def test_text_that_utf8_cannot_hold_is_recorded(target: Path) -> None:
    undecodable = os.fsdecode(b"caf\xe9.jsonl")  # what a file name in another encoding becomes
    with publish(target, "train", {"uri": undecodable}, {}):
        pass
    assert open_artifact(target).inputs == {"uri": undecodable}


# --- what opening refuses, each by name


@pytest.fixture
def published(target: Path) -> Path:
    """A sound artifact."""
    _publish(target, OLD)
    return target


def _edit_manifest(folder: Path, **changes: Any) -> None:
    path = folder / MANIFEST_FILE
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(content | {"seal": seal_of(content)}))


def test_changed_file(published: Path) -> None:
    path = published / "weights" / "model.bin"
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)
    with pytest.raises(LeafkitError, match="does not have the sha256") as caught:
        open_artifact(published)
    assert str(path) in str(caught.value)
    assert "run the command again" in caught.value.hint


def test_missing_file(published: Path) -> None:
    (published / "weights" / "model.bin").unlink()
    with pytest.raises(LeafkitError, match=r"weights/model\.bin is missing"):
        open_artifact(published)


def test_other_stage(published: Path) -> None:
    with pytest.raises(
        LeafkitError, match="holds a 'train' artifact where 'bench' is needed"
    ) as caught:
        open_artifact(published, "bench")
    assert str(published) in str(caught.value)


def test_no_such_folder(target: Path) -> None:
    with pytest.raises(LeafkitError, match="no such artifact") as caught:
        read_manifest(target)
    assert str(target) in str(caught.value)


def test_foreign_folder(tmp_path: Path) -> None:
    with pytest.raises(LeafkitError, match=f"is not a leafkit artifact: it has no {MANIFEST_FILE}"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"\xff\xfe\x00",
        b'{"format": 1}',
        b'{"format": 1, "stage": "x", "inputs": {}, "recipe": {}, "new": 1}',
        b'{"format": 1, "stage": "x", "inputs": {}, "recipe": {}, "files": ["a"]}',
        b"[" * 100_000,
    ],
    ids=[
        "empty",
        "cut",
        "list",
        "number",
        "not UTF-8",
        "keys missing",
        "unknown key",
        "files no mapping",
        "too deep",
    ],
)
def test_corrupt_manifest(published: Path, content: bytes) -> None:
    (published / MANIFEST_FILE).write_bytes(content)
    for read in (read_manifest, open_artifact, lambda folder: find_changes(folder, "train", OLD)):
        with pytest.raises(LeafkitError, match=f"{MANIFEST_FILE} is corrupt") as caught:
            read(published)
        assert str(published / MANIFEST_FILE) in str(caught.value)


def test_manifest_of_another_format_says_so_even_with_keys_of_its_own(published: Path) -> None:
    _edit_manifest(published, format=4, something_new=[1])
    with pytest.raises(
        LeafkitError, match=rf"{MANIFEST_FILE} has format 4; this leafkit reads 1 to 3"
    ):
        read_manifest(published)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"loss": 0.25', '"loss": 0.125'),
        ('"lr": 0.1', '"lr": 0.2'),
        ('"seed": "old"', '"seed": "odd"'),
        ('"step": "train"', '"step": "trait"'),
        ('"created": "2', '"created": "1'),
        ('"method": "one"', '"method": "two"'),
        ('"1": "one"', '"2": "one"'),
    ],
)
def test_an_edited_figure_or_input_is_noticed(target: Path, old: str, new: str) -> None:
    with publish(
        target,
        "train",
        OLD | {"1": "one"},
        {"lr": 0.1},
        metrics={"loss": 0.25, 7: math.nan},
        method="one",
    ):
        pass
    path = target / MANIFEST_FILE
    text = path.read_text()
    assert read_manifest(target).metrics["loss"] == 0.25
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    for read in (read_manifest, open_artifact, lambda folder: find_changes(folder, "train", OLD)):
        with pytest.raises(LeafkitError, match="was edited since leafkit wrote it") as caught:
            read(target)
        assert str(path) in str(caught.value)
    path.write_text(text)
    assert read_manifest(target).recipe == {"lr": 0.1}


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/passwd", "a/../../b", "nul\0"])
def test_a_manifest_lists_no_file_of_another_folder(published: Path, name: str) -> None:
    _edit_manifest(published, files={name: "0" * 64})
    with pytest.raises(LeafkitError, match="a file lies outside of the folder"):
        open_artifact(published)


@pytest.mark.parametrize("key", ["inputs", "recipe", "metrics", "files", "versions", "created"])
def test_a_field_of_another_type_is_named(published: Path, key: str) -> None:
    _edit_manifest(published, **{key: 3})
    with pytest.raises(LeafkitError, match=f"{key} must be "):
        read_manifest(published)


# --- up to date


@pytest.mark.parametrize(
    ("step", "inputs", "changes"),
    [
        ("train", OLD, []),
        ("train", NEW, ["seed"]),
        ("bench", OLD, None),
        ("train", {}, ["seed"]),
        ("train", OLD | {"more": None}, ["more"]),
    ],
)
def test_changes_are_named(
    published: Path, step: str, inputs: dict[str, Any], changes: list[str] | None
) -> None:
    assert find_changes(published, step, inputs) == changes


def test_another_method_is_a_change(target: Path) -> None:
    _publish(target, OLD, method="one")
    assert find_changes(target, "train", OLD, method="one") == []
    assert find_changes(target, "train", OLD, method="two") == ["method"]
    assert find_changes(target, "train", NEW, method="two") == ["seed", "method"]


def test_a_manifest_of_format_1_is_read_and_its_result_is_of_no_known_method(target: Path) -> None:
    _publish(target, OLD)
    path = target / MANIFEST_FILE
    raw = json.loads(path.read_text())
    old = {key: value for key, value in raw.items() if key not in {"step", "method", "seal"}}
    path.write_text(json.dumps(old | {"format": 1, "stage": "train"}))
    assert open_artifact(target, "train").inputs == OLD
    assert find_changes(target, "train", OLD, method="one") == ["method"]


def test_absent_is_not_up_to_date(target: Path) -> None:
    assert find_changes(target, "train", OLD) is None


def test_inputs_are_compared_as_json(target: Path) -> None:
    inputs = {"dims": (2, 1), "lr": 1e-5, "nested": {"b": None, "a": "ü"}}
    with publish(target, "train", inputs, {}):
        pass
    same = {"nested": {"a": "ü", "b": None}, "lr": 0.00001, "dims": [2, 1]}
    assert find_changes(target, "train", same) == []


def test_damaged_is_an_error_not_out_of_date(published: Path) -> None:
    (published / "about.txt").write_text("tampered")
    with pytest.raises(LeafkitError, match=r"about\.txt does not have the sha256"):
        find_changes(published, "train", OLD)


# --- killed at any moment


def test_a_swap_cut_between_its_renames_is_undone_by_the_next_writer_and_by_no_reader(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "_WAIT_S", 0.05)
    old = published.with_name(f".{published.name}.old")
    os.rename(published, old)
    for read in (read_manifest, open_artifact, lambda folder: find_changes(folder, "train", OLD)):
        with pytest.raises(LeafkitError, match="was being replaced when its writer was stopped"):
            read(published)
        assert _litter(published) == [old.name]
        assert not published.exists()
    swap.recover(published)
    assert open_artifact(published).inputs == OLD
    os.rename(published, old)
    _publish(published, NEW)
    assert open_artifact(published).inputs == NEW
    assert _litter(published) == []


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_reader_in_the_middle_of_a_swap_undoes_nothing(
    published: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    """It reads the old one or the new one, and the writer's comes out on top."""
    if not can_exchange:
        monkeypatch.setattr(swap, "_exchange", lambda one, other: False)
    seen: list[Any] = []
    readers: list[threading.Thread] = []
    real = os.rename

    def rename(source: Any, to: Any) -> None:
        real(source, to)
        reader = threading.Thread(target=lambda: seen.append(read_manifest(published).inputs))
        reader.start()
        readers.append(reader)
        reader.join(0.1)

    monkeypatch.setattr(os, "rename", rename)
    _publish(published, NEW)
    for reader in readers:
        reader.join()
    assert seen == ([] if can_exchange else [NEW, NEW])
    assert open_artifact(published).inputs == NEW
    assert _litter(published) == []


def test_readers_see_an_artifact_at_every_moment(published: Path) -> None:
    """Linux exchanges two folders in one call, so nothing is missing in between."""
    probe = [published.with_name(name) for name in ("one", "other")]
    for folder in probe:
        folder.mkdir()
    if not swap._exchange(*probe):
        pytest.skip("this file system cannot exchange two folders")
    missing, is_over = 0, threading.Event()

    def look() -> None:
        nonlocal missing
        while not is_over.is_set():
            missing += not published.exists()

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(20):
        _publish(published, NEW)
    is_over.set()
    reader.join()
    assert missing == 0


@pytest.mark.parametrize("name", ["notes.txt", "weights/mine.bin", "README.md"])
def test_what_a_user_put_beside_the_files_is_not_lost(published: Path, name: str) -> None:
    (published / name).write_text("ten years")
    with pytest.raises(LeafkitError, match="was not written by leafkit") as caught:
        _publish(published, NEW)
    assert str(published / name) in str(caught.value)
    assert (published / name).read_text() == "ten years"
    assert (published / "about.txt").read_text() == "old"


def test_an_edited_card_is_not_lost(target: Path) -> None:
    for inputs in (OLD, NEW):
        with publish(target, "train", inputs, {}) as draft:
            (draft / "README.md").write_text("card")
    (target / "README.md").write_text("card, with my license")
    with (
        pytest.raises(LeafkitError, match=r"README\.md was edited since"),
        publish(target, "train", OLD, {}),
    ):
        pytest.fail("the work began")


@pytest.mark.parametrize("name", [".cache/x", "logs/events.1", "__pycache__/code.pyc"])
def test_caches_and_logs_are_no_users_files(published: Path, name: str) -> None:
    (published / name).parent.mkdir()
    (published / name).write_text("x")
    _publish(published, NEW)
    assert open_artifact(published).inputs == NEW


@pytest.mark.slow
@pytest.mark.parametrize("can_exchange", [True, False])
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "replacing"])
def test_kill_at_every_operation_leaves_the_old_or_the_new_artifact(
    target: Path, is_first: bool, can_exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_exchange:
        monkeypatch.setattr(swap, "_exchange", lambda one, other: False)
    template = target.parents[2] / "template"
    _publish(template, OLD)

    def prepare() -> None:
        shutil.rmtree(target.parent, ignore_errors=True)
        if not is_first:
            shutil.copytree(template, target)

    seen = []
    for _ in kill_at_every_operation(prepare, lambda: _publish(target, NEW)):
        swap.recover(target)  # as the next run does before it looks
        if is_first and find_changes(target, "train", NEW) != []:
            assert not target.exists()
            seen.append("none")
        else:
            manifest = open_artifact(target, "train")
            assert (target / "about.txt").read_text() == manifest.inputs["seed"]
            seen.append(manifest.inputs["seed"])
        _publish(target, NEW)  # the next run must not stumble over what the dead one left
        assert open_artifact(target).inputs == NEW
        assert _litter(target) == []
    assert seen == sorted(seen, key=[("none" if is_first else "old"), "new"].index)
    assert set(seen) == {"none" if is_first else "old", "new"}
    assert len(seen) > 15


def test_write_durably_killed_at_every_operation_leaves_the_old_or_the_new_bytes(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state.json"
    seen = []
    for _ in kill_at_every_operation(
        lambda: path.write_bytes(b"old"), lambda: write_durably(path, b"new" * 1000)
    ):
        seen.append(path.read_bytes())
    assert set(seen) == {b"old", b"new" * 1000}
    assert len(seen) >= 5


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Terminated])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_what_a_signal_leaves_half_written_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException], call: str
) -> None:
    def stopped(*args: object) -> None:
        raise stop

    (tmp_path / "state.json").write_bytes(b"old")
    monkeypatch.setattr(os, call, stopped)
    with pytest.raises(stop):
        write_durably(tmp_path / "state.json", b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("state.json", b"old")]


# --- a full disk, a folder without permission


def test_full_disk(tiny_disk: Path) -> None:
    target = tiny_disk / "train"
    _publish(target, OLD)
    with pytest.raises(LeafkitError, match=r"cannot write .*No space left on device") as caught:
        _publish_big(target)
    assert "free some space" in caught.value.hint
    assert open_artifact(target).inputs == OLD
    assert _litter(target) == []


@pytest.mark.parametrize(
    ("number", "hint"),
    [(errno.ENOSPC, "free some space"), (errno.EACCES, "give yourself write permission")],
)
def test_refused_at_every_operation(
    target: Path, monkeypatch: pytest.MonkeyPatch, number: int, hint: str
) -> None:
    _publish(target, OLD)
    errors: list[LeafkitError] = []
    for refuse_at in range(1, 100):
        with monkeypatch.context() as patch:
            count = _refuse(patch, refuse_at, number)
            try:
                _publish(target, NEW)
            except LeafkitError as err:
                errors.append(err)
        manifest = open_artifact(target)
        assert (target / "about.txt").read_text() == manifest.inputs["seed"]
        assert not target.with_name(f".{target.name}.draft").exists()
        if next(count) <= refuse_at:  # never reached
            break
        _publish(target, OLD)
    assert len(errors) > 8
    assert all(str(err).startswith("cannot write ") and hint in err.hint for err in errors)


def _refuse(patch: pytest.MonkeyPatch, refuse_at: int, number: int) -> Iterator[int]:
    """Let the n-th operation that changes files fail; the counter's next value is one more than the
    operations made.
    """
    count = itertools.count(1)

    def refusing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(count) == refuse_at:
                named = () if isinstance(args[0], int) else (str(args[0]),)
                raise OSError(number, os.strerror(number), *named)
            return real(*args, **kwargs)

        return call

    for name in ("mkdir", "rename", "replace", "fsync"):
        patch.setattr(os, name, refusing(getattr(os, name)))
    return count


def test_write_durably_on_a_full_disk_keeps_the_old_bytes_and_no_temporary_file(
    tiny_disk: Path,
) -> None:
    path = tiny_disk / "state.json"
    write_durably(path, b"old")
    with pytest.raises(LeafkitError, match="No space left"):
        write_durably(path, b"x" * 200_000)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tiny_disk.iterdir()] == ["state.json"]


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(LeafkitError, match="cannot write") as caught:
        _publish(tmp_path / "checkpoints" / "r" / "train", NEW)
    assert "a file stands where a folder is needed" in caught.value.hint


# --- fingerprints, versions, commit


def test_fingerprint_is_of_content_not_of_order() -> None:
    expected = hashlib.sha256(b'{"a": 1, "b": [1, 2]}').hexdigest()[:16]
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": (1, 2), "a": 1}) == expected
    assert fingerprint({"a": 1}) != fingerprint({"a": "1"})
    assert fingerprint(["\ud800"]) != fingerprint(["\ud801"])


def test_manifest_fingerprint_depends_on_step_and_files_alone(target: Path) -> None:
    _publish(target, OLD)
    first = read_manifest(target)
    other = {"metrics": {"x": 1}, "versions": {}, "recipe": {}, "inputs": NEW, "method": "m"}
    _edit_manifest(target, created="1999", commit="", **other)
    assert read_manifest(target).fingerprint() == first.fingerprint()
    for change in ({"step": "other"}, {"files": {}}):
        _publish(target, OLD)
        _edit_manifest(target, **change)
        assert read_manifest(target).fingerprint() != first.fingerprint()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, ""),
        ({"HEAD": "a1b2\n"}, "a1b2"),
        ({"HEAD": "ref: refs/heads/main\n", "refs/heads/main": "c3d4\n"}, "c3d4"),
        (
            {
                "HEAD": "ref: refs/heads/main\n",
                "packed-refs": "# pack\nffff refs/heads/x-main\ne5f6 refs/heads/main\n",
            },
            "e5f6",
        ),
        ({"HEAD": "ref: refs/heads/new\n", "packed-refs": "e5f6 refs/heads/main\n"}, ""),
        ({"HEAD": "ref: refs/heads/new\n"}, ""),
    ],
    ids=["no checkout", "detached", "loose", "packed", "unborn, packed", "unborn"],
)
def test_git_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: str
) -> None:
    for name, text in files.items():
        path = tmp_path / ".git" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(version, "__file__", str(tmp_path / "leafkit" / "core" / "version.py"))
    assert version.git_commit() == expected


def test_what_a_killed_writer_left_goes_with_the_next_attempt(tmp_path):
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    host = socket.gethostname()
    left = tmp_path / f".cut.json.{host}.{child}.tmp"
    alive, elsewhere, other = (
        tmp_path / name
        for name in (
            f".cut.json.{host}.{os.getppid()}.tmp",
            f".cut.json.other-{host}.{child}.tmp",
            f".cuts.json.{host}.{child}.tmp",
        )
    )
    for path in (left, alive, elsewhere, other):
        path.write_text("half")
    write_durably(tmp_path / "cut.json", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {
        "cut.json",
        alive.name,
        elsewhere.name,
        other.name,
    }
