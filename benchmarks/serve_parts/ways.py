"""Servers that answer queries with the student of one pair, and what they are asked."""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lib.clients import make_request
from lib.pinned import thread_variables

from leafkit.core.checkpoint_layout import STUDENT
from leafkit.embedders.make_embedder import make_embedder
from leafkit.models.encoder_protocol import read_model
from leafkit.pipeline.load_pair import load_pair

NUM_QUESTIONS = 128
_WORDS = 9  # of a question
_PEER = Path(__file__).parents[1] / "peers" / "fastapi_server.py"
FASTAPI, VLLM = "sentence-transformers behind FastAPI", "vLLM"


@dataclass(frozen=True)
class Way:
    """A server.

    Attributes:
        name: in tables.
        words: of its command line, for a port.
        body: of a request, beside the text.
        expected: the model's own vectors by text, float32.
        prefix: put before each text, where the server knows of no prompt.
        ready: path that answers once it takes requests.
        workers: processes that answer.
        counts_itself: whether it finds a number of threads and their cores by itself; told one, it
            would start that many on each of the cores that it chose.
        starts_within_s: seconds until it answers, at most.
    """

    name: str
    words: Callable[[int], list[str]]
    body: Mapping[str, str]
    expected: Mapping[str, np.ndarray]
    prefix: str = ""
    ready: str = "/health"
    workers: int = 1
    counts_itself: bool = False
    starts_within_s: float = 600.0

    def environment(self, num_threads: int) -> dict[str, str]:
        """Variables that share so many threads among its processes."""
        if self.counts_itself:
            return {"HF_HUB_OFFLINE": "1"}
        return thread_variables(max(1, num_threads // self.workers))

    def request(self, text: str) -> bytes:
        """For the vector of one text."""
        return make_request("/v1/embeddings", {**self.body, "input": self.prefix + text})

    def smallest_cosine(self, bodies: Sequence[bytes]) -> float:
        """Of answers with the model's own vectors.

        Args:
            bodies: an answer for each text of ``expected``, in its order.
        """
        found = np.stack([_vector(body) for body in bodies])
        right = np.stack(list(self.expected.values())).astype(np.float64)
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(right, axis=1)
        return float((np.einsum("nd,nd->n", found, right) / lengths).min())


def _vector(body: bytes) -> np.ndarray:
    """(D,) of an answer in OpenAI's shape."""
    found = json.loads(body)["data"][0]["embedding"]
    if isinstance(found, str):
        return np.frombuffer(base64.b64decode(found), dtype="<f4").astype(np.float64)
    return np.array(found, dtype=np.float64)


def leafkit_words(folder: Path, *settings: str) -> Callable[[int], list[str]]:
    """The command line of ``leafkit serve``, for a port."""
    words = [sys.executable, "-m", "leafkit", "serve", str(folder), "teacher=off", "name=pair"]
    return lambda port: [*words, f"port={port}", *settings]


def choose_questions(texts: Sequence[str]) -> list[str]:
    """Beginnings of texts, of a question's length."""
    chosen = [" ".join(text.split()[: _WORDS - i % 5]) for i, text in enumerate(texts)]
    distinct = list(dict.fromkeys(text for text in chosen if text))
    return distinct[:: max(1, len(distinct) // NUM_QUESTIONS)][:NUM_QUESTIONS]


def questions_of(folder: Path) -> tuple[list[str], dict[str, np.ndarray], str]:
    """Questions, the student's own vectors of them in float32, and what answers in words."""
    pair = load_pair(folder)
    texts = choose_questions([document.full_text for document in pair.documents])
    student = read_model(folder / STUDENT)
    model = make_embedder(student)
    vectors = model.embed(texts, "query", model.max_tokens)
    graph = type(pair.embedder).__name__
    counted = sum(pair.embedder.count_tokens([text], "query") for text in texts) / len(texts)
    words = (
        f"Student of {student.num_parameters():,} parameters, {pair.dim} dimensions, answered by "
        f"{graph}; {len(texts)} questions of {counted:.0f} tokens on average, prompt included; "
        f"{len(pair.documents):,} documents."
    )
    return texts, dict(zip(texts, vectors, strict=True)), words


def ways_of(
    options: argparse.Namespace, expected: Mapping[str, np.ndarray]
) -> tuple[list[Way], list[str]]:
    """Servers that can be started here, and why others cannot."""
    student = str(options.pair / STUDENT)
    base64_body = {"model": "pair", "encoding_format": "base64"}
    floats = {"model": "pair", "encoding_format": "float"}
    one, two = leafkit_words(options.pair), leafkit_words(options.pair, "workers=2")
    ways = [
        Way("leafkit serve, base64", one, base64_body, expected, ready="/ready"),
        Way("leafkit serve, floats", one, floats, expected, ready="/ready"),
        Way(
            "leafkit serve, workers=2, base64",
            two,
            base64_body,
            expected,
            ready="/ready",
            workers=2,
        ),
    ]
    if options.tiny:  # the others start servers of the same kind
        ways = ways[:1]
    missing = []
    peer = options.peer_python or sys.executable
    if reason := _lacks(peer, ("fastapi", "uvicorn", "sentence_transformers")):
        missing.append(f"{FASTAPI}: {reason}")
    else:
        words = [peer, str(_PEER), student]
        ways.append(Way(FASTAPI, lambda port: [*words, str(port)], floats, expected))
    if not options.vllm_python:
        missing.append(f"{VLLM}: no interpreter was named (--vllm-python)")
    elif reason := _lacks(options.vllm_python, ("vllm",)):
        missing.append(f"{VLLM}: {reason}")
    else:
        start = [
            options.vllm_python,
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--model",
            student,
        ]
        start += ["--runner", "pooling", "--served-model-name", "pair", "--host", "127.0.0.1"]
        # its word for a share of the machine's memory; it asks for nearly all of it unless told
        start += ["--gpu-memory-utilization", "0.2"]
        prompt = read_model(options.pair / STUDENT).prompt("query")
        ways.append(
            Way(
                VLLM,
                lambda port: [*start, "--port", str(port)],
                floats,
                expected,
                prompt,
                counts_itself=True,
            )
        )
    return ways, missing


def _lacks(python: str, modules: Sequence[str]) -> str:
    """Why an interpreter cannot run something that imports these modules; "" where it can."""
    code = f"import importlib.util as u; print([m for m in {list(modules)} if not u.find_spec(m)])"
    try:
        done = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, check=True, timeout=120
        )
    except (OSError, subprocess.SubprocessError) as err:
        return f"its interpreter does not run ({type(err).__name__})"
    missing = done.stdout.strip().strip("[]").replace("'", "")
    return f"{missing} not installed in its interpreter" if missing else ""
