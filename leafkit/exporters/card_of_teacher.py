"""The cards of a teacher's folder and of a pair's."""

from __future__ import annotations

from leafkit.exporters.markdown import fence, plain
from leafkit.exporters.source import ExportSource
from leafkit.exporters.tool_snippets import NEEDS_IS_CAUSAL
from leafkit.models.attention import is_made_bidirectional
from leafkit.models.encoder_protocol import Encoder
from leafkit.models.text_encoder import TextEncoder


def make_teacher_card(source: ExportSource, teacher: TextEncoder) -> str:
    """README.md of the teacher as it embeds the documents."""
    reference = plain(source.space.get("teacher_reference") or "not named")
    cut = source.space.get("prefix_of")
    first = f", the first of its {cut:,}, cut before they are normalized" if cut else ""
    code = (
        "from sentence_transformers import SentenceTransformer\n\n"
        'teacher = SentenceTransformer("FOLDER_OF_THIS_MODEL")\n'
        'documents = teacher.encode_document(["Compute the inverse of a sparse matrix."])'
    )
    parts = [
        _front(["sentence-transformers", "sentence-similarity", "feature-extraction"]),
        f"# The teacher of {plain(source.name)}",
        f"The model {reference} as it embedded the documents that {plain(source.name)} searches, "
        "written by leafkit in the legacy layout of sentence-transformers. Its weights "
        "are its makers', in float32, and so is its license.",
        fence(code, "python"),
        *_attention(teacher),
        "\n".join(
            [
                f"- documents are cut at {teacher.spec.max_tokens:,} tokens, prompt included",
                f"- dimensions: {teacher.dim:,}{first}",
                f"- space: {plain(source.space.get('teacher') or 'not named')}",
                f"- prompt of documents: {fence_words(teacher.prompt('document'))}",
            ]
        ),
    ]
    return "\n\n".join(parts) + "\n"


def make_pair_card(source: ExportSource, teacher: TextEncoder) -> str:
    """README.md of the folder that holds student and teacher as one model."""
    reference = plain(source.space.get("teacher_reference") or "not named")
    code = (
        "from sentence_transformers import SentenceTransformer\n\n"
        'pair = SentenceTransformer("FOLDER_OF_THIS_MODEL")\n'
        'queries = pair.encode_query(["how do I invert a sparse matrix?"])  # the student\n'
        'documents = pair.encode_document(["Compute the inverse of a matrix."])  # the teacher\n'
        "scores = pair.similarity(queries, documents)"
    )
    parts = [
        _front(["sentence-transformers", "asymmetric-retrieval", "router"]),
        f"# {plain(source.name)} and its teacher, as one model",
        f"Queries go through the student, {source.encoder.num_parameters():,} parameters, "
        f"documents through its teacher {reference}, {teacher.num_parameters():,} parameters: "
        "one space, two models, each with its own prompt. `encode` without a role is refused.",
        fence(code, "python"),
        "It needs sentence-transformers 5 or later, whose module Router it is. `student/` and "
        "`teacher/` are whole models, which every tool loads by themselves. The weights of the "
        "teacher are its makers', and its license applies to them"
        + (f"; the student's is {source.license}." if source.license else "."),
        *_attention(teacher, source.encoder),
    ]
    return "\n\n".join(parts) + "\n"


def _attention(*models: Encoder) -> list[str]:
    found = [m for m in models if isinstance(m, TextEncoder) and is_made_bidirectional(m.backbone)]
    return [NEEDS_IS_CAUSAL] if found else []


def fence_words(text: str) -> str:
    """A prompt within a line of Markdown, byte for byte."""
    return f"`` {text!r} ``" if text else "none"


def _front(tags: list[str]) -> str:
    """Without a license: the one that a user names is the student's alone."""
    lines = [
        "library_name: sentence-transformers",
        "pipeline_tag: sentence-similarity",
        "tags:",
        *(f"- {tag}" for tag in tags),
    ]
    return "\n".join(["---", *lines, "---"])
