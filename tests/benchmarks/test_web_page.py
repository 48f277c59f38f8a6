"""``benchmarks/web_page.py`` without a browser: what its server counts, what it says of bars and
of the browser, and what it takes for equal.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import web_page
from lib import chromium

from leafkit.data.records import Document


def test_the_server_counts_what_it_sends_and_no_heads(tmp_path):
    (tmp_path / "index.html").write_bytes(b"12345")
    (tmp_path / "large").write_bytes(bytes(300_000))
    with web_page.files_served(tmp_path) as files:
        for name in ("", "large", "large"):
            with urlopen(files.url + name, timeout=30) as answer:
                assert len(answer.read()) == (300_000 if name else 5)
    assert (files.num_files, files.num_bytes) == (3, 600_005)


@pytest.mark.parametrize("name", ["Chromium 156.0.8078.108", "Google Chrome 156.0.8078.108"])
def test_the_browser_is_named_with_its_version(name, tmp_path, monkeypatch):
    program = tmp_path / "browser"
    program.write_text(f"#!/bin/sh\necho '{name} built on Debian GNU/Linux 12'\n")
    program.chmod(0o755)
    monkeypatch.setattr(chromium, "find_chromium", lambda: str(program))
    assert web_page.chromium_version() == name


def test_a_bar_is_under_the_median():
    turns = [{"p50_ms": value} for value in (70.0, 50.0, 59.96)]
    assert web_page.bar_cell(turns, "p50_ms", 1) == "60.0 [50.0, 70.0]"
    assert web_page.bar_cell(turns, "p50_ms", 1, 60) == "60.0 [50.0, 70.0]; bar < 60 reached"
    turns[2]["p50_ms"] = 60.0
    assert web_page.bar_cell(turns, "p50_ms", 1, 60) == "60.0 [50.0, 70.0]; bar < 60 **missed**"


@pytest.fixture
def asked(monkeypatch):
    """A pair of three documents, two questions, a graph that gives (1, 0) and (0, 1), and a model
    that gives (1, 1) for both.
    """
    vectors = {"a": np.float32([1, 0]), "b": np.float32([0, 1])}
    graph = SimpleNamespace(encode_query=vectors.__getitem__)
    model = SimpleNamespace(embed=lambda texts, *_: np.ones((len(texts), 2)), max_tokens=8)
    monkeypatch.setattr(web_page, "OnnxGraphEmbedder", lambda *_: graph)
    monkeypatch.setattr(web_page, "make_embedder", lambda _: model)
    rows = np.float32([[1, 0], [0.6, 0.8], [0, 1]])
    pair = SimpleNamespace(
        dim=2,
        documents=[Document(name, "") for name in "xyz"],
        vectors=rows,
        space=SimpleNamespace(normalized=True),
        student=None,
    )
    return pair, ["a", "b"]


def test_a_turn_is_held_against_leafkits_own_search(asked):
    pair, questions = asked
    ids = [["x", "y", "z"], ["z", "y", "x"]]
    turn = {"shown": ids, "found": ids, "vectors": [[2, 0], [0, 3]]}
    same = web_page.compare(pair, Path(), questions, turn)
    assert (same.num_found, same.num_equal, same.overlap) == (2, 2, 1.0)
    assert same.cosines.tolist() == [1, 1]
    assert same.page == same.native == pytest.approx(0.5**0.5)
    # a vector of its own, and its own hits for it; of the other question a hit is missing
    ids = [["y", "z", "x"], ["z", "y"]]
    turn = {"shown": ids, "found": ids, "vectors": [[0.6, 0.8], [0, 1]]}
    other = web_page.compare(pair, Path(), questions, turn)
    assert (other.num_found, other.num_equal) == (1, 0)
    assert other.overlap == pytest.approx(5 / 6)
    np.testing.assert_allclose(other.cosines, [0.6, 1], rtol=1e-6)
    assert other.page == pytest.approx((1.4 / 2**0.5 + 0.5**0.5) / 2)
    with pytest.raises(SystemExit, match="shows other documents"):
        web_page.compare(pair, Path(), questions, turn | {"shown": [["x"], ["z"]]})


def test_a_page_of_another_pair_is_refused(tmp_path):
    pair = SimpleNamespace(
        documents=[Document("x", "")],
        space=SimpleNamespace(teacher="abc"),
        student=SimpleNamespace(fingerprint="123"),
    )
    (tmp_path / "web").mkdir()
    about = {"space": "abc", "documents": 1}
    (tmp_path / "web" / "page.json").write_text(json.dumps(about))
    (tmp_path / "web" / "query.json").write_text('{"fingerprint": "123"}')
    options = SimpleNamespace(exported=tmp_path, pair=Path("pair"))
    assert web_page.find_page(options, pair, tmp_path) == tmp_path / "web"
    (tmp_path / "web" / "query.json").write_text('{"fingerprint": "124"}')
    with pytest.raises(SystemExit, match="a page of another pair than pair"):
        web_page.find_page(options, pair, tmp_path)
