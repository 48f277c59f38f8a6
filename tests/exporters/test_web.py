"""A page that searches without a server: its files, and in a browser, numpy's ranking of them."""

from __future__ import annotations

import functools
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from browser import MODULES, Browser, need
from report_page import Page
from served import DOCUMENTS, make_pair, save_pair
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

import leafkit
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.file_hashes import sha256_of_file
from leafkit.data.records import Document
from leafkit.embedders.onnx_graph import OnnxGraphEmbedder
from leafkit.exporters import onnx_export
from leafkit.exporters.source import ExportSource
from leafkit.exporters.targets import write_targets
from leafkit.exporters.web import runtime, target
from leafkit.exporters.web.search_page import SearchPage
from leafkit.models.static_encoder import StaticEncoder, bare_tokenizer

MARKUP = "<img src=x onerror=alert(1)> draw the <b>graph</b>\u2028\nof the matrix"
QUESTIONS = [
    "draw the graph",
    "invert the MATRIX, quickly!",
    "Wörld 矩阵求逆 naïve \U0001f600",
    "  \ufeffspaces \t around\n",
    "compute the integral of the signal " * 40,  # longer than the model reads
    "a\0b",
    "lone \ud800 surrogate",
    "?!",
]


@pytest.fixture
def fake_runtime(tmp_path, monkeypatch) -> Path:
    """A folder that holds what is taken for npm's packages."""
    folder = tmp_path / "npm"
    for name, package in runtime.PACKAGES.items():
        files = {}
        for place in package.files:
            path = folder / "node_modules" / name / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"// {name} {place}")
            files[place] = sha256_of_file(path)
        monkeypatch.setitem(runtime.PACKAGES, name, replace(package, files=files))
    return folder


def source(page: SearchPage | None = None, **settings) -> ExportSource:
    encoder = tiny.make_encoder(prompts={"query": tiny.PROMPT}, **settings).eval()
    found = ExportSource(encoder, {"teacher": "abc"}, name="mini")
    return found if page is None else replace(found, page=lambda: page)


