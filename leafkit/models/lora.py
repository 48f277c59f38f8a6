"""Low-rank adapters (LoRA, arXiv 2106.09685) through peft: put in before a stage trains, merged
into the weights after it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from leafkit.core.errors import MissingExtra, UsageError
from leafkit.models.text_encoder import TextEncoder


def add_adapters(
    encoder: TextEncoder, rank: int, alpha: float, targets: Sequence[str], *, seed: int
) -> None:
    """Give linear layers of the backbone adapters, in place, and freeze everything else.

    A layer computes W x + alpha / rank * B A x; A is random and B zero, so that the vectors do not
    change at first.

    Args:
        encoder: any encoder; packed execution computes its adapters too.
        rank: of A (rank, in) and B (out, rank).
        alpha: scale of the adapters, relative to the rank.
        targets: names of linear layers, by the last parts of their path (q_proj, or
            self_attn.q_proj).
        seed: of A.

    Raises:
        MissingExtra: peft is not installed.
        UsageError: a target names no linear layer, or the rank is below 1.
    """
    if importlib.util.find_spec("peft") is None:
        raise MissingExtra("peft", "lora", "lora.rank above 0")
    import peft

    if rank < 1 or not targets:
        raise UsageError(
            f"lora.rank={rank}, lora.targets={list(targets)} adapt nothing",
            "rank from 1, at least one target",
        )
    linear = [
        name
        for name, module in encoder.backbone.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    ]
    unknown = [
        target
        for target in targets
        if not any(f".{name}".endswith(f".{target}") for name in linear)
    ]
    if unknown:
        names = sorted({name.rpartition(".")[2] for name in linear})
        raise UsageError(
            f"lora.targets: {type(encoder.backbone).__name__} has no linear layer "
            f"{', '.join(unknown)}",
            f"its linear layers are {', '.join(names)}",
        )
    chosen = [
        name for name in linear if any(f".{name}".endswith(f".{target}") for target in targets)
    ]
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=chosen)  # type: ignore[arg-type]
    encoder.requires_grad_(False)  # the projection too
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, encoder.backbone)


def merge_adapters(encoder: TextEncoder, share: float = 1.0) -> None:
    """Add every adapter to the weight it adapts, in place; afterwards the backbone is plain and all
    of it trains again.

    Args:
        encoder: with adapters.
        share: of what the adapters add. That is the average of the trained model with the one
            without adapters, share W' + (1 - share) W, for which no copy of W is needed.

    Raises:
        UsageError: there are no adapters.
        MissingExtra: peft is not installed.
    """
    if importlib.util.find_spec("peft") is None:
        raise MissingExtra("peft", "lora", "merging adapters")
    from peft.tuners.lora import LoraLayer

    backbone = encoder.backbone
    adapted = [
        (name, module) for name, module in backbone.named_modules() if isinstance(module, LoraLayer)
    ]
    if not adapted:
        raise UsageError("there are no adapters to merge", "add_adapters puts them in")
    for name, module in adapted:
        module.scale_layer(share)
        module.merge()
        parent, _, child = name.rpartition(".")
        setattr(backbone.get_submodule(parent), child, module.get_base_layer())
    del backbone.peft_config
    encoder.requires_grad_(True)
