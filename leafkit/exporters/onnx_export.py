"""One ONNX graph from token ids to the vector that is served: backbone, pooling, W_out,
normalisation.

The exporters of other libraries write the bare transformer and leave pooling and projection to
whoever loads it (sentence-transformers#3307): a student without its projection answers from
elsewhere in the space. The graph is compared with the model it came from before it is kept.

Shapes: B texts, T tokens, D dimensions.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from leafkit.core.checkpoint_layout import GRAPH_FILE, INT8_GRAPH_FILE
from leafkit.core.errors import LeafkitError, MissingExtra
from leafkit.embedders.onnx_graph import (
    OnnxGraphEmbedder,
    write_query_folder,
)
from leafkit.exporters.plain_bert import PlainBert
from leafkit.models.encoder_protocol import Encoder
from leafkit.models.heads.token_layer import through_layer
from leafkit.models.packed.backbone import is_plain_bert
from leafkit.models.text_encoder import TextEncoder

_OPSET = 20
# of an int8 graph's vectors with the model's, a text at a time: one with outliers that eight bits
# do not hold would answer with other documents, without a word
LARGEST_BYTES = 2**31 - 2**20  # of a protobuf message, less its names
SMALLEST_INT8_COSINE = 0.9
LARGEST_DIFFERENCE = (
    1e-4  # of any component between the float32 graph and the model; float32 rounding stays below
)


class _ServedVector(nn.Module):
    """Ids and mask to the served vector, in operations that ONNX has."""

    def __init__(self, encoder: TextEncoder, for_onnxruntime: bool = False) -> None:
        super().__init__()
        self.layers = encoder.spec.head_layers or (-1,)
        self.backbone = hidden_states(encoder, for_onnxruntime)
        self.projection, self.token_table = encoder.projection, encoder.token_table
        self.token_layer = encoder.token_layer
        self.pooling, self.normalized = encoder.spec.pooling, encoder.spec.normalized

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states = self.backbone(input_ids, attention_mask)
        hidden = [through_layer(states[layer], self.token_layer) for layer in self.layers]
        read = [self._pool(one, attention_mask) for one in hidden]
        if self.token_table is not None:
            read.append(mean_of(self.token_table.look_up(input_ids), attention_mask))
        pooled = read[0] if len(read) == 1 else torch.cat(read, dim=1)
        raw = pooled if self.projection is None else self.projection(pooled)
        return raw / raw.norm(dim=-1, keepdim=True).clamp_min(1e-12) if self.normalized else raw

    def _pool(self, hidden_BTH: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        if self.pooling == "cls":
            return hidden_BTH[:, 0]
        if self.pooling == "mean":
            return mean_of(hidden_BTH, attention_mask)
        position = torch.arange(attention_mask.shape[1], device=attention_mask.device)
        is_last_BT = position == attention_mask.sum(1, keepdim=True) - 1
        return (hidden_BTH * is_last_BT.unsqueeze(-1).to(hidden_BTH.dtype)).sum(1)


def mean_of(tokens_BTD: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """(B, D) means over the tokens that the mask names."""
    mask_BT1 = attention_mask.unsqueeze(-1).to(tokens_BTD.dtype)
    return (tokens_BTD * mask_BT1).sum(1) / mask_BT1.sum(1)


class _HiddenStates(nn.Module):
    """Any other backbone, through transformers' own forward: its last states, or those of the
    embeddings and of all layers.
    """

    def __init__(self, backbone: nn.Module, *, with_all: bool) -> None:
        super().__init__()
        self.backbone, self.with_all = backbone, with_all

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> Sequence[torch.Tensor]:
        kwargs = {"output_hidden_states": True} if self.with_all else {}
        output = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        states: Sequence[torch.Tensor] = output.hidden_states if self.with_all else ()
        return states or [output.last_hidden_state]


def hidden_states(encoder: TextEncoder, for_onnxruntime: bool = False) -> nn.Module:
    """What gives the hidden states of an encoder's backbone, (B, T, H) each, in operations that
    ONNX has: those of the embeddings and of all layers, or of the last alone where no other is
    read.
    """
    if is_plain_bert(encoder.backbone):
        return PlainBert(encoder.backbone, for_onnxruntime)
    return _HiddenStates(encoder.backbone, with_all=bool(encoder.spec.head_layers))


def transformer_of(encoder: Encoder, name: str) -> TextEncoder:
    """The encoder, where it is one that has a graph.

    Raises:
        LeafkitError: it is a table.
    """
    if not isinstance(encoder, TextEncoder):
        raise LeafkitError(
            f"{name} is a table: it answers faster without a graph",
            "leafkit search and leafkit serve take it as it is",
        )
    return encoder


def check_one_file(encoder: TextEncoder, name: str, hint: str) -> None:
    """Refuse what writes no graph here, or none that fits one file.

    Args:
        encoder: to be exported.
        name: its name, for the error.
        hint: what to do with one that is too large.

    Raises:
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
        LeafkitError: it is too large.
    """
    import_onnx()
    if 4 * encoder.num_parameters() > LARGEST_BYTES:
        raise LeafkitError(
            f"{name} has {encoder.num_parameters():,} parameters, and one ONNX file holds two "
            "gigabytes",
            hint,
        )


def export_graph(
    encoder: TextEncoder, folder: Path, probes: Sequence[str], int8: bool = True
) -> dict[str, float]:
    """Write the float32 graph, its int8 form, the tokenizer and what a server must know of both.

    The float32 graph keeps to the ONNX standard. int8: weights of all matrix products per channel,
    activations quantised as they come (dynamic), sums in int32; a BERT's attention is an operator
    of ONNX Runtime's, so that runtime alone takes it.

    Args:
        encoder: in evaluation mode, in float32, on the CPU.
        folder: where to; created.
        probes: texts on which graph and model are compared; queries, with the query's prompt.
        int8: write the int8 graph too.

    Returns:
        Smallest cosine of each graph's vectors with the model's.

    Raises:
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
        LeafkitError: the model cannot be exported, or its graph gives other vectors.
    """
    import_onnx()
    folder.mkdir(parents=True, exist_ok=True)
    _write_graph(encoder, folder / GRAPH_FILE)
    write_query_folder(encoder, folder)
    if int8:
        _write_int8(encoder, folder)
    return _compare(encoder, folder, probes, int8)


def served_vector(encoder: TextEncoder) -> nn.Module:
    """Ids (B, T) and mask (B, T) to the served vector (B, D), in operations of the standard."""
    return _ServedVector(encoder)


def _write_graph(encoder: TextEncoder, path: Path, for_onnxruntime: bool = False) -> None:
    graph = _ServedVector(encoder, for_onnxruntime)
    write_onnx(graph, path, ["vector"], kind=encoder.backbone.config.model_type)


def write_onnx(graph: nn.Module, path: Path, outputs: Sequence[str], *, kind: str) -> None:
    """Write a module as an ONNX graph of any number of texts and tokens.

    Args:
        graph: of ids (B, T) and mask (B, T), both int64.
        path: of the file.
        outputs: names of what it gives.
        kind: of the model, in the message of an error.

    Raises:
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
        LeafkitError: it has an operation that ONNX has not.
    """
    onnx = import_onnx()
    ids = torch.ones(2, 9, dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                graph.eval(),
                (ids, mask),
                dynamo=True,
                input_names=["input_ids", "attention_mask"],
                output_names=list(outputs),
                dynamic_shapes=(axes, axes),
                opset_version=_OPSET,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError, ValueError) as err:
        raise LeafkitError(
            f"a {kind} model cannot be written as an ONNX graph: {str(err).splitlines()[0]}",
            "serve it with torch",
        ) from err
    assert program is not None
    model = program.model_proto
    # the exporter's shapes of transposed weights are stale, and the quantiser believes them
    del model.graph.value_info[:]
    onnx.save(model, str(path))


def quantize(source: Path, target: Path) -> None:
    """Write a graph's int8 form: weights of all matrix products and of the tables per channel,
    activations as they come.
    """
    onnx = import_onnx()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # the type of what ONNX Runtime's own operators give is not inferred: it is float32
    # throughout
    extra = {"DefaultTensorType": onnx.TensorProto.FLOAT}
    with _quiet():
        quantize_dynamic(
            str(source),
            str(target),
            weight_type=QuantType.QInt8,
            per_channel=True,
            extra_options=extra,
        )


def _write_int8(encoder: TextEncoder, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as draft:
        source = Path(draft) / GRAPH_FILE
        if is_plain_bert(encoder.backbone):
            _write_graph(encoder, source, for_onnxruntime=True)
        else:
            source = folder / GRAPH_FILE
        quantize(source, folder / INT8_GRAPH_FILE)


def _compare(
    encoder: TextEncoder, folder: Path, probes: Sequence[str], int8: bool
) -> dict[str, float]:
    with torch.inference_mode():
        expected = encoder.finish(encoder(encoder.tokenize(probes, "query"))).numpy()
    cosines = {}
    for name in ["float32", *(["int8"] if int8 else [])]:
        found = OnnxGraphEmbedder(folder, name).embed(probes, "query", encoder.spec.max_tokens)
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        cosines[name] = float(
            (np.einsum("nd,nd->n", found, expected) / np.maximum(lengths, 1e-12)).min()
        )
        difference = float(np.abs(found - expected).max())
        scale = max(1.0, float(np.abs(expected).max()))
        if name == "float32" and not difference <= LARGEST_DIFFERENCE * scale:
            raise LeafkitError(
                f"the ONNX graph's vectors differ from the model's by up to {difference:.2g}",
                "report it; serve with torch",
            )
    return cosines


def import_onnx() -> Any:
    """The package onnx, if all that writes graphs is installed.

    Raises:
        MissingExtra: onnx, onnxscript or onnxruntime is not.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as err:
            raise MissingExtra(package, "onnx", "leafkit export") from err
    import onnx

    return onnx


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' own progress lines and advice."""
    loggers = [
        logging.getLogger(name) for name in ("root", "", "onnxscript", "torch.onnx", "onnx_ir")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
