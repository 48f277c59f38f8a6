"""What leafkit.json repeats of an encoder, so that a folder whose other files were changed is
refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leafkit.core.errors import LeafkitError
from leafkit.models.attention import MODES
from leafkit.models.folder import HEAD_LAYERS, TOKEN_FOLDER, TOKEN_TABLE, TOKEN_UNITS
from leafkit.models.pooling import POOLINGS, name_layers
from leafkit.models.text_encoder import EncoderSpec

_FILES = {
    "pooling": "1_Pooling/config.json",
    "attention": "config.json (is_causal)",
    "prompts": "config_sentence_transformers.json",
    "similarity": "config_sentence_transformers.json (similarity_fn_name) and modules.json",
}


def leafkit_json_fields(
    spec: EncoderSpec, table_dim: int = 0, num_units: int = 0
) -> dict[str, object]:
    """Pooling, attention, similarity, prompts and their templates, as leafkit.json holds them; the
    layers too, where a head reads several, the dimensions of a table of token vectors, and the
    units of a layer over tokens.
    """
    table = {TOKEN_TABLE: table_dim} if table_dim else {}
    units = {TOKEN_UNITS: num_units} if num_units else {}
    layers = {HEAD_LAYERS: list(spec.head_layers)} if spec.head_layers else {}
    return {
        "pooling": spec.pooling,
        "attention": spec.attention,
        "similarity": spec.similarity,
        "prompts": _told(spec.prompts),
        "templates": dict(spec.templates),
        **layers,
        **table,
        **units,
    }


def check_leafkit_json(
    path: Path, space: Any, found: EncoderSpec, *, table_dim: int = 0, num_units: int = 0
) -> dict[str, str]:
    """Compare what leafkit.json says with what the model's other files say; return the templates,
    which only it knows.

    Args:
        path: of leafkit.json.
        space: its content; keys that an older leafkit did not write are not compared.
        found: read from the other files.
        table_dim: likewise.
        num_units: likewise.

    Raises:
        LeafkitError: a value is of the wrong type, or the files contradict each other.
    """
    if not isinstance(space, dict):
        raise LeafkitError(
            f"{path}: {space!r} is not an object of keys and values", "write the model again"
        )
    allowed = {"pooling": POOLINGS, "attention": ("", *MODES), "similarity": ("cosine", "dot")}
    if space.get("normalized") is False and found.normalized and "similarity" not in space:
        raise LeafkitError(
            f"{path}: it was made for vectors that are compared by inner product (normalized is "
            "false), and config_sentence_transformers.json says cosine, as earlier versions wrote "
            "whatever it was",
            "distill it again, or correct similarity_fn_name there to dot",
        )
    for key in ("pooling", "attention", "similarity", "prompts", "templates"):
        value = space.get(key, {})
        if key in space and key in allowed and value not in allowed[key]:
            raise LeafkitError(
                f"{path}: {key} {value!r} is not one of {', '.join(allowed[key])}",
                "write the model again",
            )
        if key not in allowed and not (
            isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
        ):
            raise LeafkitError(
                f"{path}: {key} {value!r} is not text by role", "write the model again"
            )
    told, read = space.get(HEAD_LAYERS, []), list(found.head_layers)
    if told != read:
        ours, theirs = (name_layers(x) if isinstance(x, list) else x for x in (read, told))
        raise LeafkitError(
            f"{path.parent}: the head reads the layers {ours or 'last alone'} in "
            f"2_Dense/config.json and {theirs or 'last alone'} in {path.name}: its vectors would "
            "not be those it was trained for",
            "restore 2_Dense/config.json, or write the model again",
        )
    if (told := space.get(TOKEN_TABLE, 0)) != table_dim:
        raise LeafkitError(
            f"{path.parent}: the head reads a token table of {table_dim} dimensions in "
            f"2_Dense/config.json and of {told!r} in {path.name} (0 is none): its vectors would "
            "not be those it was trained for",
            "restore 2_Dense/config.json, or write the model again",
        )
    if (told := space.get(TOKEN_UNITS, 0)) != num_units:
        raise LeafkitError(
            f"{path.parent}: the layer over tokens has {num_units} units in {TOKEN_FOLDER}, by "
            f"modules.json, and {told!r} in {path.name} (0 is none): its vectors would not be "
            "those it was trained for",
            f"restore modules.json and {TOKEN_FOLDER}, or write the model again",
        )
    for key, file in _FILES.items():
        expected, other = space.get(key), getattr(found, key)
        if key == "prompts" and expected is not None:
            expected, other = _told(expected), _told(other)
        if expected not in (None, "") and expected != other:
            raise LeafkitError(
                f"{path.parent}: {key} is {other or 'none'} in {file} and {expected or 'none'} "
                f"in {path.name}:"
                " its vectors would not be those it was trained for",
                f"restore {file.partition(' ')[0]}, or write the model again",
            )
    return dict(space.get("templates", {}))


def _told(prompts: dict[str, str]) -> dict[str, str]:
    """Without roles that put nothing before the text."""
    return {role: text for role, text in prompts.items() if text}
