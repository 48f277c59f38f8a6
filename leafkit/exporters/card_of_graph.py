"""The card of a folder with a student's graphs."""

from __future__ import annotations

from collections.abc import Mapping

from leafkit.exporters.markdown import plain
from leafkit.exporters.source import ExportSource
from leafkit.exporters.tool_snippets import graph_tools, openvino_snippet

_RUNTIMES = (
    "in operators of the ONNX standard alone, so that every runtime takes them: ONNX Runtime, "
    "its build for browsers, OpenVINO, text-embeddings-inference."
)


def make_graph_card(
    source: ExportSource, *, cosines: Mapping[str, float], why_vector_alone: str
) -> str:
    """README.md of the graphs.

    Args:
        source: what is exported.
        cosines: smallest cosine of each graph's vectors with the model's; "int8" is missing where
            that graph is.
        why_vector_alone: why the graph has no token vectors; "" where it has them.
    """
    int8 = (
        f"- `onnx/model_quantized.onnx`: int8, smallest cosine {cosines['int8']:.4f}, a text at a "
        "time"
        if "int8" in cosines
        else "- there is no int8 graph: its vectors were too far from the model's"
    )
    rows = [
        f"- `onnx/model.onnx`: float32, smallest cosine with the model {cosines['float32']:.7f}",
        int8,
        *_facts(source),
    ]
    parts = [
        _front(source, "transformers.js", "onnx"),
        f"# {plain(source.name)} as ONNX graphs",
        "A small query encoder whose vectors live in its teacher's space, " + _RUNTIMES,
        _outputs(why_vector_alone),
        "\n".join(rows),
        graph_tools(source, has_tokens=not why_vector_alone, has_int8="int8" in cosines),
    ]
    return "\n\n".join(parts) + "\n"


def make_openvino_card(source: ExportSource, *, cosine: float, why_vector_alone: str) -> str:
    """README.md of the model in OpenVINO's form; arguments as of ``make_graph_card``."""
    rows = [
        f"- `openvino_model.xml`: float32, smallest cosine with the model {cosine:.7f}",
        *_facts(source),
    ]
    parts = [
        _front(source, "openvino", "openvino"),
        f"# {plain(source.name)} for OpenVINO",
        "A small query encoder whose vectors live in its teacher's space.",
        _outputs(why_vector_alone),
        "\n".join(rows),
        openvino_snippet(source),
    ]
    return "\n\n".join(parts) + "\n"


def _facts(source: ExportSource) -> list[str]:
    return [
        f"- inputs: `input_ids`, `attention_mask`; texts are cut at "
        f"{source.encoder.spec.max_tokens:,} tokens, prompt included",
        f"- dimensions: {source.encoder.dim:,}",
        f"- teacher: {plain(source.space.get('teacher_reference') or 'not named')}",
        f"- space: {plain(source.space.get('teacher') or 'not named')}",
    ]


def _outputs(why_vector_alone: str) -> str:
    if why_vector_alone:
        return (
            f"One output, `sentence_embedding`, the finished vector: {why_vector_alone}. Tools "
            "that pool for themselves need to be told to leave that out."
        )
    return (
        "Two outputs: `sentence_embedding`, the finished vector, and `last_hidden_state`, the "
        "vectors of all tokens with the last layer's map applied to each, whose mean is the same "
        "vector. There is no Dense module to apply."
    )


def _front(source: ExportSource, library: str, tag: str) -> str:
    lines = [
        f"library_name: {library}",
        "pipeline_tag: feature-extraction",
        *([f"license: {source.license}"] if source.license else []),
        *([f"base_model: {source.base_model}"] if source.base_model else []),
        "tags:",
        f"- {tag}",
        "- sentence-similarity",
        "- asymmetric-retrieval",
    ]
    return "\n".join(["---", *lines, "---"])
