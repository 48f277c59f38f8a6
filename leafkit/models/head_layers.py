"""Which hidden states a head reads: the last alone, or several, one after the other.

Layers are counted as transformers' ``output_hidden_states`` counts them: 0 is the embedding layer,
L the last one.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedModel

from leafkit.config.student import read_layers
from leafkit.core.errors import UsageError


def count_layers(backbone: PreTrainedModel) -> int:
    """L, the layers above the embeddings; 0 where the config does not say."""
    return int(getattr(backbone.config, "num_hidden_layers", None) or 0)


def find_fault(layers: Sequence[int], num_layers: int) -> str:
    """Why a head cannot read these layers, in words; "" where it can.

    The last one is always among them: what lies above the highest that is read would be computed,
    kept and counted for nothing.

    Args:
        layers: numbers.
        num_layers: L of the model.
    """
    if list(layers) != sorted(set(layers)):
        return f"layers {describe(layers)} are not in rising order, each once"
    there = f"the model has 0 (its embeddings) to {num_layers}"
    foreign = [layer for layer in layers if not 0 <= layer <= num_layers]
    if foreign:
        return f"there is no layer {foreign[0]}: {there}"
    if layers and layers[-1] != num_layers:
        return f"the last layer is not among {describe(layers)}: {there}"
    return ""


def choose_layers(asked: str, backbone: PreTrainedModel, what: str) -> tuple[int, ...]:
    """The layers that ``student.head_layers`` names, of this model; empty for the last alone.

    Args:
        asked: the key's value.
        backbone: of the student.
        what: names the model.

    Raises:
        UsageError: the model lacks one, or the last is not among them.
    """
    numbers, num_layers = read_layers(asked), count_layers(backbone)
    layers = tuple(range(num_layers + 1)) if numbers is None else numbers
    if fault := find_fault(layers, num_layers):
        raise UsageError(
            f"student.head_layers={asked}: {what}: {fault}",
            f"all, last, or some of 0 to {num_layers} with {num_layers} among them; "
            "student.init_layers=first:N leaves upper layers out",
        )
    return () if layers == (num_layers,) else layers


def describe(layers: Sequence[int]) -> str:
    """Numbers in a row: "0, 3, 6"."""
    return ", ".join(map(str, layers))
