"""The files of a model folder that transformer and static models share: JSON, prompts, the Dense
module, the fingerprint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from leafkit.core.artifact import fingerprint as fingerprint_of
from leafkit.core.checkpoint_layout import LOGS_FOLDER, MODEL_SPACE_FILE, NOT_OF_THE_MODEL
from leafkit.core.errors import LeafkitError
from leafkit.core.file_hashes import sha256_of_file
from leafkit.core.watch import watch_folders

# as encode_query and encode_document look
_QUERY_NAMES, _DOCUMENT_NAMES = (
    ("query",),
    ("document", "passage", "corpus"),
)
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")  # of sentence-transformers
_AGAIN = "write or download the model again"
_FINGERPRINTED = (".safetensors", ".json", ".txt", ".model")


def read_json(path: Path, default: Any = None) -> Any:
    """What a file of a model folder says; ``default`` where there is none.

    Raises:
        LeafkitError: it is missing and there is no default, or corrupt.
    """
    if not path.is_file() and default is not None:
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LeafkitError(
            f"{path} is missing: not a model folder",
            "point at a sentence-transformers or leafkit model folder",
        ) from None
    except ValueError as err:
        raise LeafkitError(f"{path} is corrupt: {err}", _AGAIN) from err


def read_object(path: Path, default: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a file that holds a JSON object says; ``default`` where there is none.

    Raises:
        LeafkitError: as of ``read_json``, or it holds something else than an object.
    """
    found = read_json(path, default)
    if not isinstance(found, dict):
        raise LeafkitError(
            f"{path} is corrupt: it holds a {type(found).__name__}, not an object", _AGAIN
        )
    return found


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON with a line break at its end."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_space(folder: Path) -> dict[str, Any]:
    """What leafkit.json says of the space a model lives in.

    Raises:
        LeafkitError: the folder was not written by leafkit.
    """
    return read_object(folder / MODEL_SPACE_FILE)


def read_teacher_prompts(space: Mapping[str, Any]) -> dict[str, str]:
    """Prompts, by role, that a student's teacher was given by the user; files of an earlier
    leafkit, and most students', name none.
    """
    found = space.get("teacher_prompts") or {}
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise LeafkitError(
            f"{MODEL_SPACE_FILE}: teacher_prompts {found!r} is not text by role", _AGAIN
        )
    return found


def fingerprint_of_folder(folder: Path) -> str:
    """Identity of a model: its weights, configuration, tokenizer and prompts."""
    watch_folders(folder)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in _FINGERPRINTED)
    kept = [
        p
        for p in files
        if p.name not in NOT_OF_THE_MODEL
        and not p.name.startswith(".")
        and p.relative_to(folder).parts[0] != LOGS_FOLDER
    ]
    return fingerprint_of({p.relative_to(folder).as_posix(): sha256_of_file(p) for p in kept})


def read_prompts(path: Path) -> dict[str, str]:
    """Prompts by name, and those of the roles "query" and "document".

    A role without a prompt of its name takes what sentence-transformers' authors meant for it:
    documents that of "passage", else of "corpus"; then the prompt of default_prompt_name, which
    ``encode`` puts before every text, unless that is the other role's. An empty prompt of the
    role's own name stays empty.

    Raises:
        LeafkitError: the file names no text.
    """
    config = read_object(path, {})
    prompts = config.get("prompts") or {}
    default = config.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(
        isinstance(text, str | None) for text in prompts.values()
    ):
        raise LeafkitError(f"{path}: prompts is {prompts!r}, not text by name", "restore the file")
    if default and (not isinstance(default, str) or default not in prompts):
        raise LeafkitError(
            f"{path}: default_prompt_name {default!r} is not one of its prompts", "restore the file"
        )
    found = {name: text for name, text in prompts.items() if text}
    for role, names in {"query": _QUERY_NAMES, "document": _DOCUMENT_NAMES}.items():
        others = _DOCUMENT_NAMES if role == "query" else _QUERY_NAMES
        name = next(
            (n for n in names if prompts.get(n) is not None),
            default if default not in others else None,
        )
        if name is not None and prompts[name]:
            found[role] = prompts[name]
    return found


def is_ranked_by_cosine(path: Path, *, has_normalize: bool) -> bool:
    """Whether a model's texts are compared by the cosine of their vectors; else by inner product.

    The model's own word is ``similarity_fn_name``; without it sentence-transformers takes cosine.
    Of vectors of length one cosine, inner product and Euclidean distance give one ranking.

    Args:
        path: of config_sentence_transformers.json, which may be missing.
        has_normalize: the model ends with a Normalize module.

    Raises:
        LeafkitError: it is another similarity, which no index here ranks by, or an unknown one.
    """
    name = read_object(path, {}).get("similarity_fn_name") or "cosine"
    if name not in SIMILARITIES:
        raise LeafkitError(
            f"{path}: similarity_fn_name {name!r} is not one of {', '.join(SIMILARITIES)}",
            "restore the file",
        )
    if name == "manhattan" or (name == "euclidean" and not has_normalize):
        raise LeafkitError(
            f"{path}: similarity_fn_name is {name}: the model ranks by a distance between vectors "
            "of any length, and search, indexes and students here rank by cosine or inner product",
            "take a model that is made for cosine or dot",
        )
    return has_normalize or name == "cosine"


def read_dense(folder: Path) -> nn.Linear:
    """The projection in a Dense module's folder, float32.

    Raises:
        LeafkitError: it is missing, damaged, or more than linear.
    """
    config = read_object(folder / "config.json")
    # sentence-transformers' own default
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    if activation != "Identity":
        raise LeafkitError(
            f"{folder}: a Dense module with activation {activation} is not linear",
            "only linear projections are read",
        )
    if config.get("use_residual"):
        raise LeafkitError(
            f"{folder}: a Dense module adds its input to its output",
            "only plain projections are read",
        )
    width, dim = config.get("in_features"), config.get("out_features")
    if type(width) is not int or type(dim) is not int or min(width, dim) < 1:
        raise LeafkitError(
            f"{folder / 'config.json'} is corrupt: it maps {width!r} onto {dim!r} dimensions",
            _AGAIN,
        )
    projection = nn.Linear(width, dim, bias=bool(config.get("bias", True)))
    try:
        weights = load_file(folder / "model.safetensors")
        projection.load_state_dict(
            {key.removeprefix("linear."): value.float() for key, value in weights.items()}
        )
    except (OSError, SafetensorError, RuntimeError) as err:
        raise LeafkitError(
            f"{folder}: the projection cannot be loaded: {str(err).splitlines()[0]}",
            "without it vectors are wrong",
        ) from err
    return projection


def write_dense(projection: nn.Linear, folder: Path) -> None:
    """Write a projection as a Dense module, float32."""
    folder.mkdir(exist_ok=True)
    config = {
        "in_features": projection.in_features,
        "out_features": projection.out_features,
        "bias": projection.bias is not None,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    write_json(folder / "config.json", config)
    weights = {
        f"linear.{name}": value.detach().float().contiguous()
        for name, value in projection.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors")
