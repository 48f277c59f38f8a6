"""The modules that a sentence-transformers folder lists, read as pooling, one linear map or head of
two layers, and normalization.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from leafkit.core.errors import LeafkitError
from leafkit.models.folder import read_json, read_object
from leafkit.models.foreign.dense import (
    read_head_layers,
    read_projection,
    read_table_dim,
    read_token_layer,
)
from leafkit.models.foreign.not_stock import NotStock
from leafkit.models.heads.token_layer import TokenLayer
from leafkit.models.heads.two_layer import Head

STOCK = ("Transformer", "Pooling", "Dense", "Normalize")
PACKAGE = "sentence_transformers."
_SETTINGS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_POOLINGS = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "last": "pooling_mode_lasttoken",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
}
_OUTPUT = "sentence_embedding"
# settings of the transformer module that change nothing here, or are read elsewhere
_KNOWN_SETTINGS = {
    "max_seq_length": None,
    "do_lower_case": None,
    "unpad_inputs": None,
    "tokenizer_name_or_path": None,
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
}


@dataclass(frozen=True, slots=True)
class Stock:
    """A folder's modules.

    Attributes:
        root: folder of the transformer.
        settings: of the transformer's module: max_seq_length, do_lower_case.
        pooling: mean, cls or last.
        projection: all Dense modules as one linear map, or as a head of two layers; None where
            there is none.
        normalized: a Normalize module comes last.
        head_layers: that the first Dense module reads, where leafkit wrote one that reads several.
        table_dim: dimensions of the mean token vector that it reads after them; 0 for none.
        token_layer: a Dense module over tokens, before the pooling; None for none.
    """

    root: Path
    settings: Mapping[str, Any]
    pooling: str
    projection: Head | None
    normalized: bool
    head_layers: tuple[int, ...] = ()
    table_dim: int = 0
    token_layer: TokenLayer | None = None


def read_modules(folder: Path) -> list[tuple[str, str]]:
    """Type and folder of each module in modules.json, in order.

    Raises:
        LeafkitError: the file is corrupt, names none, or leads out of the folder.
    """
    path = folder / "modules.json"
    modules = read_json(path)
    if not isinstance(modules, list) or not all(
        isinstance(module, dict)
        and isinstance(module.get("type"), str)
        and isinstance(module.get("path"), str)
        for module in modules
    ):
        raise LeafkitError(
            f"{path} is corrupt: a module has no type or path", "write the model again"
        )
    for module in modules:
        place = PurePosixPath(module["path"])
        if place.is_absolute() or ".." in place.parts:
            raise LeafkitError(
                f"{path}: a module lies at {module['path']!r}, outside of the model's folder",
                "copy what belongs to the model into its folder",
            )
    return [(module["type"], module["path"]) for module in modules]


def read_stock(folder: Path) -> Stock:
    """The modules of a folder; without modules.json those that sentence-transformers would give a
    bare transformer, and normalized: mean pooling, the last token's for a language model.

    Raises:
        NotStock: sentence-transformers reads it, and it is another computation.
        LeafkitError: something is missing, damaged, or no text model; the message names the file.
    """
    if not (folder / "modules.json").is_file():
        if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
            raise LeafkitError(
                f"{folder} holds no model: neither modules.json nor config.json", "check the path"
            )
        pooling = "last" if _is_language_model(folder) else "mean"
        return Stock(folder, read_settings(folder), pooling, None, normalized=True)
    modules = _check_order(folder, read_modules(folder))
    paths = {name: [folder / path for kind, path in modules if kind == name] for name in STOCK}
    for place in paths["Normalize"]:
        _check_features(place, read_object(place / "config.json", {}))
    root, token_layer = paths["Transformer"][0], None
    if _has_layer_over_tokens([name for name, _ in modules]):
        token_layer = read_token_layer(paths["Dense"].pop(0))
        if not paths["Dense"]:
            raise NotStock(f"{folder}: no Dense module reads what its layer over tokens gives")
    return Stock(
        root=root,
        settings=read_settings(root),
        pooling=_read_pooling(paths["Pooling"][0]),
        projection=read_projection(paths["Dense"]) if paths["Dense"] else None,
        normalized=bool(paths["Normalize"]),
        head_layers=read_head_layers(paths["Dense"][0]) if paths["Dense"] else (),
        table_dim=read_table_dim(paths["Dense"][0]) if paths["Dense"] else 0,
        token_layer=token_layer,
    )


def read_settings(root: Path) -> Mapping[str, Any]:
    """What the transformer's module says of itself, in the first file there is of the seven names
    that sentence-transformers gave it.

    Raises:
        NotStock: a setting changes vectors, and is not done here.
        LeafkitError: the file is corrupt.
    """
    path = next((root / name for name in _SETTINGS if (root / name).is_file()), None)
    if path is None:
        return {}
    settings = read_object(path)
    for key, value in settings.items():
        if key == "modality_config":
            is_plain = isinstance(value, dict) and "message" not in value
            text = value.get("text") if is_plain else None
            is_known = text == {"method": "forward", "method_output_name": "last_hidden_state"}
        elif key in _KNOWN_SETTINGS:
            is_known = _KNOWN_SETTINGS[key] in (None, value)
        else:
            is_known = not value
        if not is_known:
            raise NotStock(f"{path}: {key} is {str(value)[:80]!r}, which changes its vectors")
    return settings


def _check_order(folder: Path, modules: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Short names and folders of modules that are stock and in their usual order."""
    path = folder / "modules.json"
    named = [(kind.rpartition(".")[2], place) for kind, place in modules]
    names = [name for name, _ in named]
    for name in names:
        if name == "CLIPModel":
            raise LeafkitError(
                f"{folder}: module CLIPModel reads images beside text",
                "models of text alone are read",
            )
        if name not in STOCK:
            raise NotStock(f"{folder}: module {name} is not one of {', '.join(STOCK)}")
    if names[:1] != ["Transformer"]:
        raise (NotStock if names else _no_modules)(f"{path} names no Transformer at its beginning")
    before = ["Dense"] * _has_layer_over_tokens(names)
    after = ["Dense"] * (names.count("Dense") - len(before))
    usual = ["Transformer", *before, "Pooling", *after]
    if names not in (usual, [*usual, "Normalize"]):
        raise NotStock(
            f"{path}: {', '.join(names)} is another order than Transformer, Pooling, Dense, "
            f"Normalize"
        )
    return named


