"""Plain sentence-transformers folders, in the legacy layout and with the names of
transformers 4: the student with its model card, the teacher as it embeds the documents.

Shapes: H hidden width, D dimensions.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from leafkit.core.checkpoint_layout import CARD_FILE
from leafkit.core.errors import LeafkitError
from leafkit.exporters.card_of_teacher import make_teacher_card
from leafkit.exporters.license_text import write_license
from leafkit.exporters.model_card import complete_card
from leafkit.exporters.source import ExportSource
from leafkit.models.checkpoint import PROMPTS_FILE
from leafkit.models.encoder_protocol import Encoder, read_model, save_model
from leafkit.models.folder import read_object, write_json
from leafkit.models.foreign.older_transformers import add_older_keys
from leafkit.models.heads.two_layer import Head, TwoLayerHead
from leafkit.models.pooling import name_layers
from leafkit.models.text_encoder import TextEncoder

SMALLEST_COSINE = 1 - 1e-6
_ROLES = ("query", "document")


def check_hub(source: ExportSource) -> None:
    """Refuse what sentence-transformers has no modules for, or tools that read the layout without
    it.

    Raises:
        LeafkitError: the student's head reads several layers, a table of token vectors or a layer
            over tokens.
    """
    _check_head(source.encoder, source.name)


def check_teacher(source: ExportSource) -> None:
    """Refuse a teacher that is no model of stock modules.

    Raises:
        LeafkitError: it is none, cannot be had, or its head reads several layers.
    """
    _check_head(source.teacher(), str(source.space.get("teacher_reference") or "the teacher"))


def export_hub(source: ExportSource, folder: Path) -> dict[str, float]:
    """Write the student's folder and its card, read it again and compare.

    Args:
        source: what is exported.
        folder: where to; it is there and empty.

    Returns:
        "hub": the smallest cosine of what was read again with the model.

    Raises:
        LeafkitError: the model would not load again as what it is.
    """
    (folder / CARD_FILE).write_text(complete_card(source), encoding="utf-8")
    write_license(source.license, folder)
    return {"hub": write_student(source, folder)}


def export_teacher(source: ExportSource, folder: Path) -> dict[str, float]:
    """Write the teacher's folder as ``export_hub`` does the student's, without a default prompt:
    documents are what it is asked for.

    Returns:
        "hub": the smallest cosine of what was read again with the model.

    Raises:
        LeafkitError: see ``check_teacher``, or it would not load again as what it is.
    """
    card = make_teacher_card(source, source.teacher())
    (folder / CARD_FILE).write_text(card, encoding="utf-8")
    return {"hub": write_teacher(source, folder)}


def write_student(source: ExportSource, folder: Path) -> float:
    """Write the student's files alone; the smallest cosine of what was read again with it.

    Whoever calls ``encode`` and names no prompt gets the query's: a student is asked for queries,
    and most tools that embed them know of no prompt.
    """
    save_model(source.encoder, folder, source.space)
    add_older_keys(folder)
    if source.encoder.prompt("query"):
        told = read_object(folder / PROMPTS_FILE)
        write_json(folder / PROMPTS_FILE, told | {"default_prompt_name": "query"})
    return _read_back(source.encoder, folder, source.probes)


def write_teacher(source: ExportSource, folder: Path) -> float:
    """Write the teacher's files alone; the smallest cosine of what was read again with it."""
    encoder = source.teacher()
    space: dict[str, Any] = {
        "kind": "teacher",
        "teacher": source.space.get("teacher", ""),
        "dim": encoder.dim,
        "mrl_dims": list(encoder.spec.mrl_dims),
    }
    save_model(encoder, folder, space)
    add_older_keys(folder)
    return _read_back(encoder, folder, source.probes)


def document_model(
    encoder: Encoder | None, *, dim: int, max_tokens: int, reference: str
) -> TextEncoder:
    """A teacher as it embeds the documents of a pair, so that its folder says all of it: texts are
    cut where the index's were, and vectors where the pair's are.

    A cut is the head's first rows, and comes before the normalisation, as in ``first_dims``.

    Args:
        encoder: as it was loaded; None where it is not loaded here. Its weights are used, not
            copied.
        dim: D, of the pair's vectors.
        max_tokens: of a document, prompt included; 0 takes the model's own limit.
        reference: names the teacher.

    Raises:
        LeafkitError: it is no transformer of stock modules.
    """
    if not isinstance(encoder, TextEncoder):
        what = "an endpoint, vectors computed elsewhere, or not made of stock modules"
        raise LeafkitError(
            f"the teacher {reference or 'that was given'} cannot be written as a folder: it is "
            + (what if encoder is None else "a table of token vectors, which cuts no text"),
            "to=student writes the student without it",
        )
    spec = replace(
        encoder.spec,
        max_tokens=encoder.limit(max_tokens),
        mrl_dims=tuple(d for d in encoder.spec.mrl_dims if d <= dim),
    )
    head = encoder.projection
    if dim < encoder.dim:
        head = _first_rows(head, encoder.dim, dim)
    return TextEncoder(
        encoder.backbone,
        encoder.tokenizer,
        spec,
        head,
        **encoder.beside,
        fingerprint=encoder.fingerprint,
    ).eval()


def _first_rows(head: Head | None, width: int, dim: int) -> Head:
    """The head whose vectors are the first ``dim`` dimensions of another's, to the bit."""
    if isinstance(head, TwoLayerHead):
        cut = copy.deepcopy(head)
        cut.linear = _cut_linear(head.linear, dim)
        cut.outer = _cut_linear(head.outer, dim)
        return cut
    if head is None:
        head = nn.Linear(width, width, bias=False)
        with torch.no_grad():
            head.weight.copy_(torch.eye(width))
    return _cut_linear(head, dim)


def _cut_linear(linear: nn.Linear, dim: int) -> nn.Linear:
    cut = nn.Linear(linear.in_features, dim, bias=linear.bias is not None)
    with torch.no_grad():
        cut.weight.copy_(linear.weight[:dim])
        if linear.bias is not None:
            cut.bias.copy_(linear.bias[:dim])
    return cut


def _check_head(encoder: Encoder, name: str) -> None:
    told, word, they = "", "", "the modules of sentence-transformers"
    if layers := encoder.spec.head_layers:
        told, word = f"the layers {name_layers(layers)}", "student.head_layers=last"
    elif isinstance(encoder, TextEncoder) and encoder.token_table is not None:
        told, word = "a table of token vectors", "student.token_table=0"
    elif isinstance(encoder, TextEncoder) and encoder.token_layer is not None:
        told, word, they = "a layer over tokens", "student.token_units=0", "other tools"
    if told:
        raise LeafkitError(
            f"{name}: its head reads {told}, and {they} hand on the last layer alone",
            'to=["onnx"] writes one graph that holds a student\'s head; leafkit search and leafkit '
            f"serve take it as it is; {word} makes one for this target",
        )


def _read_back(encoder: Encoder, folder: Path, probes: Sequence[str]) -> float:
    """The smallest cosine of what a folder holds with the model that it was written from.

    Raises:
        LeafkitError: it is another model.
    """
    smallest = 1.0
    again = read_model(folder)
    for role in _ROLES:
        expected, found = (_vectors(m, probes, role) for m in (encoder, again))
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
    return smallest


def _vectors(encoder: Encoder, probes: Sequence[str], role: str) -> np.ndarray:
    with torch.inference_mode():
        raw = encoder(encoder.tokenize(list(probes), role))
        vectors: np.ndarray = encoder.finish(raw).cpu().double().numpy()
    return vectors
