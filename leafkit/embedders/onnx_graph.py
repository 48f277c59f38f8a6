"""Queries through an exported graph: the tokenizers library and ONNX Runtime alone, without
transformers or torch at work.

A folder holds ``query.onnx``, ``query_int8.onnx``, ``tokenizer.json`` and ``query.json``: prompts,
lengths, the space.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from leafkit.core.checkpoint_layout import (
    GRAPH_ABOUT_FILE,
    GRAPH_FILE,
    GRAPH_TOKENIZER_FILE,
    INT8_GRAPH_FILE,
)
from leafkit.core.console import Bar
from leafkit.core.errors import LeafkitError, MissingExtra
from leafkit.data.vector_store import Space
from leafkit.embedders.protocol import EmbedderBase
from leafkit.models.room import check_room
from leafkit.models.text_encoder import TextEncoder
from leafkit.models.tokenization import token_of_empty_text

PRECISIONS = {"float32": GRAPH_FILE, "int8": INT8_GRAPH_FILE}
MOST_THREADS = 4  # of one query; more gain nothing
_TEXTS_PER_RUN = 32
# its fused kernel is slower than a sum and a norm
_SLOWER_FUSED = ["SkipLayerNormFusion"]


def write_query_folder(encoder: TextEncoder, folder: Path) -> None:
    """Write the tokenizer and query.json beside a graph.

    Raises:
        LeafkitError: the tokenizer has no fast form.
    """
    backend = getattr(encoder.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise LeafkitError(
            f"a {type(encoder.tokenizer).__name__} has no fast form to serve with",
            "serve it with torch",
        )
    tokenizer = Tokenizer.from_str(backend.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(folder / GRAPH_TOKENIZER_FILE))
    has_no_tokens = not encoder.tokenizer("")["input_ids"]
    spec = encoder.spec
    about = {
        "fingerprint": encoder.fingerprint,
        "dim": encoder.dim,
        "prompts": spec.prompts,
        "max_tokens": spec.max_tokens,
        "pooling": spec.pooling,
        "normalized": spec.normalized,
        "mrl_dims": list(spec.mrl_dims),
        "token_of_empty_text": token_of_empty_text(encoder.tokenizer) if has_no_tokens else None,
    }
    (folder / GRAPH_ABOUT_FILE).write_text(
        json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8"
    )


class OnnxGraphEmbedder(EmbedderBase):
    """An exported student; an Embedder.

    Args:
        folder: written by ``leafkit export``.
        precision: float32 or int8.
        num_threads: of one query; 0 takes the machine's cores, up to four.

    Raises:
        MissingExtra: onnxruntime is not installed.
        LeafkitError: a file is missing, damaged, or gives vectors of another dimension than
            query.json says.
    """

    def __init__(self, folder: Path, precision: str = "float32", num_threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError as err:
            raise MissingExtra("onnxruntime", "onnx", "an exported student") from err
        about = _read_about(folder / GRAPH_ABOUT_FILE)
        self._about = about
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads or min(MOST_THREADS, os.cpu_count() or 1)
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        path = folder / PRECISIONS[precision]
        if not path.is_file():
            raise LeafkitError(
                f"{path} is missing: not an exported student",
                "leafkit export recipe=NAME writes one",
            )
        try:
            self._session = onnxruntime.InferenceSession(
                str(path),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=_SLOWER_FUSED,
            )
            self._tokenizer = Tokenizer.from_file(str(folder / GRAPH_TOKENIZER_FILE))
        # onnxruntime and tokenizers raise classes of their own, tokenizers bare Exception
        except Exception as err:
            raise LeafkitError(
                f"{folder} cannot be served: {' '.join(str(err).split())[:300]}",
                "leafkit export recipe=NAME writes it again",
            ) from err
        self._limit = 0  # that the tokenizer cuts at
        self._roomy: set[tuple[str, int]] = set()  # roles and limits, once checked
        # the last texts' ids: a server counts the tokens of a text, then embeds it
        self._known: dict[tuple[str, str, int], list[int]] = {}
        # activations are scaled per run: a text alone
        self._texts_per_run = 1 if precision == "int8" else _TEXTS_PER_RUN
        outputs = self._session.get_outputs()
        if len(outputs) != 1 or outputs[0].shape[-1] != self.dim:
            raise LeafkitError(
                f"{path} gives vectors of another dimension than {self.dim}",
                "leafkit export writes it again",
            )

    @property
    def dim(self) -> int:
        """D, the dimension of the vectors."""
        return int(self._about["dim"])

    @property
    def max_tokens(self) -> int:
        """The student's own limit."""
        return int(self._about["max_tokens"])

    @property
    def fingerprint(self) -> str:
        """Identity of the student that was exported."""
        return str(self._about["fingerprint"])

    @property
    def mrl_dims(self) -> tuple[int, ...]:
        """Matryoshka dimensions, largest first."""
        return tuple(self._about["mrl_dims"])

    def prompt(self, role: str) -> str:
        """Text put before an input of this role."""
        return str(self._about["prompts"].get(role, ""))

    def space(self, role: str, max_tokens: int) -> Space:
        """The space that vectors of this role are in."""
        about, limit = self._about, self._cut_at(max_tokens)
        return Space(
            self.fingerprint,
            self.dim,
            self.prompt(role),
            max_tokens=limit,
            pooling=about["pooling"],
            normalized=bool(about["normalized"]),
        )

    def count_tokens(self, texts: Sequence[str], role: str, max_tokens: int | None = None) -> int:
        """Counted by the tokenizer beside the graph."""
        limit = self._cut_at(max_tokens)
        return sum(len(self._ids(text, role, limit)) for text in texts)

    def count_uncut(self, texts: Sequence[str], role: str) -> list[int]:
        """Tokens of each text with its prompt and special tokens, however many there are."""
        counts = []
        for text in texts:
            count = len(self._ids(text, role, self.max_tokens))
            if count >= self.max_tokens:
                self._tokenizer.no_truncation()
                self._limit = 0
                count = len(self._tokenizer.encode(self.prompt(role) + text).ids)
            counts.append(count)
        return counts

    def embed_one(
        self, text: str, role: str = "query", max_tokens: int | None = None
    ) -> np.ndarray:
        """(D,) float32 vector of one text."""
        limit = self._cut_at(max_tokens)
        ids = np.asarray([self._ids(text, role, limit)], dtype=np.int64)
        (vectors,) = self._session.run(
            None, {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        )
        return np.asarray(vectors[0])

    def embed(
        self, texts: Sequence[str], role: str, max_tokens: int, bar: Bar | None = None
    ) -> np.ndarray:
        """(n, D) float32 vectors of texts in a role, a few of similar length at a time."""
        limit = self._cut_at(max_tokens)
        ids = [self._ids(text, role, limit) for text in texts]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        out = np.empty((len(ids), self.dim), dtype=np.float32)
        for start in range(0, len(order), self._texts_per_run):
            rows = order[start : start + self._texts_per_run]
            width = len(ids[rows[-1]])
            batch = np.zeros((len(rows), width), dtype=np.int64)
            mask = np.zeros_like(batch)
            for i, row in enumerate(rows):
                batch[i, : len(ids[row])], mask[i, : len(ids[row])] = ids[row], 1
            (out[rows],) = self._session.run(None, {"input_ids": batch, "attention_mask": mask})
            if bar is not None:
                bar.advance(len(rows))
        return out

    def _cut_at(self, max_tokens: int | None) -> int:
        return min(max_tokens or self.max_tokens, self.max_tokens)

    def _ids(self, text: str, role: str, limit: int) -> list[int]:
        key = (text, role, limit)
        if (known := self._known.get(key)) is not None:
            return known
        if len(self._known) >= _TEXTS_PER_RUN:
            self._known = {}
        self._known[key] = found = self._tokenize(text, role, limit)
        return found

    def _tokenize(self, text: str, role: str, limit: int) -> list[int]:
        prompt = self.prompt(role)
        if (role, limit) not in self._roomy:
            self._tokenizer.no_truncation()
            self._limit = 0
            num_tokens = len(self._tokenizer.encode(prompt).ids)
            check_room(role, prompt, prompt_tokens=num_tokens, limit=limit)
            self._roomy.add((role, limit))
        if limit != self._limit:
            self._tokenizer.enable_truncation(limit)
            self._limit = limit
        return self._tokenizer.encode(prompt + text).ids or [
            int(self._about["token_of_empty_text"])
        ]


def describe_session(graph: OnnxGraphEmbedder) -> tuple[str, int]:
    """Precision of a graph's weights, and threads of one query."""
    # only the int8 graph takes each text by itself
    precision = "int8" if graph._texts_per_run == 1 else "float32"
    return precision, int(graph._session.get_session_options().intra_op_num_threads)


def _read_about(path: Path) -> Mapping[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        for key in (
            "fingerprint",
            "dim",
            "prompts",
            "max_tokens",
            "pooling",
            "normalized",
            "mrl_dims",
            "token_of_empty_text",
        ):
            about[key]
    except FileNotFoundError:
        raise LeafkitError(
            f"{path} is missing: not an exported student", "leafkit export recipe=NAME writes one"
        ) from None
    except (ValueError, KeyError, TypeError) as err:
        raise LeafkitError(
            f"{path} is corrupt: {err}", "leafkit export recipe=NAME writes it again"
        ) from err
    return dict(about)
