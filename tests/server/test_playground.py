"""The page at /: what is served, and in a browser, that its columns are numpy's rankings."""

from __future__ import annotations

import os
import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from browser import Browser
from report_page import Page
from served import DIMS, DOCUMENTS, make_pair

from leafkit.config import InheritConfig
from leafkit.core.errors import LeafkitError
from leafkit.core.truncate import truncate_then_normalize
from leafkit.data.records import Document
from leafkit.index.codecs.fit import fit_codecs
from leafkit.pipeline.pair import Pair
from leafkit.server.serve import serve

QUERY = "draw the graph"
MODES = ("teacher", "student", "asymmetric")


def test_the_page_and_its_files_load_nothing_from_elsewhere(client):
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Page(answer.text)
    links = [a.get("href") or a.get("src") for _, a in page.tags if a.keys() & {"href", "src"}]
    assert len(links) == 3
    for link in links:
        found = client.get(f"/{link}")
        assert found.status_code == 200, link
        assert found.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"(https?:)?//[a-z]", found.text.replace("http://www.w3.org/", ""))
    for name in re.findall(r'from "\./(.+?)"', client.get("/playground/page.js").text):
        assert client.get(f"/playground/{name}").headers["content-type"].startswith("text/java")
    assert client.get("/playground/routes.py").status_code == 404


def test_the_policy_forbids_what_the_page_does_not_hold(client):
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    page = Page(answer.text)
    assert not any(k.startswith("on") or k == "style" for _, a in page.tags for k in a)
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert [script["src"] for script in scripts] == ["playground/page.js"]
    assert re.search(r"<script[^>]*></script>", answer.text)  # nothing inline
    assert "style" not in {tag for tag, _ in page.tags}


def test_every_field_has_a_label(client):
    page = Page(client.get("/").text)
    fields = {a["id"] for tag, a in page.tags if tag == "input"}
    labels = {a.get("for") for tag, a in page.tags if tag == "label"}
    assert fields - labels == {"forget"}  # its label stands around it
    described = {a["aria-describedby"] for _, a in page.tags if "aria-describedby" in a}
    assert described <= {a.get("id") for _, a in page.tags}


def test_head_and_other_methods(client):
    head = client.head("/")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len(client.get("/").content)
    assert client.post("/", json={}).status_code == 405


def test_the_page_is_served_without_a_key_and_holds_nothing():
    with (
        serve(make_pair(), port=0, block=False, name="mini", api_key="k-1") as server,
        httpx.Client(base_url=server.url) as client,
    ):
        assert client.get("/").status_code == 200
        assert "mini" not in client.get("/").text
        assert client.get("/v1/models").status_code == 401


def test_models_tell_prompts_and_precisions(client, pair):
    student, _, teacher = client.get("/v1/models").json()["data"]
    assert student["prompt"] == pair.embedder.prompt("query") != ""
    assert teacher["prompt"] == pair.space.prompt
    assert student["precisions"] == ["float32", "int8", "int4", "binary"]


# --- in a browser


def expected_scores(pair: Pair, mode: str, dim: int, precision: str, role: str) -> np.ndarray:
    """(N,) score of each document, by numpy."""
    source = pair.teacher if mode == "teacher" else pair.embedder
    query = (source.encode_query if role == "query" else source.encode_document)(QUERY, dim)
    whole = np.asarray(pair.vectors, dtype=np.float32)
    if mode == "student":
        made = pair.embedder.embed(DOCUMENTS, "document", pair.space.max_tokens)
        whole = made.astype(np.float16).astype(np.float32)
    # whole vectors are searched as they are stored, of length one but for float16's rounding
    vectors = whole if dim == DIMS[0] else truncate_then_normalize(whole, dim)
    codec = fit_codecs(whole, [dim], [precision], InheritConfig(), seed=0)[dim, precision]
    return codec.round_trip(vectors) @ query


def shown(browser: Browser, mode: str) -> list[str]:
    """Ids of a column, from the top."""
    found: list[str] = browser.evaluate(
        f"[...document.querySelectorAll('[data-mode={mode}] li')].map((li) => li.dataset.id)"
    )
    return found


