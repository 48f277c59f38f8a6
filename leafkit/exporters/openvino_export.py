"""The student for OpenVINO: its float32 graph in OpenVINO's own form.

It is made from the graph in standard operators: OpenVINO has none of ONNX Runtime's own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leafkit.core.checkpoint_layout import CARD_FILE
from leafkit.core.errors import LeafkitError, MissingExtra
from leafkit.exporters.card_of_graph import make_openvino_card
from leafkit.exporters.license_text import write_license
from leafkit.exporters.onnx_export import LARGEST_DIFFERENCE, transformer_of
from leafkit.exporters.runtime_files import write_runtime_files
from leafkit.exporters.source import ExportSource
from leafkit.exporters.token_graph import (
    VECTOR,
    check_token_graph,
    why_vector_alone,
    write_token_graph,
)
from leafkit.exporters.tool_snippets import PRECISE
from leafkit.models.text_encoder import TextEncoder

OPENVINO_FILE = "openvino_model.xml"  # where optimum-intel looks; its weights lie beside it


def check_openvino(source: ExportSource) -> None:
    """Refuse what has no graph, or cannot be written here.

    Raises:
        MissingExtra: openvino, or what writes ONNX graphs, is not installed.
        LeafkitError: see ``check_token_graph``.
    """
    _import_openvino()
    check_token_graph(source)


def export_openvino(source: ExportSource, folder: Path) -> dict[str, float]:
    """Write the model, its weights in float32, and what tools read beside it; read it again with
    OpenVINO and compare.

    Args:
        source: what is exported.
        folder: where to; it is there and empty.

    Returns:
        "openvino": the smallest cosine of its vectors with the model's.

    Raises:
        MissingExtra: see ``check_openvino``.
        LeafkitError: OpenVINO does not take the graph, or gives other vectors.
    """
    openvino = _import_openvino()
    encoder = transformer_of(source.encoder, source.name)
    with tempfile.TemporaryDirectory(dir=folder) as draft:
        graph = Path(draft) / "model.onnx"
        write_token_graph(encoder, graph)
        try:
            model = openvino.convert_model(str(graph))
            # half precision would be the default, and other vectors
            openvino.save_model(model, str(folder / OPENVINO_FILE), compress_to_fp16=False)
        except Exception as err:  # its own exceptions have no common class
            raise LeafkitError(
                f"OpenVINO cannot take {source.name}: {str(err).splitlines()[0]}",
                "to=onnx writes a graph for ONNX Runtime",
            ) from err
    cosine = _compare(openvino, encoder, folder / OPENVINO_FILE, source.probes)
    why = why_vector_alone(encoder)
    write_runtime_files(encoder, folder, source.space, has_tokens=not why)
    card = make_openvino_card(source, cosine=cosine, why_vector_alone=why)
    (folder / CARD_FILE).write_text(card, encoding="utf-8")
    write_license(source.license, folder)
    return {"openvino": cosine}


def _compare(openvino: Any, encoder: TextEncoder, path: Path, probes: Sequence[str]) -> float:
    """The smallest cosine of what was read again with the model.

    Raises:
        LeafkitError: a component differs by more than rounding.
    """
    compiled = openvino.Core().compile_model(str(path), "CPU", PRECISE)
    ids = encoder.tokenize(list(probes), "query")
    found = []
    for one in ids:
        batch = np.asarray([one], dtype=np.int64)
        answer = compiled({"input_ids": batch, "attention_mask": np.ones_like(batch)})
        found.append(np.asarray(answer[VECTOR])[0])
    vectors = np.stack(found).astype(np.float64)
    with torch.inference_mode():
        expected = encoder.finish(encoder(ids)).double().numpy()
    difference = float(np.abs(vectors - expected).max())
    if not difference <= LARGEST_DIFFERENCE * max(1.0, float(np.abs(expected).max())):
        raise LeafkitError(
            f"OpenVINO's vectors differ from the model's by up to {difference:.2g}",
            "report it; serve with torch or ONNX Runtime",
        )
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    cosines = np.einsum("nd,nd->n", vectors, expected) / np.maximum(lengths, 1e-12)
    return float(cosines.min())


def _import_openvino() -> Any:
    try:
        import openvino
    except ImportError as err:
        raise MissingExtra("openvino", "openvino", "to=openvino") from err
    return openvino
