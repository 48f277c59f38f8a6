"""Pooling: the hidden states of a text's tokens to one vector, of padded and of packed batches;
which layers' states are pooled; and BERT's own pooler, which no vector of ours goes through: kept
out of our models, and in their files, where other libraries look for it.

Layers are counted as transformers' ``output_hidden_states`` counts them: 0 is the embedding layer,
L the last one.

Shapes: B texts, T tokens of the longest, N tokens of all texts, R texts of a group, H hidden width.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from transformers import CONFIG_MAPPING, MODEL_MAPPING, PreTrainedModel

from leafkit.config.student import read_layers
from leafkit.core.devices import kind_of, send
from leafkit.core.errors import UsageError
from leafkit.models.packed.grouping import Packed

POOLINGS = ("mean", "cls", "last")


def pool_padded(
    hidden_BTH: torch.Tensor, lengths_B: torch.Tensor, mask_BT: torch.Tensor | None, pooling: str
) -> torch.Tensor:
    """(B, H) float32 pooled vectors of texts that are padded on the right.

    Args:
        hidden_BTH: last hidden states.
        lengths_B: tokens of each text.
        mask_BT: True where a token is real; None where no text is padded.
        pooling: mean, cls (the first token) or last (the last real token).
    """
    if pooling == "cls":
        return hidden_BTH[:, 0].float()
    if pooling == "last":
        rows = torch.arange(len(lengths_B), device=hidden_BTH.device)
        return hidden_BTH[rows, lengths_B - 1].float()
    if mask_BT is not None:
        hidden_BTH = hidden_BTH.masked_fill(~mask_BT[..., None], 0)
    return hidden_BTH.sum(dim=1, dtype=torch.float32) / lengths_B[:, None].float()


def pool_packed(hidden_NH: torch.Tensor, batch: Packed, pooling: str) -> torch.Tensor:
    """(B, H) float32 pooled vectors in the order the texts were given: mean, cls or last.

    Group by group where kernels are cheap to launch, all texts in one where they are not.
    """
    back = send(torch.from_numpy(np.argsort(batch.order)), hidden_NH.device)
    if kind_of(hidden_NH.device).runs_ahead:
        return _pool_texts(hidden_NH, batch.starts.long(), pooling)[back]
    parts = []
    for (num_texts, length), hidden in zip(
        batch.groups, torch.split(hidden_NH, [r * t for r, t in batch.groups]), strict=True
    ):
        hidden_RTH = hidden.view(num_texts, length, -1)
        if pooling == "mean":
            parts.append(hidden_RTH.sum(dim=1, dtype=torch.float32) / length)
        else:
            parts.append(hidden_RTH[:, 0 if pooling == "cls" else -1].float())
    return torch.cat(parts)[back]


def _pool_texts(hidden_NH: torch.Tensor, starts: torch.Tensor, pooling: str) -> torch.Tensor:
    """(texts, H) float32 of texts of any lengths; ``starts`` has the end of the last one too."""
    if pooling == "cls":
        return hidden_NH[starts[:-1]].float()
    if pooling == "last":
        return hidden_NH[starts[1:] - 1].float()
    # unsafe leaves out a look at the starts, for which the processor would wait
    return torch.segment_reduce(hidden_NH.float(), "mean", offsets=starts, axis=0, unsafe=True)


def count_layers(backbone: PreTrainedModel) -> int:
    """L, the layers above the embeddings; 0 where the config does not say."""
    return int(getattr(backbone.config, "num_hidden_layers", None) or 0)


def find_layer_fault(layers: Sequence[int], num_layers: int) -> str:
    """Why a head cannot read these layers, in words; "" where it can.

    The last one is always among them: what lies above the highest that is read would be computed,
    kept and counted for nothing.

    Args:
        layers: numbers.
        num_layers: L of the model.
    """
    if list(layers) != sorted(set(layers)):
        return f"layers {name_layers(layers)} are not in rising order, each once"
    there = f"the model has 0 (its embeddings) to {num_layers}"
    foreign = [layer for layer in layers if not 0 <= layer <= num_layers]
    if foreign:
        return f"there is no layer {foreign[0]}: {there}"
    if layers and layers[-1] != num_layers:
        return f"the last layer is not among {name_layers(layers)}: {there}"
    return ""


def choose_head_layers(asked: str, num_layers: int, what: str) -> tuple[int, ...]:
    """The layers that ``student.head_layers`` names, of this model; empty for the last alone.

    Args:
        asked: the key's value.
        num_layers: L of the student.
        what: names the model.

    Raises:
        UsageError: the model lacks one, or the last is not among them.
    """
    numbers = read_layers(asked)
    layers = tuple(range(num_layers + 1)) if numbers is None else numbers
    if fault := find_layer_fault(layers, num_layers):
        raise UsageError(
            f"student.head_layers={asked}: {what}: {fault}",
            f"all, last, or some of 0 to {num_layers} with {num_layers} among them; "
            "student.init_layers=first:N leaves upper layers out",
        )
    return () if layers == (num_layers,) else layers


def name_layers(layers: Sequence[int]) -> str:
    """Numbers in a row: "0, 3, 6"."""
    return ", ".join(map(str, layers))


def pooler_free(architecture: str) -> dict[str, bool]:
    """What keeps a model from having a pooler that no vector uses: weights without gradients stop
    distributed training.
    """
    if architecture not in CONFIG_MAPPING:
        return {}
    model = MODEL_MAPPING.get(CONFIG_MAPPING[architecture], None)
    accepts = (
        model is not None
        and not isinstance(model, tuple)
        and "add_pooling_layer" in inspect.signature(model).parameters
    )
    return {"add_pooling_layer": False} if accepts else {}


def state_with_pooler(backbone: nn.Module) -> dict[str, torch.Tensor] | None:
    """The backbone's weights, with zeros for a pooler that it was made without; None where its
    architecture has none.

    transformers and sentence-transformers make a model with its pooler; one that is missing in the
    file they announce as newly initialised, to be trained.
    """
    config = getattr(backbone, "config", None)
    if not pooler_free(str(getattr(config, "model_type", ""))):
        return None
    state = dict(backbone.state_dict())
    with torch.device("meta"):
        whole = type(backbone)(config)
    lacking = {
        name: torch.zeros(weight.shape, dtype=torch.float32)
        for name, weight in whole.state_dict().items()
        if name.startswith("pooler.") and name not in state
    }
    return state | lacking
