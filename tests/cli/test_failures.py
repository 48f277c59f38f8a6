"""Whatever ends a command: one line, a hint, a status, and a traceback only in a file."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tiny

from leafkit.cli import main
from leafkit.core.errors import LeafkitError, OutputFailed

RECIPES = "leafkit.cli.commands.recipes.run"


@pytest.fixture(autouse=True)
def _own_logs(tmp_path, monkeypatch):
    """Logs of failures go to the test's folder; ``main`` sets the SIGTERM handler."""
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield
    signal.signal(signal.SIGTERM, handler)


def _fail_with(monkeypatch, error):
    def run(words):
        raise error

    monkeypatch.setattr(RECIPES, run)


def _recursion():
    return _recursion()


def _bad_text():
    return "\udce9".encode()


UNFORESEEN = {
    "KeyError": lambda: {}["missing"],
    "RecursionError": _recursion,
    "UnicodeEncodeError": _bad_text,
    "OverflowError": lambda: float(10**400),
    "AssertionError": lambda: (_ for _ in ()).throw(AssertionError),
    "RuntimeError": lambda: (_ for _ in ()).throw(RuntimeError("two\nlines \x1b[31mred")),
}


@pytest.mark.parametrize("name", UNFORESEEN)
def test_an_unforeseen_exception_is_one_line_and_a_file_with_its_traceback(
    name, monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr(RECIPES, lambda words: UNFORESEEN[name]())
    assert main.main(["recipes", "\udce9"]) == 1
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"error: unexpected {name}")
    assert lines[1].startswith("hint: this is a fault of leafkit: please report it with ")
    assert "Traceback" not in shown.err + shown.out
    assert "\x1b" not in shown.err
    (log,) = tmp_path.glob("leafkit-*.log")
    assert lines[1].endswith(str(log))
    assert "Traceback (most recent call last)" in log.read_text()
    assert name in log.read_text()


def test_where_no_file_can_be_written_the_line_is_all(monkeypatch, capsys):
    monkeypatch.setattr("tempfile.mkstemp", lambda **_: (_ for _ in ()).throw(OSError(28, "full")))
    _fail_with(monkeypatch, ZeroDivisionError("division"))
    assert main.main(["recipes"]) == 1
    told = capsys.readouterr().err
    assert "error: unexpected ZeroDivisionError: division, at leafkit/cli/main.py:" in told
    assert "report it with this line and the command" in told


NUMBERS = [
    "ENOENT", "EACCES", "EPERM", "EISDIR", "ENOTDIR", "ENOSPC", "ENAMETOOLONG", "ELOOP", "EMFILE",
    "ENFILE", "EIO", "ESTALE", "EFBIG", "EROFS", "EDQUOT", "ETXTBSY", "EBUSY", "EINVAL", "ENXIO",
]  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_an_error_of_the_system_is_one_line_with_the_file(name, monkeypatch, capsys, tmp_path):
    number = getattr(errno, name)
    _fail_with(monkeypatch, OSError(number, os.strerror(number), "/data/caf\udce9"))
    assert main.main(["recipes"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"error: /data/caf\\udce9: {os.strerror(number)}"
    assert lines[1].startswith("hint: ")
    assert len(lines) == 2
    assert not list(tmp_path.glob("*.log"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: ["show", f"recipe={root / ('n' * 300)}.yaml"], "File name too long"),
        (lambda root: ["show", f"recipe={root}/a\0b.yaml"], "a\\x00b.yaml' holds a NUL character"),
        (lambda root: ["show", f"recipe={root / 'loop.yaml'}"], "loop.yaml"),
        (lambda root: ["show", f"recipe={root / 'folder.yaml'}"], "folder.yaml"),
        (lambda root: ["show", f"recipe={root / 'gone.yaml'}"], "gone.yaml"),
        (lambda root: ["search", "n" * 5000, "how"], "nnn"),
        (lambda root: ["search", f"{root}/a\0b", "how"], "a\\x00b"),
        (lambda root: ["search", str(root / "loop.yaml"), "how"], "loop.yaml"),
        (lambda root: ["compare", str(root / "loop.yaml"), "n" * 300], "loop.yaml"),
        (lambda root: ["serve", "n" * 5000], "nnn"),
    ],
)
def test_a_path_that_the_system_refuses_is_named(make, words, tmp_path, capsys):
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "gone.yaml").symlink_to("nothing.yaml")
    (tmp_path / "folder.yaml").mkdir()
    assert main.main(make(tmp_path)) in {1, 2}
    told = capsys.readouterr().err
    assert words in told
    assert "unexpected" not in told
    assert told.startswith("error: ")
    assert "hint: " in told