def wait_for(browser: Browser, told: str) -> None:
    browser.wait(
        "[...document.querySelectorAll('.column')].every((c) => !c.ariaBusy && "
        f"c.querySelector('.measure').textContent.startsWith({told!r}))"
    )


def check_columns(
    browser: Browser, pair: Pair, dim: int, precision: str, role: str = "query"
) -> dict[str, list[str]]:
    """The ids of each column, which are numpy's; equal scores may stand in any order."""
    lost = ", without the prompt" if role == "document" else ""
    wait_for(browser, f"{dim} dimensions, {precision}{lost}:")
    found = {mode: shown(browser, mode) for mode in MODES}
    for mode, ids in found.items():
        scores = expected_scores(pair, mode, dim, precision, role)
        assert len(set(ids)) == 10
        own = [scores[int(name.removeprefix("d"))] for name in ids]
        np.testing.assert_allclose(own, np.sort(scores)[::-1][:10], atol=1e-5)
    return found


def ask(browser: Browser, text: str = QUERY) -> None:
    browser.call("fill", "#query", text)
    browser.call("press", "#query", "Enter")


def picture(browser: Browser, name: str) -> None:
    """Keep what the page looks like, where somebody wants to see it."""
    if folder := os.environ.get("LEAFKIT_SCREENSHOTS"):
        browser.call("screenshot", {"path": str(Path(folder) / f"{name}.png"), "fullPage": True})


@pytest.mark.slow
def test_settings_change_the_ranking_as_numpy_does(client, pair):
    url = str(client.base_url)
    with Browser() as browser:
        browser.call("setViewportSize", {"width": 1280, "height": 900})
        browser.call("goto", url)
        browser.wait("!document.getElementById('dimension').disabled")
        assert browser.evaluate("document.getElementById('name').textContent") == "mini"
        ask(browser)
        rankings = [check_columns(browser, pair, DIMS[0], "float32")]
        for dim in DIMS[1:]:  # by the keyboard, a step to the left each
            browser.call("press", "#dimension", "ArrowLeft")
            rankings.append(check_columns(browser, pair, dim, "float32"))
        for precision in ("int8", "int4", "binary"):
            browser.call("press", "#precision", "ArrowLeft")
            rankings.append(check_columns(browser, pair, DIMS[-1], precision))
        browser.call("press", "#precision", "End")
        browser.call("press", "#dimension", "End")
        assert check_columns(browser, pair, DIMS[0], "float32") == rankings[0]
        browser.call("click", "#forget")
        rankings.append(check_columns(browser, pair, DIMS[0], "float32", "document"))
        for mode in MODES:
            orders = {tuple(ranking[mode]) for ranking in rankings}
            assert len(orders) > 3, f"{mode}: settings that change nothing"
        assert browser.console == []
        assert browser.foreign_requests(url) == []


@pytest.mark.slow
def test_shared_documents_are_linked_in_words_and_lines(client, pair):
    with Browser() as browser:
        browser.call("setViewportSize", {"width": 1280, "height": 900})
        browser.call("goto", str(client.base_url))
        browser.wait("!document.getElementById('dimension').disabled")
        ask(browser)
        found = check_columns(browser, pair, DIMS[0], "float32")
        for mode in MODES:
            told = browser.evaluate(
                f"[...document.querySelectorAll('[data-mode={mode}] .places')]"
                ".map((p) => p.textContent)"
            )
            for name, words in zip(found[mode], told, strict=True):
                others = [o for o in MODES if o != mode and name in found[o]]
                places = [f"{other} {found[other].index(name) + 1}" for other in others]
                assert words == (", ".join(places) or "here alone")
        pairs = [(found["teacher"], found["student"]), (found["student"], found["asymmetric"])]
        lines = [name for left, right in pairs for name in left if name in right]
        drawn = "[...document.querySelectorAll('#links path')].map((p) => p.dataset.id)"
        assert browser.evaluate(drawn) == lines
        status = browser.evaluate("document.getElementById('status').textContent")
        kept = [len(set(found["teacher"]) & set(found[m])) for m in ("student", "asymmetric")]
        expected = f"student has {kept[0]}, asymmetric has {kept[1]}."
        assert status == f"Of the teacher's 10 documents {expected}"
        # a document that has the keyboard's focus is marked in every column
        browser.call("focus", "[data-mode=teacher] li summary")
        marked = "[...document.querySelectorAll('li.linked')].map((li) => li.dataset.id)"
        assert set(browser.evaluate(marked)) == {found["teacher"][0]}
        picture(browser, "desktop")
        browser.call("emulateMedia", {"colorScheme": "dark"})
        picture(browser, "dark")
        browser.call("setViewportSize", {"width": 360, "height": 800})
        # nothing stands out on a phone
        assert browser.evaluate("document.documentElement.scrollWidth") <= 360
        browser.wait("document.querySelectorAll('#links path').length === 0")
        picture(browser, "phone-dark")
        browser.call("emulateMedia", {"colorScheme": "light"})
        picture(browser, "phone")


