"""One ONNX graph for nearly every runtime: the finished vector, and the vectors of all tokens with
W_out applied to each.

Runtimes that pool for themselves (transformers.js, FastEmbed, text-embeddings-inference) take the
mean of ``last_hidden_state`` and know no Dense module behind it. A mean commutes with a linear map,
mean(W x + b) = W mean(x) + b, so W_out can stand before the pooling: their mean is the model's own.
Where it does not commute, or where a runtime's mean would be another pooling than the model's, the
graph gives the finished vector alone.

Shapes: B texts, T tokens, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from leafkit.core.checkpoint_layout import CARD_FILE
from leafkit.core.console import warn
from leafkit.core.errors import LeafkitError
from leafkit.exporters.card_of_graph import make_graph_card
from leafkit.exporters.license_text import write_license
from leafkit.exporters.onnx_export import (
    LARGEST_DIFFERENCE,
    SMALLEST_INT8_COSINE,
    check_one_file,
    hidden_states,
    mean_of,
    quantize,
    served_vector,
    transformer_of,
    write_onnx,
)
from leafkit.exporters.runtime_files import write_runtime_files
from leafkit.exporters.source import ExportSource
from leafkit.models.heads.token_layer import through_layer
from leafkit.models.heads.two_layer import TwoLayerHead
from leafkit.models.text_encoder import TextEncoder

ONNX_FOLDER, FLOAT_FILE, INT8_FILE = "onnx", "model.onnx", "model_quantized.onnx"
TOKENS, VECTOR = "last_hidden_state", "sentence_embedding"


class _TokensAndVector(nn.Module):
    """Ids and mask to the vectors of all tokens, and to their mean, normalized where the model
    does.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.backbone = hidden_states(encoder)
        self.layers = encoder.spec.head_layers or (-1,)
        self.projection, self.token_table = encoder.projection, encoder.token_table
        self.token_layer = encoder.token_layer
        self.normalized = encoder.spec.normalized

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        states = self.backbone(input_ids, attention_mask)
        read = [through_layer(states[layer], self.token_layer) for layer in self.layers]
        if self.token_table is not None:
            read.append(self.token_table.look_up(input_ids))
        hidden = read[0] if len(read) == 1 else torch.cat(read, dim=-1)
        tokens_BTD = hidden if self.projection is None else self.projection(hidden)
        raw_BD = mean_of(tokens_BTD, attention_mask)
        if self.normalized:
            raw_BD = raw_BD / raw_BD.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        return tokens_BTD, raw_BD


def check_token_graph(source: ExportSource) -> None:
    """Refuse what has no graph, or cannot be written here.

    Raises:
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
        LeafkitError: the student is a table, or too large for one file.
    """
    encoder = transformer_of(source.encoder, source.name)
    hint = "to=hub writes it for the tools that run it with torch"
    check_one_file(encoder, source.name, hint)


def why_vector_alone(encoder: TextEncoder) -> str:
    """Why a graph cannot give token vectors that a runtime may pool; "" where it can."""
    if isinstance(encoder.projection, TwoLayerHead):
        return (
            "its last layer is not linear, so it does not commute with the mean: it is applied to "
            "the pooled vector"
        )
    pooled = {"cls": "the first token's vector", "last": "the last token's vector"}
    if encoder.spec.pooling in pooled:
        return (
            f"it reads {pooled[encoder.spec.pooling]}, and runtimes that pool for themselves take "
            "the mean unless they are told otherwise, without a word"
        )
    return ""