def test_a_foreseen_error_has_neither_control_characters_nor_a_novel(monkeypatch, capsys):
    _fail_with(
        monkeypatch, LeafkitError("bad \x1b]0;title\x07 \u202e name " + "x" * 10_000, "\x9b")
    )
    assert main.main(["recipes"]) == 1
    told = capsys.readouterr().err
    assert "bad \\x1b]0;title\\x07 \\u202e name xxx" in told
    assert "more characters)" in told
    assert len(told) < 2500


def test_memory_that_runs_out_is_said(monkeypatch, capsys):
    _fail_with(monkeypatch, MemoryError())
    assert main.main(["recipes"]) == 1
    assert capsys.readouterr().err.startswith("error: out of memory\nhint: free some memory")


def test_a_command_runs_in_another_thread_than_the_first(capsys):
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(main.main(["--version"])))
    thread.start()
    thread.join()
    assert statuses == [0]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"WORLD_SIZE": "abc", "RANK": "0"}, "WORLD_SIZE is 'abc'"),
        ({"WORLD_SIZE": "²", "RANK": "0"}, "WORLD_SIZE is '²'"),
        ({"WORLD_SIZE": "0", "RANK": "0"}, "WORLD_SIZE is '0'"),
        ({"WORLD_SIZE": "9" * 5000, "RANK": "0"}, "WORLD_SIZE is '999"),
        ({"WORLD_SIZE": "2", "RANK": "x"}, "RANK is 'x'"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK is '2'"),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "RANK is '-1'"),
        ({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "one"}, "LOCAL_RANK is 'one'"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE is '0'"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "MASTER_PORT is not set"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "70000"}, "MASTER_PORT is '70000'"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "29500"}, "MASTER_ADDR is not set"),
        ({"WORLD_SIZE": "4"}, "WORLD_SIZE is '4', but RANK is not set"),
        ({"RANK": "abc"}, "RANK is 'abc', but WORLD_SIZE is not set"),
        ({"SLURM_NTASKS": "many", "SLURM_PROCID": "0"}, "SLURM_NTASKS is 'many'"),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": ""}, "SLURM_PROCID is ''"),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_NNODES": "0"}, "SLURM_NNODES is '0'"),
    ],
)
def test_a_launch_that_contradicts_itself_is_named(changes, named, monkeypatch, capsys, tmp_path):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    recipe = {"teacher": {"source": "model:/no"}, "data": {"corpus": "builtin:pydocs"}}
    word = f"recipe={tiny.write_recipe(tmp_path / 'r.yaml', recipe)}"
    assert main.main(["embed", word, "device=cpu", f"checkpoints={tmp_path / 'ck'}"]) == 2
    assert f"the environment variable {named}" in capsys.readouterr().err


class _Full(io.StringIO):
    """An output that takes nothing, for the given reason."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def write(self, text: str) -> int:
        raise OSError(self._number, os.strerror(self._number))


@pytest.mark.parametrize(
    ("number", "status", "told"),
    [
        (errno.EPIPE, 141, ""),
        (errno.ENOSPC, 1, "cannot write to standard output: No space left on device"),
        (errno.EIO, 1, "cannot write to standard output: Input/output error"),
    ],
)
@pytest.mark.parametrize("words", [[], ["--version"], ["show", "recipe=kalm-to-23m"], ["recipes"]])
def test_an_output_that_takes_no_more(words, number, status, told, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", _Full(number))
    assert main.main(words) == status
    assert told in capsys.readouterr().err


def test_what_is_logged_while_a_file_is_written_fails_for_the_output_and_not_for_the_file(
    monkeypatch,
):
    from leafkit.core.console import log
    from leafkit.core.errors import explain_write_errors

    monkeypatch.setattr(sys, "stdout", _Full(errno.ENOSPC))
    with pytest.raises(OutputFailed), explain_write_errors(Path("/place")):
        log("a line")


@pytest.mark.parametrize("stdout", ["/dev/full", "pipe", "closed"])
def test_a_real_output_that_takes_no_more(stdout):
    """The interpreter adds nothing of its own at exit."""
    command = f"{sys.executable} -m leafkit.cli show recipe=kalm-to-23m"
    script = {
        "/dev/full": f"{command} > /dev/full",
        "pipe": f"{command} | true; exit ${{PIPESTATUS[0]}}",
        "closed": f"{command} >&-",
    }[stdout]
    done = subprocess.run(
        ["bash", "-c", script], env=tiny.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == {"/dev/full": 1, "pipe": 141, "closed": 0}[stdout]
    told = done.stderr.splitlines()
    if stdout == "/dev/full":
        assert told[0] == "error: cannot write to standard output: No space left on device"
        assert len(told) == 2
    else:
        assert told == []
