"""Other people's clients against the server: curl, OpenAI's for Node, LangChain's. Each gets the
pair's vectors, and the same ones as floats and in base64.

OpenAI's Python client is in test_serve.py.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from served import make_pair

from leafkit.server.serve import serve

CLIENTS = Path(__file__).resolve().parents[1] / "clients"
KEY = "k-77d"
TEXTS = ["draw the graph", "compute the matrix, größer", "sort"]


@pytest.fixture(scope="module")
def served():
    pair = make_pair()
    with serve(pair, port=0, block=False, name="mini", api_key=KEY) as server:
        yield pair, server.url


def expected(pair, model: str) -> np.ndarray:
    return pair.encode_document(TEXTS) if model.endswith("document") else pair.encode_query(TEXTS)


@pytest.mark.parametrize("model", ["mini", "mini:document"])
def test_curl(served, model):
    if shutil.which("curl") is None:
        pytest.skip("curl is not on this machine")
    pair, url = served

    def ask(key: str, **more) -> dict:
        body = json.dumps({"model": model, "input": TEXTS} | more)
        words = ["curl", "--silent", f"{url}/v1/embeddings", "-d", body]
        words += ["-H", "Content-Type: application/json", "-H", f"Authorization: Bearer {key}"]
        done = subprocess.run(words, capture_output=True, check=True, timeout=60)
        return json.loads(done.stdout)

    plain = np.array([row["embedding"] for row in ask(KEY)["data"]])
    np.testing.assert_allclose(plain, expected(pair, model), atol=1e-6)
    packed = ask(KEY, encoding_format="base64")["data"]
    found = [np.frombuffer(base64.b64decode(row["embedding"]), dtype="<f4") for row in packed]
    np.testing.assert_array_equal(np.stack(found), plain.astype(np.float32))
    assert ask("another")["error"]["code"] == "invalid_api_key"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mini", "mini:document"])
def test_openais_client_for_node(served, model):
    if shutil.which("node") is None:
        pytest.skip("node is not on this machine")
    if not (CLIENTS / "node_modules" / "openai").is_dir():
        pytest.skip("OpenAI's client is not installed: npm ci --prefix tests/clients")
    pair, url = served
    done = subprocess.run(
        ["node", "embed.mjs", f"{url}/v1", KEY, model, json.dumps(TEXTS)],
        cwd=CLIENTS,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    plain = np.array(found["plain"], dtype=np.float32)
    np.testing.assert_allclose(plain, expected(pair, model), atol=1e-6)
    # what the client unpacks where it asks for base64 itself
    np.testing.assert_array_equal(np.array(found["unsaid"], dtype=np.float32), plain)
    packed = [np.frombuffer(base64.b64decode("".join(row)), dtype="<f4") for row in found["base64"]]
    np.testing.assert_array_equal(np.stack(packed), plain)
    assert np.array(found["cut"]).shape == (len(TEXTS), 8)
    assert found["models"] == ["mini", "mini:query", "mini:document"]
    assert (found["error"]["name"], found["error"]["status"]) == ("NotFoundError", 404)
    assert "there is no model 'gpt'" in found["error"]["message"]


def test_the_client_for_node_has_one_exact_version():
    wanted = json.loads((CLIENTS / "package.json").read_text())["dependencies"]
    locked = json.loads((CLIENTS / "package-lock.json").read_text())["packages"]
    assert wanted == {"openai": locked["node_modules/openai"]["version"]}
    assert locked[""]["dependencies"] == wanted
    # the registry is whichever the user's npm knows
    assert not any("resolved" in package for package in locked.values())


def test_langchains_openai_embeddings(served):
    library = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    pair, url = served

    def embeddings(model: str, **more):
        return library.OpenAIEmbeddings(
            model=model,
            base_url=f"{url}/v1",
            api_key=KEY,
            check_embedding_ctx_length=False,
            chunk_size=32,
            **more,
        )

    # its two methods send the same request: the role is in the model's name
    queries, documents = embeddings("mini"), embeddings("mini:document")
    for i, text in enumerate(TEXTS):
        np.testing.assert_allclose(queries.embed_query(text), expected(pair, "mini")[i], atol=1e-6)
    found = documents.embed_documents(TEXTS)
    np.testing.assert_allclose(found, expected(pair, "mini:document"), atol=1e-6)
    plain = embeddings("mini:document", model_kwargs={"encoding_format": "float"})
    np.testing.assert_array_equal(
        np.array(plain.embed_documents(TEXTS), np.float32), np.array(found, np.float32)
    )
    many = documents.embed_documents([f"{TEXTS[0]} {i}" for i in range(40)])
    assert len(many) == 40
    # what it sends without that setting is refused, and the answer names the setting
    openai = pytest.importorskip("openai", reason="the openai package is not installed")
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        queries.client.create(model="mini", input=[[1, 2, 3]])