def export_token_graph(source: ExportSource, folder: Path) -> dict[str, float]:
    """Write a folder with both graphs, float32 and int8, in standard operators, and what tools read
    beside them. An int8 graph whose vectors are too far from the model's is left out, with a
    warning.

    Args:
        source: what is exported.
        folder: where to; it is there and empty.

    Returns:
        "float32" and "int8": the smallest cosine of each graph's vectors with the model's, of the
        graphs that are there.

    Raises:
        MissingExtra: see ``check_token_graph``.
        LeafkitError: the model cannot be exported, or its graph gives other vectors.
    """
    encoder = transformer_of(source.encoder, source.name)
    write_token_graph(encoder, folder / ONNX_FOLDER / FLOAT_FILE)
    quantize(folder / ONNX_FOLDER / FLOAT_FILE, folder / ONNX_FOLDER / INT8_FILE)
    cosines = {
        "float32": compare_graph(encoder, folder / ONNX_FOLDER / FLOAT_FILE, source.probes),
        "int8": _smallest_cosine(
            *_vectors_alone(encoder, folder / ONNX_FOLDER / INT8_FILE, source.probes)
        ),
    }
    if not cosines["int8"] >= SMALLEST_INT8_COSINE:
        (folder / ONNX_FOLDER / INT8_FILE).unlink()
        found = cosines.pop("int8")
        warn(
            f"{source.name}: no {ONNX_FOLDER}/{INT8_FILE}: its smallest cosine with the model is "
            f"{found:.4f}, where {SMALLEST_INT8_COSINE} is needed; the float32 graph is there"
        )
    why = why_vector_alone(encoder)
    write_runtime_files(encoder, folder, source.space, has_tokens=not why)
    card = make_graph_card(source, cosines=cosines, why_vector_alone=why)
    (folder / CARD_FILE).write_text(card, encoding="utf-8")
    write_license(source.license, folder)
    return cosines


def write_token_graph(encoder: TextEncoder, path: Path) -> None:
    """Write the float32 graph; its folder is created.

    Raises:
        MissingExtra: see ``check_token_graph``.
        LeafkitError: it has an operation that ONNX has not.
    """
    path.parent.mkdir(exist_ok=True)
    kind = encoder.backbone.config.model_type
    if why_vector_alone(encoder):
        write_onnx(served_vector(encoder), path, [VECTOR], kind=kind)
    else:
        write_onnx(_TokensAndVector(encoder), path, [TOKENS, VECTOR], kind=kind)


def compare_graph(encoder: TextEncoder, path: Path, probes: Sequence[str]) -> float:
    """The smallest cosine of a float32 graph's vectors with the model's: of texts alone and of
    padded ones, of the finished vector and, where there are token vectors, of their mean.

    Raises:
        LeafkitError: a component differs by more than rounding.
    """
    ids = encoder.tokenize(list(probes), "query")
    expected = _expected(encoder, ids)
    session = _open(path)
    alone = np.concatenate([_run(session, [one])[-1] for one in ids])
    together = _run(session, ids)
    found = [alone, together[-1]]
    if len(together) == 2:
        found.append(_pooled(together[0], ids, normalized=encoder.spec.normalized))
    scale = max(1.0, float(np.abs(expected).max()))
    difference = max(float(np.abs(one - expected).max()) for one in found)
    if not difference <= LARGEST_DIFFERENCE * scale:
        raise LeafkitError(
            f"the ONNX graph's vectors differ from the model's by up to {difference:.2g}",
            "report it; serve with torch",
        )
    return min(_smallest_cosine(one, expected) for one in found)


def _vectors_alone(
    encoder: TextEncoder, path: Path, probes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Of a text at a time, for an int8 graph scales its activations by what it is given."""
    ids = encoder.tokenize(list(probes), "query")
    session = _open(path)
    found = np.concatenate([_run(session, [one])[-1] for one in ids])
    return found, _expected(encoder, ids)


def _expected(encoder: TextEncoder, ids: list[list[int]]) -> np.ndarray:
    with torch.inference_mode():
        vectors: np.ndarray = encoder.finish(encoder(ids)).numpy()
    return vectors


def _open(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _run(session: Any, ids: list[list[int]]) -> list[np.ndarray]:
    width = max(map(len, ids))
    batch = np.zeros((len(ids), width), dtype=np.int64)
    mask = np.zeros_like(batch)
    for i, one in enumerate(ids):
        batch[i, : len(one)], mask[i, : len(one)] = one, 1
    found: list[np.ndarray] = session.run(None, {"input_ids": batch, "attention_mask": mask})
    return found


def _pooled(tokens_BTD: np.ndarray, ids: list[list[int]], *, normalized: bool) -> np.ndarray:
    raw = np.stack([row[: len(one)].mean(0) for row, one in zip(tokens_BTD, ids, strict=True)])
    return raw / np.linalg.norm(raw, axis=1, keepdims=True) if normalized else raw


def _smallest_cosine(found: np.ndarray, expected: np.ndarray) -> float:
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosines = np.einsum("nd,nd->n", found, expected) / np.maximum(lengths, 1e-12)
    return float(cosines.min())
