"""Linear layers whose weights are laid out once, as oneDNN's kernels read them: encoding in bf16 on
a CPU.

torch's own linear layer hands oneDNN a plain matrix, which is laid out anew in every call; and an
activation behind it reads and writes the widest tensor of the layer once more. The operators are
those that torch's own compiler puts in (Inductor's weight packing).

Shapes: N tokens, I inputs, O outputs.
"""

from __future__ import annotations

import functools

import torch
from torch import nn
from transformers import PreTrainedModel

from leafkit.models.packed.backbone import architecture_of

_ACTIVATIONS = {
    "gelu": ("gelu", "none"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
    "silu": ("swish", ""),
}
_NO_ACTIVATION = ("none", "")


class OneDnnLinear(nn.Module):
    """``activation(x W^T + b)``, for inference; the result is rounded once, after the activation.

    Args:
        weight_OI: bf16, on the CPU; it is copied into oneDNN's layout.
        bias_O: likewise, or None.
        activation: oneDNN's name and algorithm of what follows.
    """

    def __init__(
        self,
        weight_OI: torch.Tensor,
        bias_O: torch.Tensor | None,
        activation: tuple[str, str] = _NO_ACTIVATION,
    ) -> None:
        super().__init__()
        # no buffer: it has no storage to copy
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight_OI.detach(), None)
        self._bias_O = None if bias_O is None else bias_O.detach()
        self._activation, self._algorithm = activation

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(..., I) -> (..., O), bf16."""
        outputs: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            inputs, self._weight, self._bias_O, self._activation, [], self._algorithm
        )
        return outputs


@functools.cache
def has_onednn_linear() -> bool:
    """Whether this torch has the operators, and they compute here what plain ones do."""
    inputs, weight_OI = (torch.linspace(-1, 1, 32 * 32).view(32, 32).bfloat16() for _ in range(2))
    try:
        with torch.inference_mode():
            found = OneDnnLinear(weight_OI, weight_OI[0], _ACTIVATIONS["gelu"])(inputs)
    except (
        AttributeError,
        RuntimeError,
    ):
        # NotImplementedError, where an operator lacks this device, is one
        return False
    expected = nn.functional.gelu(nn.functional.linear(inputs, weight_OI, weight_OI[0]))
    return torch.allclose(found, expected, rtol=0.02, atol=0.02)


def use_onednn_linear(backbone: PreTrainedModel) -> None:
    """Exchange, in place, the linear layers of a bf16 model on the CPU, and take the activation of
    its feed-forward layers into them; it can neither be trained nor copied then.

    Args:
        backbone: one that ``can_pack``: of other models nobody knows who else reads a layer's
            weights.
    """
    architecture = architecture_of(type(backbone))
    if architecture is None:
        raise ValueError(f"{type(backbone).__name__} cannot be packed")
    place, fused_layers = architecture.feed_forward, set()
    if place is not None:
        fused = _ACTIVATIONS.get(getattr(backbone.config, place.config_key), _NO_ACTIVATION)
        for layer in architecture.layers(backbone) if fused is not _NO_ACTIVATION else ():
            linear = layer.get_submodule(place.linear)
            if type(linear) is nn.Linear:
                fused_layers.add(linear)
                _put(layer, place.activation, nn.Identity())
    for parent in list(backbone.modules()):
        for child_name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                activation = fused if child in fused_layers else _NO_ACTIVATION
                setattr(parent, child_name, OneDnnLinear(child.weight, child.bias, activation))


def _put(layer: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(layer.get_submodule(parent), name, module)
