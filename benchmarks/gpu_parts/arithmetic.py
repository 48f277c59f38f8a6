"""How many operations a model needs, and how many a card can do.

MFU (model FLOPs utilisation, PaLM, arXiv 2204.02311, appendix B) is the arithmetic that a model
needs for the tokens it has read, over the time times the card's peak. What is computed twice
(GradCache, checkpointed layers), or for padding, counts for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Dense bfloat16, float32 sums, 10^12 operations a second, as the vendor's data sheets state them
# (their headline figures are with 2:4 sparsity: twice as many). By parts of torch's device name,
# the first that fits counts.
PEAKS = {
    "H200 NVL": 835.5,
    "H200": 989.4,
    "H100 NVL": 835.5,
    "H100 PCIe": 756.0,
    "H100": 989.4,
    "A100": 312.0,
    "L40S": 362.1,
    "RTX 4090": 165.2,
}


def peak_tflops(device_name: str) -> float | None:
    """Dense bf16 peak of a card by its name, in 10^12 operations a second; None where the table
    has no such card.

    >>> peak_tflops("NVIDIA H100 80GB HBM3"), peak_tflops("NVIDIA H100 PCIe"), peak_tflops("T4")
    (989.4, 756.0, None)
    """
    return next((peak for name, peak in PEAKS.items() if name in device_name), None)


def forward_flops(encoder: Any, lengths: Sequence[int]) -> float:
    """Operations of one forward pass, a multiply-add as two.

        2 * parameters * sum(len) + 4 * layers * width * sum(len^2)

    The parameters are those of the backbone's linear layers: no embedding table, which is looked
    up, no norms, and no head, which works once per text. The second term is scores and weighted
    sums of bidirectional attention, 2 * len^2 * width each; width is heads times head width.

    Args:
        encoder: a TextEncoder.
        lengths: tokens of each text.
    """
    config = encoder.backbone.config
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    squares = float(sum(n * n for n in lengths))
    return encoder.flops_per_token() * float(sum(lengths)) + 4.0 * layers * width * squares


def training_flops(encoder: Any, lengths: Sequence[int]) -> float:
    """Operations of forward and backward pass, which is twice the forward one:

    6 * parameters * sum(len) + 12 * layers * width * sum(len^2)
    """
    return 3.0 * forward_flops(encoder, lengths)


def share_of_peak(flops: float, seconds: float, peak: float | None) -> float | None:
    """MFU; None where nobody knows the peak (in 10^12 operations a second).

    >>> share_of_peak(5e12, 0.1, 100.0), share_of_peak(1.0, 1.0, None)
    (0.5, None)
    """
    return None if not peak else flops / seconds / (peak * 1e12)
