"""The target "web": the int8 student, the teacher's vectors as int8 codes, and a page that searches
them where it is opened.

A document's score is that of its restored vector, low + (code + 128) * step in each dimension D:

    sum_d q_d (low_d + (code_d + 128) step_d) = sum_d q_d (low_d + 128 step_d) + sum_d w_d code_d

with w_d = q_d step_d, so that the page multiplies codes as they lie in the file.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from leafkit.config import InheritConfig
from leafkit.core.checkpoint_layout import (
    CARD_FILE,
    DOCUMENTS_FILE,
    GRAPH_FILE,
    GRAPH_TOKENIZER_FILE,
)
from leafkit.core.checkpoint_layout import INT8_GRAPH_FILE as STUDENT_FILE
from leafkit.core.errors import LeafkitError
from leafkit.embedders.onnx_graph import OnnxGraphEmbedder, write_query_folder
from leafkit.exporters.onnx_export import (
    SMALLEST_INT8_COSINE,
    check_one_file,
    quantize,
    served_vector,
    transformer_of,
    write_onnx,
)
from leafkit.exporters.source import ExportSource
from leafkit.exporters.web.readme import make_readme
from leafkit.exporters.web.runtime import copy_runtime, find_runtime
from leafkit.exporters.web.search_page import SearchPage
from leafkit.index.codecs.fit import fit_codecs
from leafkit.index.codecs.steps import Int8
from leafkit.index.vectors import dimension, read_blocks
from leafkit.models.text_encoder import TextEncoder

CODES_FILE, TEXTS_FILE, ABOUT_FILE = "documents.i8", DOCUMENTS_FILE, "page.json"
RUNTIME_FOLDER = "runtime"
_PAGE_FILES = ("index.html", "page.js", "engine.js", "icon.svg")
# of one array in a browser, about
_LARGEST_BYTES = 2**31 - 2**20


def check_web(source: ExportSource) -> None:
    """Refuse what a page cannot search.

    Raises:
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
        UsageError: the runtime is not named, or is another.
        LeafkitError: the student is a table or too large, or its vectors are not of length one; or
            it comes without documents, with too many, or with those of another space.
    """
    encoder = transformer_of(source.encoder, source.name)
    check_one_file(encoder, source.name, "leafkit serve answers with it")
    page = source.page()
    find_runtime(page.runtime)
    if not encoder.spec.normalized:
        raise LeafkitError(
            f"{source.name}: int8 codes need vectors of length one, which these are not",
            "leafkit serve searches such vectors as floats",
        )
    if not len(page.documents):
        raise LeafkitError(f"{source.name} has no documents to search", "export another run")
    space = source.space.get("teacher")
    if (space, encoder.dim) != (page.space, dimension(page.vectors)):
        raise LeafkitError(
            f"the documents live in the space {page.space} ({dimension(page.vectors)} dimensions), "
            f"{source.name} in {space} ({encoder.dim}): to compare the two means nothing",
            "leafkit distill recipe=NAME makes both again",
        )
    if len(page.documents) * encoder.dim > _LARGEST_BYTES:
        raise LeafkitError(
            f"{len(page.documents):,} documents of {encoder.dim:,} dimensions are more than "
            "a browser holds in one array (2 GB)",
            "leafkit serve searches them",
        )


def export_web(source: ExportSource, folder: Path) -> dict[str, float]:
    """Write the page, the student, the documents and the runtime.

    Args:
        source: what is exported.
        folder: where to; it is there and empty.

    Returns:
        "int8": the smallest cosine of the int8 graph's vectors with the model's.

    Raises:
        MissingExtra: see ``check_web``.
        UsageError: likewise.
        LeafkitError: the model cannot be exported, its int8 graph gives other vectors, or a
            document's vector is not finite.
    """
    encoder, page = transformer_of(source.encoder, source.name), source.page()
    with tempfile.TemporaryDirectory(dir=folder) as draft:
        # in standard operators: the int8 graph of leafkit's own servers has others beside them
        plain, kind = Path(draft) / GRAPH_FILE, encoder.backbone.config.model_type
        write_onnx(served_vector(encoder), plain, ["vector"], kind=kind)
        quantize(plain, folder / STUDENT_FILE)
    write_query_folder(encoder, folder)
    cosine = _smallest_cosine(encoder, folder, source.probes)
    if not cosine >= SMALLEST_INT8_COSINE:
        raise LeafkitError(
            f"{source.name}: the smallest cosine of its int8 graph with the model is {cosine:.4f}, "
            f"where {SMALLEST_INT8_COSINE} is needed, and a page runs no other",
            "leafkit serve answers with the student as it is",
        )
    codec = _write_codes(page, encoder.dim, folder / CODES_FILE)
    _write_texts(page, folder / TEXTS_FILE)
    before, behind = special_tokens(folder / GRAPH_TOKENIZER_FILE, source.probes)
    copy_runtime(page.runtime, folder / RUNTIME_FOLDER)
    about = {
        "name": source.name,
        "space": source.space.get("teacher", ""),
        "documents": len(page.documents),
        "dimension": encoder.dim,
        "low": codec.linear.low.tolist(),
        "step": codec.linear.step.tolist(),
        "tokens_before": before,
        "tokens_behind": behind,
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    }
    (folder / ABOUT_FILE).write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
    own = files(__package__) / "page"
    for name in _PAGE_FILES:
        (folder / name).write_bytes((own / name).read_bytes())
    style = page.stylesheet + (own / "page.css").read_text(encoding="utf-8")
    (folder / "page.css").write_text(style, encoding="utf-8")
    (folder / CARD_FILE).write_text(make_readme(source, cosine), encoding="utf-8")
    return {"int8": cosine}


def _smallest_cosine(encoder: TextEncoder, folder: Path, probes: Sequence[str]) -> float:
    with torch.inference_mode():
        expected = encoder.finish(encoder(encoder.tokenize(list(probes), "query"))).numpy()
    found = OnnxGraphEmbedder(folder, "int8").embed(probes, "query", encoder.spec.max_tokens)
    return float(np.einsum("nd,nd->n", found, expected).min())  # both of length one


def _write_codes(page: SearchPage, dim: int, path: Path) -> Int8:
    """Write (N, D) int8 codes, row after row; the scale is the documents' own."""
    codec = fit_codecs(page.vectors, [dim], ["int8"], InheritConfig(), seed=0)[dim, "int8"]
    assert isinstance(codec, Int8)
    with path.open("wb") as stream:
        for _, block in read_blocks(page.vectors):
            stream.write(codec.encode(block).tobytes())
    return codec