def _has_layer_over_tokens(names: list[str]) -> bool:
    return names[1:3] == ["Dense", "Pooling"]


def _no_modules(message: str) -> LeafkitError:
    return LeafkitError(message, "write or download the model again")


def _is_language_model(folder: Path) -> bool:
    config = read_object(folder / "config.json", {})
    names = config.get("architectures") or [""]
    is_one = isinstance(names, list) and str(names[0]).endswith("ForCausalLM")
    return is_one and config.get("is_causal") is not False


def _check_features(place: Path, config: Mapping[str, Any]) -> None:
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, _OUTPUT):
            raise NotStock(f"{place / 'config.json'}: {key} is {config[key]!r}, not {_OUTPUT}")


def _read_pooling(place: Path) -> str:
    config = read_object(place / "config.json")
    mode = config.get("pooling_mode")
    if mode is None:
        modes = [name for name, key in _POOLINGS.items() if config.get(key)]
    else:
        told = mode if isinstance(mode, list) else [mode]
        modes = ["last" if name == "lasttoken" else str(name) for name in told]
    if len(modes) != 1 or modes[0] not in ("mean", "cls", "last"):
        raise NotStock(
            f"{place}/config.json: pooling is not exactly one of mean, cls, last: "
            f"{' and '.join(modes) or 'none is named'}"
        )
    if config.get("include_prompt") is False:
        raise NotStock(f"{place}/config.json: pooling leaves the prompt's tokens out")
    return modes[0]
