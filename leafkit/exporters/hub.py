"""The student as a plain sentence-transformers folder, in the layout that every version and every
server reads, with its model card.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from leafkit.core.checkpoint_layout import CARD_FILE
from leafkit.core.errors import LeafkitError
from leafkit.exporters.model_card import make_card, with_license
from leafkit.exporters.source import ExportSource
from leafkit.models.encoder_protocol import Encoder, read_model, save_model
from leafkit.models.pooling import name_layers

SMALLEST_COSINE = 1 - 1e-6


def check_hub(source: ExportSource) -> None:
    """Refuse what sentence-transformers has no modules for.

    Raises:
        LeafkitError: the student's head reads several layers.
    """
    if layers := source.encoder.spec.head_layers:
        raise LeafkitError(
            f"{source.name}: its head reads the layers {name_layers(layers)}, and the modules of "
            "sentence-transformers hand on the last one alone",
            'to=["onnx"] writes one graph that holds the head; leafkit search and leafkit serve '
            "take the student as it is; student.head_layers=last makes one for this target",
        )


def export_hub(source: ExportSource, folder: Path) -> dict[str, float]:
    """Write the model folder and its card, read it again and compare.

    Args:
        source: what is exported.
        folder: where to; it is there and empty.

    Returns:
        "hub": the smallest cosine of what was read again with the model.

    Raises:
        LeafkitError: the model would not load again as what it is.
    """
    save_model(source.encoder, folder, source.space)
    card = with_license(source.card, source.license) or make_card(source)
    (folder / CARD_FILE).write_text(card, encoding="utf-8")
    smallest = 1.0
    again = read_model(folder)
    for role in ("query", "document"):
        expected, found = (_vectors(m, source, role) for m in (source.encoder, again))
        lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
        cosines = np.einsum("nd,nd->n", expected, found) / np.maximum(lengths, 1e-12)
        smallest = min(smallest, float(cosines.min()))
    # a comparison with NaN is false, and so refused
    if not smallest >= SMALLEST_COSINE:
        raise LeafkitError(
            f"{folder}: the model that was read again differs from the one that was written: "
            f"cosine {smallest:.7f}",
            "report it",
        )
    return {"hub": smallest}


def _vectors(encoder: Encoder, source: ExportSource, role: str) -> np.ndarray:
    with torch.inference_mode():
        raw = encoder(encoder.tokenize(list(source.probes), role))
        vectors: np.ndarray = encoder.finish(raw).cpu().double().numpy()
    return vectors
