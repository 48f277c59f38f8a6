"""Pages and cards: replaced only where leafkit wrote them and nobody changed them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from crash import kill_at_every_operation

from leafkit.core.errors import LeafkitError
from leafkit.core.file_hashes import is_stamped, stamped, without_stamp
from leafkit.core.own_files import check_own, write_own

TEXTS = [
    "",
    "\n",
    "# Card\n",
    "no end of line",
    "two\n\n",
    "half \ud83d of a pair\n",
    "\r\n<!-- -->",
]


@pytest.mark.parametrize("text", TEXTS)
def test_what_was_written_is_replaced_and_found_again(tmp_path: Path, text: str) -> None:
    path = tmp_path / "new" / "README.md"
    for content in (text, "another", text):
        write_own(path, content)
        assert is_stamped(path)
    kept = without_stamp(path.read_bytes().decode())
    assert kept.rstrip("\n") == text.encode("utf-8", "backslashreplace").decode().rstrip("\n")
    assert stamped(stamped(text)) == stamped(text)
    assert [p.name for p in path.parent.iterdir()] == ["README.md"]


@pytest.mark.parametrize(
    "content",
    [
        b"ten years of work",
        b"",
        b"\xff\xfe\x00",
        stamped("# Card\n").replace("Card", "Cart").encode(),
        stamped("# Card\n").encode() + b"\nmy own words\n",
        stamped("# Card\n").encode()[:-1],
        b"<!-- written by leafkit, sha256 " + b"0" * 64 + b" -->\n",
    ],
    ids=["own", "empty", "binary", "edited", "more", "cut", "forged"],
)
def test_what_leafkit_did_not_write_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "README.md"
    path.write_bytes(content)
    for refuse in (lambda: check_own([tmp_path / "other", path]), lambda: write_own(path, "x")):
        with pytest.raises(LeafkitError, match="will not be replaced") as caught:
            refuse()
        assert str(path) in str(caught.value)
        assert caught.value.hint
    assert path.read_bytes() == content


@pytest.mark.parametrize("kind", ["folder", "link to nothing", "link to a file"])
def test_other_things_in_the_way_are_named(tmp_path: Path, kind: str) -> None:
    path, elsewhere = tmp_path / "report.html", tmp_path / "elsewhere"
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(elsewhere)
        if kind == "link to a file":
            elsewhere.write_text("precious")
    with pytest.raises(LeafkitError, match=r"report\.html"):
        write_own(path, "x")
    assert not elsewhere.exists() or elsewhere.read_text() == "precious"


def test_killed_at_every_operation_the_old_or_the_new_page_is_there(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_own(path, "old")
    seen = []

    def prepare() -> None:
        for litter in tmp_path.glob(".*"):
            os.unlink(litter)
        path.write_text(stamped("old"))

    for _ in kill_at_every_operation(prepare, lambda: write_own(path, "new" * 1000)):
        assert is_stamped(path)
        seen.append(without_stamp(path.read_text()))
    assert set(seen) == {"old\n", "new" * 1000 + "\n"}
