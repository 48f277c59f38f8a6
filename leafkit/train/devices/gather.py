"""Rows of all processes, with gradients, by collectives that every device's library has."""

from __future__ import annotations

from typing import Any

import torch


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        rows = rows.contiguous()
        gathered = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(gathered, rows)
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        # summed in place, and autograd may hand the same tensor to others
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(gradient)
        parts = gradient.chunk(torch.distributed.get_world_size())
        return parts[torch.distributed.get_rank()]


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """Rows of all processes, in the order of their ranks, through which gradients flow: each
    process gets, for its own rows, the sum of what all processes found.

    torch.distributed.nn's all_gather sends gradients back by an exchange of all with all, which
    Ascend's library lacks on some devices; it has what DDP itself needs, the sum over processes.

    Args:
        rows: (n, D), as many on every process.

    Returns:
        (n x processes, D).
    """
    found: torch.Tensor = _GatherRows.apply(rows)  # type: ignore[no-untyped-call]
    return found