def _write_texts(page: SearchPage, path: Path) -> None:
    """One JSON object a line, in the order of the codes: the page reads the lines that it shows."""
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for document in page.documents:
            # in ASCII, so that no separator of lines but \n is in it
            stream.write(json.dumps({"id": document.id, "text": document.full_text}) + "\n")


def special_tokens(path: Path, probes: Sequence[str]) -> tuple[list[int], list[int]]:
    """Ids that a tokenizer puts before and behind every text: the page cuts a long text between
    them, for its tokenizer has no cut of its own.

    Args:
        path: of tokenizer.json.
        probes: texts on which it is checked that they are the same for all.

    Raises:
        LeafkitError: they are not.
    """
    tokenizer = Tokenizer.from_file(str(path))
    before: list[int] = []
    behind: list[int] = []
    for number, text in enumerate(probes):
        inner = tokenizer.encode(text, add_special_tokens=False).ids
        whole = tokenizer.encode(text).ids
        if not number:
            places = range(len(whole) - len(inner) + 1)
            start = next((i for i in places if whole[i : i + len(inner)] == inner), 0)
            before, behind = whole[:start], whole[start + len(inner) :]
        if [*before, *inner, *behind] != whole:
            raise LeafkitError(
                f"{path.parent.name}: the tokenizer does not put the same special tokens around "
                "every text, and a page cannot cut long ones as the model does",
                "leafkit serve takes the student as it is",
            )
    return before, behind
