"""The model card of an exported student: the report's where one was written, else one of its own;
with what the owner names, and how other tools are called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from leafkit.exporters.markdown import plain
from leafkit.exporters.source import ExportSource
from leafkit.exporters.tool_snippets import student_tools
from leafkit.models.folder import read_prefix_of

_TAGS = (
    "sentence-transformers",
    "sentence-similarity",
    "feature-extraction",
    "knowledge-distillation",
    "asymmetric-retrieval",
    "leaf",
)
# what the report's card says of a license that nobody has named
_UNNAMED = (
    "- The licence follows from the start model and the texts; set `license` above before "
    "publishing.\n"
)

_TITLE = re.compile(r"(?:\A|(?<=\n\n))# .*")
_PLACEHOLDER = "FOLDER_OR_HUB_ID_OF_THIS_MODEL"


def complete_card(source: ExportSource) -> str:
    """README.md of the student's folder: the report's card where there is one, else ``make_card``;
    in either the license, the start model, the repository that it is meant for, and how each tool
    is called with the query's prompt.
    """
    if not source.card:
        card = make_card(source)
    else:
        card = with_license(source.card, source.license)
        if source.license:
            named = f"- Its owner publishes it under {plain(source.license)}.\n"
            card = card.replace(_UNNAMED, named)
        # the report titles it by the recipe's name
        card = _TITLE.sub(lambda _: f"# {plain(source.name)}", card, count=1)
    if source.repository:
        card = card.replace(_PLACEHOLDER, source.repository)
    return f"{card.rstrip()}\n\n{student_tools(source)}\n"


def make_card(source: ExportSource) -> str:
    """README.md: YAML front matter, what the model is, how it is loaded, its space, its license."""
    encoder, space = source.encoder, source.space
    tags = [*_TAGS, *(["matryoshka"] if encoder.spec.mrl_dims else [])]
    matter = [
        "---",
        "library_name: sentence-transformers",
        "pipeline_tag: sentence-similarity",
        *([f"license: {source.license}"] if source.license else []),
        *([f"base_model: {source.base_model}"] if source.base_model else []),
        "tags:",
        *(f"- {tag}" for tag in tags),
        "---",
    ]
    parts = [
        "\n".join(matter),
        f"# {plain(source.name)}",
        "A small query encoder, distilled with leafkit so that its vectors live in its teacher's "
        "space: documents embedded by the teacher can be searched with it as they are.",
        _usage(source),
        _space(source, space),
        _license(source, space),
    ]
    return "\n\n".join(parts) + "\n"


def with_license(card: str, license_id: str) -> str:
    """A card whose front matter names the license; one that names another keeps its other lines."""
    if not license_id or not card.startswith("---\n"):
        return card
    matter, end, rest = card[4:].partition("\n---")
    lines = [line for line in matter.splitlines() if not line.startswith("license:")]
    return "---\n" + "\n".join([*lines, f"license: {license_id}"]) + end + rest


def _usage(source: ExportSource) -> str:
    cut = ""
    if read_prefix_of(source.space):  # cut, then of length one again
        cut = f", truncate_dim={source.encoder.dim}"
        cut += ", normalize_embeddings=True" if source.encoder.spec.normalized else ""
    lines = [
        "from sentence_transformers import SentenceTransformer",
        "",
        f'student = SentenceTransformer("{_PLACEHOLDER}")',
        'teacher = SentenceTransformer("FOLDER_OR_HUB_ID_OF_THE_TEACHER")',
        "",
        'queries = student.encode_query(["how do I invert a sparse matrix?"])',
        f'documents = teacher.encode_document(["Compute the inverse of a sparse matrix."]{cut})',
        "scores = queries @ documents.T",
    ]
    note = (
        "`encode_query` and `encode_document` put their role's prompt, where it has one, before "
        "each text."
        if source.encoder.spec.prompts
        else "The model has no prompts."
    )
    return "\n".join(["## Use", "", "```python", *lines, "```", "", note])


def _space(source: ExportSource, space: Mapping[str, Any]) -> str:
    encoder = source.encoder
    dims = ", ".join(map(str, encoder.spec.mrl_dims))
    whole = read_prefix_of(space)
    first = f", the first of the teacher's {whole:,}, cut and normalized again" if whole else ""
    rows = [
        "## The space it lives in",
        "",
        f"- teacher: {plain(space.get('teacher_reference') or 'not named')}",
        f"- space: {plain(space.get('teacher') or 'not named')}",
        f"- dimensions: {encoder.dim}{first}" + (f"; Matryoshka: {dims}" if dims else ""),
        f"- parameters: {encoder.num_parameters():,}",
        "- Vectors of any other model, also of another version of the teacher, do not mix with "
        "these.",
    ]
    return "\n".join(rows)


def _license(source: ExportSource, space: Mapping[str, Any]) -> str:
    named = (
        f"The owner of these weights publishes them under {plain(source.license)}."
        if source.license
        else "The owner of these weights has not named a license yet; name one before they are "
        "published (`leafkit.export(..., license=...)`)."
    )
    return (
        f"## License\n\n{named} The weights are derived from the student's start model and from "
        f"vectors of the teacher ({plain(space.get('teacher_reference') or 'not named')}): the "
        "licenses of both apply."
    )
