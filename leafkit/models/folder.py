"""The files of a model folder that transformer and static models share: JSON, prompts, the Dense
module as it is written, the fingerprint.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from leafkit.core.artifact import fingerprint as fingerprint_of
from leafkit.core.checkpoint_layout import LOGS_FOLDER, MODEL_SPACE_FILE, NOT_OF_THE_MODEL
from leafkit.core.errors import LeafkitError, remedy_of
from leafkit.core.file_hashes import sha256_of_file
from leafkit.core.watch import watch_folders

# as encode_query and encode_document look
_QUERY_NAMES, _DOCUMENT_NAMES = (
    ("query",),
    ("document", "passage", "corpus"),
)
# what others call the two roles: vLLM's input_type and Cohere's clients name a prompt so
ALIASES = {"search_query": "query", "search_document": "document"}
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")  # of sentence-transformers
_AGAIN = "write or download the model again"
# what a Dense module does after its linear map; GELU is torch's own, by the error function
IDENTITY = "torch.nn.modules.linear.Identity"
GELU = "torch.nn.modules.activation.GELU"
RELU = "torch.nn.modules.activation.ReLU"
TOKENS = "token_embeddings"  # what a Dense module over tokens reads and writes
TOKEN_FOLDER = "1_Dense"  # where leafkit writes it
# in a Dense module's file and in leafkit.json: layers that a head reads, and the dimensions of a
# table of token vectors beside them
HEAD_LAYERS = "head_layers"
TOKEN_TABLE = "token_table"
TOKEN_UNITS = "token_units"
ADAPTER_FILE = "adapter_config.json"  # a low-rank adapter, as peft writes it
# what stands beside a model and decides about no vector: documents, and its weights in the forms
# of other libraries
_NOT_READ = frozenset(
    ".md .rst .html .pdf .png .jpg .jpeg .gif .svg .webp .h5 .msgpack .ot .onnx .onnx_data .gguf "
    ".mlmodel .tflite".split()
)


def read_json(path: Path, default: Any = None) -> Any:
    """What a file of a model folder says; ``default`` where there is none.

    Raises:
        LeafkitError: it is missing and there is no default, or corrupt.
    """
    # a folder or a link to nothing in its place is not the same as no file
    if default is not None and not os.path.lexists(path):
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LeafkitError(
            f"{path} is missing: not a model folder",
            "point at a sentence-transformers or leafkit model folder",
        ) from None
    except OSError as err:
        raise LeafkitError(f"cannot read {path}: {err.strerror}", remedy_of(err)) from err
    except (ValueError, RecursionError) as err:
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


def read_prefix_of(space: Mapping[str, Any]) -> int:
    """The whole dimension of the teacher whose first dimensions a student lives in; 0 for a student
    of all of them, as most are.
    """
    found = space.get("prefix_of") or 0
    if type(found) is not int or found < 0:
        raise LeafkitError(
            f"{MODEL_SPACE_FILE}: prefix_of {found!r} is not a number of dimensions", _AGAIN
        )
    return found


def fingerprint_of_folder(folder: Path) -> str:
    """Identity of a model: every file that its vectors may depend on, its own code and the model
    under an adapter included.
    """
    watch_folders(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    kept = [path for path in files if _decides(path.relative_to(folder))]
    content = {path.relative_to(folder).as_posix(): sha256_of_file(path) for path in kept}
    for path in kept:
        base = adapter_base(path.parent) if path.name == ADAPTER_FILE else None
        if base is not None:
            content[f"{path.relative_to(folder).as_posix()}: base"] = fingerprint_of_folder(base)
    return fingerprint_of(content)


def _decides(path: Path) -> bool:
    """Whether vectors may depend on a file, by its path inside the model's folder."""
    return (
        path.suffix.lower() not in _NOT_READ
        and path.name not in NOT_OF_THE_MODEL
        and path.parts[0] != LOGS_FOLDER
        and not any(part.startswith(".") or part == "__pycache__" for part in path.parts)
    )


def adapter_base(root: Path) -> Path | None:
    """Folder of the model that an adapter changes, where it is on disk; a hub model is pinned in
    the adapter's own file.
    """
    name = read_object(root / ADAPTER_FILE).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        return None
    return next((place for place in (root / name, Path(name)) if place.is_dir()), None)


def read_prompts(path: Path) -> dict[str, str]:
    """Prompts by name, and those of the roles "query" and "document".

    A role without a prompt of its name takes what sentence-transformers' authors meant for it:
    documents that of "passage", else of "corpus"; then the prompt of default_prompt_name, which
    ``encode`` puts before every text, unless that is the other role's. An empty prompt of the
    role's own name stays empty. A prompt that ``with_aliases`` wrote a second time is its role's,
    and not one more.

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
    return {
        name: text
        for name, text in found.items()
        if name not in ALIASES or text != prompts.get(ALIASES[name])
    }


def with_aliases(prompts: Mapping[str, str]) -> dict[str, str]:
    """Prompts by name as a model folder holds them, those of the roles under their other names too:
    a server that is asked for input_type "search_query" then finds the prompt instead of none.

    >>> with_aliases({"query": "find: ", "document": "", "search_document": "text: "})
    {'search_query': 'find: ', 'search_document': 'text: ', 'query': 'find: ', 'document': ''}
    """
    return {alias: prompts[role] for alias, role in ALIASES.items() if role in prompts} | dict(
        prompts
    )


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


def write_dense(
    projection: nn.Linear,
    folder: Path,
    layers: Sequence[int] = (),
    *,
    token_table: int = 0,
    activation: str = IDENTITY,
    output: str = "",
) -> None:
    """Write a projection as a Dense module, float32.

    Args:
        projection: W_out.
        folder: of the module; created.
        layers: whose pooled states it reads, side by side; empty for the last layer alone.
        token_table: dimensions of the mean token vector that it reads after them; 0 for none.
        activation: what comes after it, IDENTITY, GELU or RELU.
        output: what it reads and writes, TOKENS; "" for the text's vector.
    """
    folder.mkdir(exist_ok=True)
    config: dict[str, object] = {
        "in_features": projection.in_features,
        "out_features": projection.out_features,
        "bias": projection.bias is not None,
        "activation_function": activation,
    }
    if layers:
        config[HEAD_LAYERS] = list(layers)
    if token_table:
        config[TOKEN_TABLE] = token_table
    if output:
        config |= {"module_input_name": output, "module_output_name": output}
    write_json(folder / "config.json", config)
    weights = {
        f"linear.{name}": value.detach().float().contiguous()
        for name, value in projection.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors")