def search_page(folder: Path | None, num: int = 3, dim: int = 32) -> SearchPage:
    vectors = np.random.default_rng(0).standard_normal((num, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    documents = [Document(f"d{i}", "draw") for i in range(num)]
    return SearchPage(documents, vectors, "abc", folder, "p{margin:0}")


# --- what is refused


@pytest.mark.parametrize("inner", ["", "node_modules"])
def test_the_runtime_is_found_where_npm_puts_it(inner, fake_runtime):
    found = runtime.find_runtime(fake_runtime / inner)
    assert sorted(found) == [
        "ort-wasm-simd-threaded.js",
        "ort-wasm-simd-threaded.wasm",
        "ort.wasm.min.js",
        "tokenizers.min.js",
    ]


def test_another_runtime_is_refused_with_the_line_that_brings_the_right_one(fake_runtime):
    line = "npm install --ignore-scripts --prefix FOLDER onnxruntime-web@1.30.0 @huggingface/tok"
    with pytest.raises(UsageError, match="which npm brings and pip does not") as refused:
        runtime.find_runtime(None)
    assert line in refused.value.hint
    path = fake_runtime / "node_modules/@huggingface/tokenizers/dist/tokenizers.min.mjs"
    path.write_text("// newer")
    with pytest.raises(UsageError, match=r"is not that of @huggingface/tokenizers 0\.2\.0"):
        runtime.find_runtime(fake_runtime)
    path.unlink()
    with pytest.raises(UsageError, match=r"tokenizers\.min\.mjs is not there") as refused:
        runtime.find_runtime(fake_runtime)
    assert line in refused.value.hint


def test_what_a_page_cannot_search_is_refused_before_anything_is_written(
    fake_runtime, tmp_path, monkeypatch
):
    page = search_page(fake_runtime)
    tokenizer = bare_tokenizer(tiny.make_tokenizer())
    table = torch.randn(tokenizer.get_vocab_size(), 8)
    static = ExportSource(StaticEncoder(tokenizer, table, nn.Linear(8, 32)).eval(), name="mini")
    cases = [
        (static, "mini is a table"),
        (source(), "a model folder alone has none"),
        (source(replace(page, runtime=None)), "which npm brings"),
        (source(page, normalized=False), "vectors of length one"),
        (source(replace(page, documents=[])), "no documents"),
        (source(replace(page, space="xyz")), "live in the space xyz"),
        (source(search_page(fake_runtime, dim=16)), "16 dimensions"),
    ]
    for one, message in cases:
        with pytest.raises(LeafkitError, match=message):
            write_targets(one, tmp_path / "out", ["web"])
    size = 4 * source().encoder.num_parameters()
    for limit, message in ((size - 1, "holds two gigabytes"), (size, "more than a browser holds")):
        monkeypatch.setattr(target, "_LARGEST_BYTES", limit)
        monkeypatch.setattr(onnx_export, "LARGEST_BYTES", limit)
        many = replace(page, documents=page.documents * (size // 96 + 1))
        with pytest.raises(LeafkitError, match=message):
            write_targets(source(many), tmp_path / "out", ["web"])
    assert not (tmp_path / "out").exists()


def test_a_runtime_without_the_target_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is for the target web"):
        leafkit.export(make_pair(), tmp_path / "out", to=["hub"], web_runtime=tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_student_that_int8_does_not_hold_has_no_page(fake_runtime, tmp_path, monkeypatch):
    page = search_page(fake_runtime)
    monkeypatch.setattr(target, "_smallest_cosine", lambda *_: float("nan"))
    with pytest.raises(LeafkitError, match=r"int8 graph with the model is nan, where 0\.9 is"):
        write_targets(source(page), tmp_path / "out", ["web"])
    assert not (tmp_path / "out" / "web").exists()


def test_special_tokens_stand_around_every_text(tmp_path):
    tokenizer = tiny.make_tokenizer()
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    ids = [[tokenizer.cls_token_id], [tokenizer.sep_token_id]]
    found = target.special_tokens(tmp_path / "tokenizer.json", ["draw", "the graph", ""])
    assert list(found) == ids


@pytest.mark.parametrize(
    ("template", "expected"),
    [("$A", ([], [])), ("$A [E]", ([], [2])), ("$A [E] $A", None)],
)
def test_special_tokens_of_other_templates(template, expected, tmp_path):
    tokenizer = Tokenizer(models.WordLevel({"draw": 0, "graph": 1, "[E]": 2}, unk_token="[E]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("[E]", 2)]
    )
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    if expected is not None:
        assert target.special_tokens(path, ["draw", "draw graph"]) == expected
        return
    with pytest.raises(LeafkitError, match="does not put the same special tokens"):
        target.special_tokens(path, ["draw", "draw graph"])


# --- what is written


@pytest.mark.slow
def test_the_files_are_the_page_the_student_and_the_documents(fake_runtime, tmp_path):
    onnx = pytest.importorskip("onnx", reason='needs pip install "leafkit[onnx]"')
    pytest.importorskip("onnxruntime", reason='needs pip install "leafkit[onnx]"')
    pair = make_pair()
    pair.documents[0] = Document("d0", MARKUP)
    places = leafkit.export(
        pair, tmp_path / "out", to=["web"], name="mini", web_runtime=fake_runtime
    )
    folder = places["web"]
    about = json.loads((folder / "page.json").read_text("utf-8"))
    assert (about["name"], about["space"], about["documents"]) == ("mini", pair.space.teacher, 48)
    lines = (folder / "documents.jsonl").read_text("utf-8").split("\n")
    assert lines.pop() == ""
    told = [json.loads(line) for line in lines]
    assert [row["text"] for row in told] == [MARKUP, *DOCUMENTS[1:]]
    # the formula of the page is the codec's
    codes = np.fromfile(folder / "documents.i8", dtype=np.int8).reshape(48, 32)
    low, step = np.array(about["low"]), np.array(about["step"])
    query = pair.encode_query("draw the graph").astype(np.float64)
    scores = query @ (low + 128 * step) + codes @ (query * step)
    restored = low + (codes.astype(np.float64) + 128) * step
    np.testing.assert_allclose(scores, restored @ query, atol=1e-12)
    vectors = np.asarray(pair.vectors, dtype=np.float32)
    assert np.abs(restored - vectors).max() <= 0.5001 * step.max()
    graph = onnx.load(str(folder / "query_int8.onnx")).graph
    assert {node.domain for node in graph.node} == {""}, "an operator beyond the standard"
    weights = {one.name for one in graph.initializer}
    floats = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    assert not any(weights & set(node.input) for node in floats), "weights in float32"
    assert "MatMulInteger" in {node.op_type for node in graph.node}
    # the page names no file that is not there, and none of another place
    page = Page((folder / "index.html").read_text("utf-8"))
    links = [a.get("href") or a.get("src") for _, a in page.tags if a.keys() & {"href", "src"}]
    for script in ("page.js", "engine.js"):
        text = (folder / script).read_text("utf-8")
        links += re.findall(r'from "\./(.+?)"', text) + re.findall(r'get\("(.+?)"', text)
        links += re.findall(r'new URL\("\./(.+?)"', text)
    assert len(links) > 13
    # that a server knows as JavaScript
    assert not list(folder.rglob("*.mjs"))
    assert all((folder / link).is_file() for link in links)
    for path in folder.glob("*.*s"):
        assert not re.search(r"https?://", path.read_text("utf-8")), path.name
    readme = (folder / "README.md").read_text("utf-8")
    for words in ("http.server", "onnxruntime-web 1.30.0, MIT: ort.wasm.min.js", "48 documents"):
        assert words in readme
    # the policy that is to be sent is the page's, but for what no page of this one has
    asked = next(a["content"] for _, a in page.tags if a.get("http-equiv"))
    sent = re.search("Content-Security-Policy: (.+)", readme)[1]
    assert set(sent.split("; ")) < set(asked.split("; "))
    assert "worker-src 'self' blob:" in sent
    # what was written is not replaced once somebody has edited it
    (folder / "page.css").write_text("mine")
    with pytest.raises(LeafkitError, match=r"page\.css, which is not as an export wrote it"):
        leafkit.export(pair, tmp_path / "out", to=["web"], web_runtime=fake_runtime)


# of nginx's own mime.types, those of files that a page has
NGINX_TYPES = {
    "html": "text/html",
    "css": "text/css",
    "js": "application/javascript",
    "json": "application/json",
    "svg": "image/svg+xml",
    "wasm": "application/wasm",
}


@contextmanager
def files_served(folder: Path) -> Iterator[str]:
    """The address of a server of files, which calls them what nginx as it comes does."""

    class Quiet(SimpleHTTPRequestHandler):
        def guess_type(self, path: str) -> str:
            if path.endswith("/"):
                return "text/html"
            return NGINX_TYPES.get(path.rpartition(".")[2], "application/octet-stream")

        def end_headers(self) -> None:
            """The engine itself is never kept, so that a test can take it away."""
            if self.path.endswith("/engine.js"):
                self.send_header("Cache-Control", "no-store")
            super().end_headers()

        def log_message(self, *args: object) -> None:
            """Nothing on the console of the tests."""

    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_a_browser_finds_what_numpy_finds(tmp_path):
    pytest.importorskip("onnxruntime", reason='needs pip install "leafkit[onnx]"')
    need("onnxruntime-web", "@huggingface/tokenizers")
    saved = make_pair()
    saved.documents[0] = Document("d0", MARKUP)
    saved.save(tmp_path / "pair")
    place = leafkit.export(
        tmp_path / "pair", tmp_path / "out", to=["web"], name="mini", web_runtime=MODULES
    )["web"]
    graph = OnnxGraphEmbedder(place, "int8")
    about = json.loads((place / "page.json").read_text("utf-8"))
    codes = np.fromfile(place / "documents.i8", dtype=np.int8).reshape(48, -1)
    restored = np.array(about["low"]) + (codes + 128.0) * np.array(about["step"])
    with files_served(place) as url, Browser() as browser:
        browser.call("setViewportSize", {"width": 360, "height": 800})
        browser.call("goto", url)
        browser.call("fill", "#query", QUESTIONS[0])  # asked while the parts are on their way
        browser.call("press", "#query", "Enter")
        browser.wait("document.querySelectorAll('#hits li').length === 10")
        assert browser.evaluate("document.getElementById('name').textContent") == "mini"
        shown = browser.evaluate("[...document.querySelectorAll('#hits li')].map(l=>l.dataset.id)")
        for number, question in enumerate(QUESTIONS):
            asked = json.dumps(question)
            answer = browser.evaluate(f"leafkit.search({asked}, 48)")
            vector = np.array(answer["vector"])
            # the text as any command takes it; a graph is given whole characters alone
            native = graph.encode_query(question)
            assert vector @ native > 1 - 1e-5, question
            assert answer["is_cut"] == (number == 4)
            scores = restored @ vector
            order = np.argsort(-scores, kind="stable")
            assert [hit["position"] for hit in answer["hits"]] == order.tolist()
            found = [hit["score"] for hit in answer["hits"]]
            np.testing.assert_allclose(found, scores[order], atol=1e-6)
            if not number:
                assert shown == [f"d{i}" for i in order[:10]]
                texts = [hit["text"] for hit in answer["hits"]]
                assert MARKUP in texts
        browser.call("fill", "#query", MARKUP)
        browser.call("press", "#query", "Enter")
        browser.wait("document.querySelector('#hits li').dataset.id !== ''")
        assert browser.evaluate("document.querySelectorAll('#hits img, #hits b').length") == 0
        assert browser.evaluate("document.documentElement.scrollWidth") <= 360
        assert browser.console == []
        assert browser.foreign_requests(url) == []
        # a foreign answer is not read, but comes, where nothing forbids to ask
        ask = "fetch('{}page.json', {{mode: 'no-cors'}}).then(() => 'came', () => 'refused')"
        with files_served(place) as foreign:
            for where in (browser.evaluate, functools.partial(browser.call, "worker.evaluate")):
                assert where(ask.format(url)) == "came"
                assert where(ask.format(foreign)) == "refused"


@pytest.mark.slow
def test_a_page_whose_files_are_damaged_says_so(tmp_path):
    pytest.importorskip("onnxruntime", reason='needs pip install "leafkit[onnx]"')
    need("onnxruntime-web", "@huggingface/tokenizers")
    pair = save_pair(tmp_path / "pair")
    place = leafkit.export(pair, tmp_path / "out", to=["web"], web_runtime=MODULES)["web"]
    notice = "document.getElementById('notice').textContent"
    # a browser by itself keeps a file for a tenth of the time for which it has not changed
    os.utime(place / "query_int8.onnx", (time.time() - 86_400,) * 2)
    with files_served(place) as url, Browser() as browser:
        for name, told in (("documents.i8", "not as long"), ("query_int8.onnx", "cannot be load")):
            whole = (place / name).read_bytes()
            (place / name).write_bytes(whole[: len(whole) // 2])
            browser.call("goto", url)
            browser.wait(f"{notice}.includes({told!r})")
            (place / name).write_bytes(whole)
        (place / "engine.js").unlink()
        browser.call("goto", url)
        browser.wait(f"{notice}.includes('engine does not start')")