@pytest.mark.slow
def test_a_document_is_shown_as_text_whatever_it_holds():
    markup = "<img src=x onerror=alert(1)><b>bold</b>"
    pair = make_pair()
    pair.documents[:] = [Document(one.id, markup) for one in pair.documents]
    with serve(pair, port=0, block=False, name="mini") as server, Browser() as browser:
        browser.call("goto", server.url)
        browser.wait("!document.getElementById('dimension').disabled")
        ask(browser, markup)
        browser.wait("document.querySelectorAll('[data-mode=asymmetric] li').length === 10")
        texts = browser.evaluate(
            "[...document.querySelectorAll('[data-mode=asymmetric] summary')]"
            ".map((s) => s.textContent)"
        )
        assert texts == [markup] * 10
        assert browser.evaluate("document.querySelectorAll('#columns img, #columns b').length") == 0


@pytest.mark.slow
def test_errors_are_told_in_words():
    def no_teacher():
        raise LeafkitError("the teacher's files are gone", "bring them back")

    message = "document.querySelector('[data-mode={}] .notice').textContent"
    settings = {"port": 0, "block": False, "name": "mini"}
    with Browser() as browser:
        with serve(make_pair(no_teacher), api_key="k-1", **settings) as server:
            browser.call("goto", server.url)
            browser.wait("!document.getElementById('unlock').hidden")
            notice = "document.getElementById('notice').textContent"
            assert browser.evaluate(notice) == "This server asks for a key."
            for key, told in (("k-2", "not the server's"), ("k 1", "no spaces")):
                browser.call("fill", "#key", key)
                browser.call("press", "#key", "Enter")
                browser.wait(f"{notice}.includes({told!r})")
            browser.call("fill", "#key", "k-1")
            browser.call("press", "#key", "Enter")
            browser.wait("document.getElementById('unlock').hidden")
            assert browser.evaluate("localStorage.length + sessionStorage.length") == 0
            assert browser.evaluate("document.cookie") == ""
            ask(browser)
            browser.wait(f"{message.format('teacher')}.includes('files are gone')")
            browser.wait(f"{message.format('student')}.includes('student_documents=true')")
            browser.wait("document.querySelectorAll('[data-mode=asymmetric] li').length === 10")
            status = "document.getElementById('status').textContent"
            browser.wait(f"{status}.startsWith('The teacher did not answer')")
            asked = len([one for one in browser.requests if one.endswith("/v1/search")])
            ask(browser, "another")
            browser.wait(f"{message.format('asymmetric')} === ''")
            browser.wait(f"{status}.startsWith('The teacher did not answer')")
            again = len([one for one in browser.requests if one.endswith("/v1/search")])
            assert again - asked == 2, "what the server does not hold is asked for once"
        ask(browser, "a third")
        browser.wait(f"{notice}.startsWith('The server cannot be reached')")
        with serve(make_pair(), teacher="off", **settings) as server:
            browser.call("goto", server.url)
            browser.wait("!document.getElementById('dimension').disabled")
            ask(browser)
            browser.wait(f"{message.format('teacher')}.includes('teacher=off')")
        with serve(make_pair(mrl_dims=()), **settings) as server:
            browser.call("goto", server.url)
            browser.wait("document.getElementById('precision').disabled === false")
            assert browser.evaluate("document.getElementById('dimension').disabled")
