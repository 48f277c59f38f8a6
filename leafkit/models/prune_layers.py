"""A model of fewer layers: some of another's as they stand, the start of a smaller student (QED
keeps the teacher's first and last ones).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from leafkit.config.student import LAYERS
from leafkit.core.console import warn
from leafkit.core.errors import UsageError
from leafkit.models.pooling import pooler_free
from leafkit.models.text_encoder import TextEncoder

# fields of a config that hold one entry a layer
_PER_LAYER = ("layer_types", "mlp_layer_types")
_PATTERN = "global_attn_every_n_layers"  # ModernBERT's own word for its layer_types


def prune_layers(encoder: TextEncoder, choice: str) -> TextEncoder:
    """The encoder with some of its layers; it has weights of its own.

    Embeddings, the norm after the last layer, projection and tokenizer stay; a projection that
    reads several layers does not, for they would be others, nor one that reads a table of token
    vectors. What the encoder's folder holds reads back as the same model.

    Args:
        encoder: stays as it is.
        choice: as of ``choose_layers``.

    Raises:
        UsageError: the choice names no layers, or none that there are; or the architecture does not
            keep its layers in one list of equals.
    """
    old = encoder.backbone
    place, count = find_layers(old)
    kept = choose_layers(choice, count)
    config = config_of_layers(old.config, kept)
    # built anew, so that whatever depends on a layer's number is what it will be when read back
    with torch.random.fork_rng(devices=[]):
        new = type(old)(config, **pooler_free(str(config.model_type))).eval()
    state = _renumbered(old.state_dict(), place, kept)
    if state.keys() != new.state_dict().keys():
        odd = min(state.keys() ^ new.state_dict().keys())
        raise UsageError(
            f"student.init_layers={choice}: a {config.model_type}'s layers are not all alike, and "
            f"{odd} is of its first layer alone",
            "keep layer 1: student.init_layers=1,3,5 say",
        )
    new.load_state_dict(state)
    reads_more = encoder.spec.head_layers or any(encoder.beside.values())
    projection = None if reads_more else copy.deepcopy(encoder.projection)
    spec = replace(encoder.spec, head_layers=())
    return TextEncoder(new, encoder.tokenizer, spec, projection).eval()


def choose_layers(choice: str, count: int) -> list[int]:
    """Numbers of the layers to keep, the first is 1, in the order of the model.

    Args:
        choice: numbers, ``first:N``, ``last:N`` and ``every:N`` (N, 2N, ...), joined by commas.
        count: layers that there are.

    Raises:
        UsageError: a layer that the model lacks, one named twice, or out of order; or none.

    >>> choose_layers("every:2", 6), choose_layers("first:1,last:2", 6), choose_layers("2,3", 6)
    ([2, 4, 6], [1, 5, 6], [2, 3])
    """
    kept: list[int] = []
    for part in (part.strip() for part in choice.split(",")):
        match = re.fullmatch(LAYERS, part)
        if match is None:
            raise UsageError(
                f"student.init_layers={choice!r}: {part!r} names no layers",
                "numbers from 1, first:N, last:N or every:N, joined by commas: 1,6,12 or "
                "first:1,last:2",
            )
        word, number = match[1], int(match[2])
        if number > count:
            raise UsageError(
                f"student.init_layers={choice}: {part} is beyond the {count} layers of the start",
                f"layers are 1 to {count}",
            )
        kept += {
            None: [number],
            "first": range(1, number + 1),
            "last": range(count - number + 1, count + 1),
            "every": range(number, count + 1, number),
        }[word]
    if kept != sorted(set(kept)):
        twice = [layer for layer in kept if kept.count(layer) > 1]
        what = f"names layer {twice[0]} twice" if twice else "is out of order"
        raise UsageError(
            f"student.init_layers={choice} of a start of {count} layers {what}",
            "each layer once, as they stand: "
            f"student.init_layers={','.join(map(str, sorted(set(kept))))}",
        )
    return kept


def find_layers(backbone: PreTrainedModel) -> tuple[str, int]:
    """Path and length of the list that holds a model's layers.

    Raises:
        UsageError: there is none, or more than one.
    """
    count = int(backbone.config.num_hidden_layers)
    places = [
        name
        for name, module in backbone.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    # of lists within layers, the outer one
    outer = [name for name in places if not any(name.startswith(f"{p}.") for p in places)]
    if len(outer) != 1:
        raise UsageError(
            f"student.init_layers: a {backbone.config.model_type} does not keep its {count} layers "
            "in one list",
            "leave student.init_layers empty",
        )
    return outer[0], count


def _renumbered(
    state: dict[str, torch.Tensor], place: str, kept: Sequence[int]
) -> dict[str, torch.Tensor]:
    """The weights of the kept layers under their new numbers, with all that is in no layer."""
    new_numbers = {str(layer - 1): str(i) for i, layer in enumerate(kept)}
    found = {}
    for name, value in state.items():
        if not name.startswith(f"{place}."):
            found[name] = value
            continue
        number, _, rest = name.removeprefix(f"{place}.").partition(".")
        if number in new_numbers:
            found[f"{place}.{new_numbers[number]}.{rest}"] = value
    return found


def config_of_layers(old: Any, kept: Sequence[int]) -> Any:
    """The config of a model with some of another's layers, numbered from 1."""
    config = copy.deepcopy(old)
    for name in _PER_LAYER:
        if getattr(config, name, None) is not None:
            setattr(config, name, [getattr(config, name)[layer - 1] for layer in kept])
    config.num_hidden_layers = len(kept)
    if hasattr(config, _PATTERN):
        _set_pattern(config)
    return config


def _set_pattern(config: Any) -> None:
    """Make ModernBERT's older field say what its layer types say, for those who read it alone."""
    is_global = [kind == "full_attention" for kind in config.layer_types]
    for every in range(1, len(is_global) + 1):
        if is_global == [i % every == 0 for i in range(len(is_global))]:
            setattr(config, _PATTERN, every)
            return
    delattr(config, _PATTERN)
    warn(
        "the kept layers alternate between local and global attention in no regular way: readers "
        f"that know {_PATTERN} alone, and not layer_types, compute another model"
    )
