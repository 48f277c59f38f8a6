"""What a person sees: plain lines where there is no terminal, silence from other processes, text as
it is.
"""

from __future__ import annotations

import io
import itertools
import json
import logging
import re
from collections.abc import Callable, Iterator
from subprocess import Popen

import pytest
from rich.console import Console

from leafkit.core import console
from leafkit.core.errors import UsageError


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """The console's output, without a terminal, from the process of rank 0."""
    return _replace_console(monkeypatch, is_terminal=False)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """The console's output on a terminal, from the process of rank 0."""
    return _replace_console(monkeypatch, is_terminal=True)


def _replace_console(monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> io.StringIO:
    out = io.StringIO()
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    replacement = Console(
        file=out, force_terminal=is_terminal, highlight=False, soft_wrap=True, width=120
    )
    monkeypatch.setattr(console, "console", replacement)
    return out


def _words(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


OBEYED = [
    "\x1b[31m",
    "\x1b]0;title\x07",
    "\x9b2J",
    "\r",
    "\x08",
    "\x00",
    "\u202e",
    "\u2066",
    "\x7f",
]


@pytest.mark.parametrize("code", OBEYED, ids=ascii)
@pytest.mark.parametrize("is_terminal", [False, True])
def test_no_text_makes_the_terminal_obey(
    monkeypatch: pytest.MonkeyPatch, code: str, is_terminal: bool
) -> None:
    """Names of files, ids and texts of documents, words of servers: whatever is shown."""
    out = io.StringIO()
    shown = console._Output(
        file=out, force_terminal=is_terminal, highlight=False, soft_wrap=True, width=200
    )
    monkeypatch.setattr(console, "console", shown)
    text = f"before{code}after"
    console.log(text)
    console.warn(text)
    logging.getLogger("leafkit.server").error("%s", text)
    shown.print(text, markup=False)
    shown.print(f"[bold]{text}[/]")
    console.show_table(text, [{text: text, "n": 1}], [text, "n"])
    with console.progress_bar(text, 2, "texts") as bar:
        bar.advance(1, text)
    own = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r(?=\x1b|\n)", "", out.getvalue())
    if is_terminal:
        own = own.replace("\r", "")  # of the bar, which is drawn again and again
    assert code[0] not in own
    assert "before" in own
    assert "after" in own
    assert out.getvalue().count("\x1b[31m") == 0


def test_plain_bar_ends_with_one_line_and_no_control_codes(plain: io.StringIO) -> None:
    with console.progress_bar("embedding", 1200, "texts") as bar:
        for _ in range(12):
            bar.advance(100)
    assert re.fullmatch(
        r"  embedding: 1,200 texts in \d+\.\d s \([\d,]+ texts/s\)\n", plain.getvalue()
    )


def test_plain_bar_speaks_at_intervals_with_throughput_note_and_time_left(
    plain: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(0.0, 4.0)
    monkeypatch.setattr(console.time, "perf_counter", lambda: next(clock))
    with console.progress_bar("training", 10, "steps") as bar:
        for i in range(10):
            bar.advance(1, note=f"loss {i}")
    lines = plain.getvalue().splitlines()
    # The clock ticks once before the bar is made (4 s), so step n ends 4 n s later; a line is due
    # every 10 s.
    assert lines[:-1] == [
        "  training: 3/10 steps, 0.25 steps/s loss 2, 28 s left",
        "  training: 6/10 steps, 0.25 steps/s loss 5, 16 s left",
        "  training: 9/10 steps, 0.25 steps/s loss 8, 4 s left",
    ]
    assert lines[-1].startswith("  training: 10 steps in ")


@pytest.mark.parametrize("variable", ["RANK", "SLURM_PROCID"])
def test_other_processes_are_silent(
    plain: io.StringIO, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(console, "PLAIN_LINE_EVERY_S", 0.0)
    console.log("hello")
    with console.progress_bar("title", 3, "texts") as bar:
        bar.advance(1, note="x")
    assert not console.is_main_process()
    assert plain.getvalue() == ""


def test_rank_zero_speaks_and_rank_wins_over_slurm(
    plain: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("SLURM_PROCID", "3")
    console.log("hello")
    assert plain.getvalue() == "hello\n"


@pytest.mark.parametrize(
    "text",
    [
        "[bold]x[/bold]",
        "[/] closes nothing",
        "[red",
        "C:\\",
        "a \\[b] c",
        "see :key: and :warning:",
        "",
        "é 語 \U0001f600",
    ],
)
def test_log_prints_text_as_it_is(plain: io.StringIO, text: str) -> None:
    console.log(text)
    console.log(text, style="bold")
    assert plain.getvalue() == f"{text}\n{text}\n"


def test_style_reaches_a_terminal(terminal: io.StringIO) -> None:
    console.log("hello", style="bold")
    assert "\x1b[1m" in terminal.getvalue()


def test_markup_in_title_and_note_is_text_on_a_terminal(terminal: io.StringIO) -> None:
    with console.progress_bar("[bold]files[/] of [/x]", 2, "rows") as bar:
        bar.advance(1, note="[red]note[/]")
        bar._live.refresh()
    shown = _words(terminal.getvalue())
    assert "[bold]files[/] of [/x]" in shown
    assert "[red]note[/]" in shown
    assert "1/2" in shown


def test_markup_in_title_is_text_in_plain_lines(plain: io.StringIO) -> None:
    with console.progress_bar("[bold]files[/]", 1, "rows") as bar:
        bar.advance()
    assert plain.getvalue().startswith("  [bold]files[/]: 1 rows in ")


def test_bar_does_not_swallow_exceptions_nor_claim_success(plain: io.StringIO) -> None:
    with pytest.raises(RuntimeError, match="stop"), console.progress_bar("t", 5, "rows"):
        raise RuntimeError("stop")
    assert plain.getvalue() == ""


def test_empty_step(plain: io.StringIO) -> None:
    with console.progress_bar("nothing", 0, "rows"):
        pass
    assert plain.getvalue().startswith("  nothing: 0 rows in ")


@pytest.fixture
def as_before() -> Iterator[None]:
    """Verbosity is put back to that of the other tests."""
    yield
    console.set_verbosity("info")


@pytest.mark.usefixtures("as_before")
@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("info", "hello\ncare\n"),
        ("warning", "care\n"),
        ("error", ""),
        ("silent", ""),
    ],
)
def test_verbosity_decides_what_is_printed(plain: io.StringIO, level: str, shown: str) -> None:
    console.set_verbosity(level)
    console.log("hello")
    console.warn("care")
    assert plain.getvalue() == shown


@pytest.mark.usefixtures("as_before")
def test_without_info_there_are_no_bars(terminal: io.StringIO) -> None:
    console.set_verbosity("warning")
    with console.progress_bar("embedding", 2, "texts") as bar:
        bar.advance(2, note="x")
    console.show_table("title", [{"a": 1}], ["a"])
    assert terminal.getvalue() == ""


def test_an_unknown_verbosity_is_refused() -> None:
    with pytest.raises(UsageError, match="verbosity 'loud' is not known") as caught:
        console.set_verbosity("loud")
    assert "info" in caught.value.hint


def test_as_a_library_nothing_is_printed_and_a_handler_of_ones_own_gets_it(
    run_python: Callable[[str], Popen[str]],
) -> None:
    out, err = run_python(
        """
import json, logging
from leafkit.core import console
console.log("unheard"); console.warn("unheard")
lines = []
class Keep(logging.Handler):
    def emit(self, record):
        lines.append([record.levelname, record.getMessage()])
logging.getLogger().addHandler(Keep())
logging.getLogger("leafkit").setLevel("INFO")
console.log("100% done")
console.warn("care")
console.show_table("title", [{"a": 1234, "b": "x"}], ["a", "b"])
with console.progress_bar("rows", 1, "rows") as bar:
    bar.advance(1)
lines[-1][1] = lines[-1][1].split(" in ")[0]
print(json.dumps(lines))
"""
    ).communicate(timeout=60)
    assert err == ""
    assert json.loads(out) == [
        ["INFO", "100% done"],
        ["WARNING", "care"],
        ["INFO", "title\na  b\n1,234  x"],
        ["INFO", "  rows: 1 rows"],
    ]
    assert logging.getLogger("leafkit").handlers
