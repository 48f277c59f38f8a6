"""Dense modules as one linear map, or as a head of two layers."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from leafkit.core.errors import LeafkitError
from leafkit.models.folder import (
    GELU,
    HEAD_LAYERS,
    IDENTITY,
    RELU,
    TOKEN_TABLE,
    TOKENS,
    read_object,
)
from leafkit.models.foreign.not_stock import NotStock
from leafkit.models.heads.token_layer import TokenLayer
from leafkit.models.heads.two_layer import Head, from_dense

_OUTPUT = "sentence_embedding"


def read_projection(folders: Sequence[Path]) -> Head:
    """Dense modules in a row, none with an activation, as the one linear map that they are,
    float32: W2 (W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2). Or the two that a head of two layers
    is written as, the first under GELU.

    Args:
        folders: of the modules, in order; at least one.

    Raises:
        NotStock: a module is more than linear, and no such head.
        LeafkitError: a file is missing or damaged, or a module does not take what the one before it
            gives.
    """
    if len(folders) == 2 and _activation_of(folders[0]) == GELU:
        first, second = _read_map(folders[0], GELU), read_dense(folders[1])
        _check_follows(folders[0], first, folders[1], second)
        if (head := from_dense(first, second)) is None:
            raise _not_linear(folders[0], GELU)
        return head
    whole = read_dense(folders[0])
    for before, folder in itertools.pairwise(folders):
        after = read_dense(folder)
        _check_follows(before, whole, folder, after)
        whole = _compose(whole, after)
    return whole


def read_dense(folder: Path) -> nn.Linear:
    """The linear map in a Dense module's folder, float32. One with a residual is linear too.

    Raises:
        NotStock: it is more than linear, or works on something else than the text's vector.
        LeafkitError: it is missing or damaged.
    """
    return _read_map(folder, IDENTITY)


def read_token_layer(folder: Path) -> TokenLayer:
    """The layer over tokens in the folder of a Dense module that stands before the pooling.

    Raises:
        NotStock: it is another one than leafkit's, relu after a map with a bias.
        LeafkitError: it is missing or damaged.
    """
    linear = _read_map(folder, RELU, TOKENS)
    if linear.bias is None:
        raise NotStock(f"{folder}: a Dense module over tokens without a bias")
    return TokenLayer(linear)


def _read_map(folder: Path, activation: str, feature: str = _OUTPUT) -> nn.Linear:
    """The map before a Dense module's activation, which must be this one, as what it works on."""
    path = folder / "config.json"
    config = read_object(path)
    found = _activation_of(folder)
    if found != activation or (found != IDENTITY and config.get("use_residual")):
        raise _not_linear(folder, found)
    for key in ("module_input_name", "module_output_name"):
        if (config.get(key) or _OUTPUT) != feature and not (
            key == "module_output_name" and config.get(key) is None
        ):
            raise NotStock(f"{path}: {key} is {config.get(key)!r}, not {feature}")
    width, dim = config.get("in_features"), config.get("out_features")
    if type(width) is not int or type(dim) is not int or min(width, dim) < 1:
        raise LeafkitError(
            f"{path} is corrupt: it maps {width!r} onto {dim!r} dimensions",
            "write or download the model again",
        )
    projection = nn.Linear(width, dim, bias=bool(config.get("bias", True)))
    weights = _read_weights(folder)
    residual = weights.pop("residual.weight", None)
    try:
        projection.load_state_dict(
            {key.removeprefix("linear."): value.float() for key, value in weights.items()}
        )
        if config.get("use_residual"):
            added = torch.eye(dim) if width == dim else residual
            with torch.no_grad():
                projection.weight += added
    except (RuntimeError, TypeError, AttributeError) as err:
        raise _damaged(folder, err) from err
    return projection


def read_head_layers(folder: Path) -> tuple[int, ...]:
    """Numbers of the layers that a Dense module reads, which leafkit alone writes; empty for the
    last alone.

    Raises:
        LeafkitError: they are no list of whole numbers.
    """
    path = folder / "config.json"
    layers = read_object(path).get(HEAD_LAYERS, [])
    if not isinstance(layers, list) or not all(type(layer) is int for layer in layers):
        raise LeafkitError(
            f"{path} is corrupt: {HEAD_LAYERS} {layers!r} is not a list of numbers of layers",
            "write or download the model again",
        )
    return tuple(layers)


def read_table_dim(folder: Path) -> int:
    """Dimensions of the mean token vector that a Dense module reads beside hidden states, which
    leafkit alone writes; 0 for none.

    Raises:
        LeafkitError: it is no such number.
    """
    path = folder / "config.json"
    dim = read_object(path).get(TOKEN_TABLE, 0)
    if type(dim) is not int or dim < 0:
        raise LeafkitError(
            f"{path} is corrupt: {TOKEN_TABLE} {dim!r} is not a number of dimensions",
            "write or download the model again",
        )
    return dim


def _activation_of(folder: Path) -> str:
    # sentence-transformers' own default, and what it takes for a name that is not torch's
    default = "torch.nn.modules.activation.Tanh"
    return str(read_object(folder / "config.json").get("activation_function", default))


def _not_linear(folder: Path, activation: str) -> NotStock:
    name = activation.rpartition(".")[2]
    return NotStock(f"{folder}: a Dense module with activation {name} is not linear")


def _check_follows(before: Path, first: nn.Linear, folder: Path, second: nn.Linear) -> None:
    if second.in_features != first.out_features:
        raise LeafkitError(
            f"{folder / 'config.json'}: in_features {second.in_features}, and {before.name} "
            f"before it gives {first.out_features} dimensions",
            "write or download the model again",
        )


def _read_weights(folder: Path) -> dict[str, Any]:
    """As sentence-transformers looks: safetensors first."""
    try:
        if (folder / "model.safetensors").is_file() or not (folder / "pytorch_model.bin").is_file():
            return dict(load_file(folder / "model.safetensors"))
        return dict(torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True))
    except (OSError, SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError) as err:
        raise _damaged(folder, err) from err


def _damaged(folder: Path, err: Exception) -> LeafkitError:
    return LeafkitError(
        f"{folder}: the projection cannot be loaded: {(str(err).splitlines() or [''])[0]}",
        "without it vectors are wrong",
    )


def _compose(first: nn.Linear, second: nn.Linear) -> nn.Linear:
    """``second`` after ``first``, multiplied in float64."""
    inner_bias: torch.Tensor | None = first.bias
    outer_bias: torch.Tensor | None = second.bias
    outer = second.weight.detach().double()
    bias = torch.zeros(second.out_features, dtype=torch.float64)
    if inner_bias is not None:
        bias += outer @ inner_bias.detach().double()
    if outer_bias is not None:
        bias += outer_bias.detach().double()
    has_bias = inner_bias is not None or outer_bias is not None
    whole = nn.Linear(first.in_features, second.out_features, bias=has_bias)
    with torch.no_grad():
        whole.weight.copy_(outer @ first.weight.double())
        if has_bias:
            whole.bias.copy_(bias)
    return whole
