"""Function-preserving growth: a wider model that computes what the narrow one did, as the start of
a bigger teacher.

Net2Net (arXiv 1511.05641) and bert2BERT (arXiv 2110.07143): units are duplicated, and the weights
that read a duplicated unit are split between its copies. The split is uneven, so that copies get
different gradients and grow apart.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import BertModel

from leafkit.core.errors import UsageError
from leafkit.models.text_encoder import TextEncoder

# a copy carries .5 +- this share of its unit's outgoing weight; 0 would keep copies equal for ever
SPLIT_NOISE = 0.25


def grow(encoder: TextEncoder, hidden_size: int, intermediate_size: int, seed: int) -> TextEncoder:
    """A BERT encoder of another width with the same cosines.

    LayerNorm's mean and variance survive only if every hidden unit is copied equally often, so
    ``hidden_size`` must be a multiple of the present one; heads keep their width and multiply.
    Feed-forward units may be copied unequally.

    Args:
        encoder: a BERT encoder without projection.
        hidden_size: new H, a multiple of the present one.
        intermediate_size: new feed-forward width, not below the present one; 0 keeps the ratio to
            H.
        seed: of the split.

    Raises:
        UsageError: the architecture or a width does not allow it.
    """
    old = encoder.backbone
    if not isinstance(old, BertModel) or encoder.projection is not None:
        raise UsageError(
            f"only a BERT encoder without projection can grow, this is {type(old).__name__}",
            "leave hidden_size at 0",
        )
    config = type(old.config).from_dict(old.config.to_dict())
    factor, remainder = divmod(hidden_size, config.hidden_size)
    intermediate_size = intermediate_size or config.intermediate_size * max(factor, 1)
    if remainder or factor < 1 or intermediate_size < config.intermediate_size:
        raise UsageError(
            f"cannot grow {config.hidden_size}/{config.intermediate_size} to "
            f"{hidden_size}/{intermediate_size}",
            f"hidden_size must be a multiple of {config.hidden_size}, intermediate_size at least "
            f"{config.intermediate_size}",
        )
    generator = torch.Generator().manual_seed(seed)
    hidden_map = torch.arange(hidden_size) % config.hidden_size
    extra = torch.randperm(config.intermediate_size, generator=generator).repeat(
        factor * intermediate_size // config.intermediate_size + 1
    )
    inner_map = torch.cat(
        [
            torch.arange(config.intermediate_size),
            extra[: intermediate_size - config.intermediate_size],
        ]
    )
    config.hidden_size, config.intermediate_size = hidden_size, intermediate_size
    config.num_attention_heads *= factor
    new = BertModel(config, add_pooling_layer=False).eval()
    for name, module in new.named_modules():
        source = old.get_submodule(name)
        if isinstance(module, nn.Linear) and isinstance(source, nn.Linear):
            writes = inner_map if name.endswith("intermediate.dense") else hidden_map
            reads = (
                inner_map
                if name.endswith("output.dense") and "attention" not in name
                else hidden_map
            )
            _grow_linear(source, module, reads, writes, generator=generator)
        elif isinstance(module, nn.Embedding | nn.LayerNorm) and isinstance(
            source, nn.Embedding | nn.LayerNorm
        ):
            with torch.no_grad():
                module.weight.copy_(source.weight[..., hidden_map])
                if isinstance(module, nn.LayerNorm) and isinstance(source, nn.LayerNorm):
                    module.bias.copy_(source.bias[hidden_map])
    return TextEncoder(new, encoder.tokenizer, encoder.spec).eval()


def _grow_linear(
    source: nn.Linear,
    target: nn.Linear,
    reads: torch.Tensor,
    writes: torch.Tensor,
    *,
    generator: torch.Generator,
) -> None:
    """Copy rows by ``writes``; split columns by ``reads`` so that the copies of each unit sum to
    its weight.
    """
    shares = 1 + 2 * SPLIT_NOISE * (
        2 * torch.rand(len(writes), len(reads), generator=generator) - 1
    )
    totals = torch.zeros(len(writes), source.in_features).index_add_(1, reads, shares)
    with torch.no_grad():
        target.weight.copy_(source.weight[writes][:, reads] * shares / totals[:, reads])
        target.bias.copy_(source.bias[writes])
