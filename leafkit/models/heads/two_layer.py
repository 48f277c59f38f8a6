"""A head of two layers beside a linear map, W x + b + W2 gelu(W1 x + b1), and the same as the two
Dense modules that sentence-transformers has.

For every x, gelu(x) - gelu(-x) = x cdf(x) + x cdf(-x) = x, cdf the normal distribution's: so two
GELUs carry a number through an activation unchanged. A first Dense module maps x to [x; -x; W1 x +
b1] under GELU, a second one, without activation, takes [W, -W, W2] of that, and adds b.

Not linear: it does not commute with mean pooling, and is applied to the pooled vector alone.

Shapes: B texts, H hidden width, K width between the layers, D output dimension.
"""

from __future__ import annotations

import torch
from torch import nn

_SMALLEST_SPREAD = 1e-6
# of the variance of what W reads; 1 and 1/16 gave no other quality
_SHARE_OF_VARIANCE = 0.25


class TwoLayerHead(nn.Module):
    """(B, H) -> (B, D). It begins as a linear map: W2 is 0, W1 random.

    Args:
        width: H.
        hidden: K.
        dim: D.
        bias: the output has one, b.
    """

    def __init__(self, width: int, hidden: int, dim: int, *, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(width, dim, bias=bias)
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, dim, bias=False)
        nn.init.zeros_(self.outer.weight)

    @property
    def in_features(self) -> int:
        """H, as an nn.Linear calls it."""
        return self.linear.in_features

    @property
    def out_features(self) -> int:
        """D, as an nn.Linear calls it."""
        return self.linear.out_features

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """(B, D) float32 of (B, H)."""
        return apply_linear(self.linear, pooled) + apply_linear(self.outer, self.activate(pooled))

    def activate(self, pooled: torch.Tensor) -> torch.Tensor:
        """(B, K) gelu(W1 x + b1), what W2 reads."""
        return nn.functional.gelu(apply_linear(self.inner, pooled))

    @torch.no_grad()
    def spread(self, pooled: torch.Tensor) -> None:
        """Scale W1 and set b1 so that what enters each GELU has mean 0 and variance 1 over these
        texts, where it bends most: pooled states are mostly shorter than that, and a GELU around
        one point is a line (initialization by data, arXiv 1511.06856).

        Args:
            pooled: (n, H).
        """
        entering = pooled.float() @ self.inner.weight.float().T
        scale = entering.std(dim=0, correction=0).clamp_min(_SMALLEST_SPREAD)
        self.inner.weight.div_(scale[:, None])
        self.inner.bias.copy_(-entering.mean(dim=0) / scale)

    @torch.no_grad()
    def measure_scale(self, pooled: torch.Tensor) -> float:
        """What W2 reads times this number has a fixed share of the variance of what W reads, so
        that a closed form of both can have one penalty.

        Args:
            pooled: (n, H).
        """
        activated, states = self.activate(pooled), pooled.float()
        own = activated.var(dim=0, correction=0).mean().clamp_min(_SMALLEST_SPREAD**2)
        return float((_SHARE_OF_VARIANCE * states.var(dim=0, correction=0).mean() / own).sqrt())


Head = nn.Linear | TwoLayerHead


def apply_linear(linear: nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
    """A linear map in float32, whatever its weights are kept in."""
    bias: torch.Tensor | None = linear.bias
    return nn.functional.linear(
        inputs, linear.weight.float(), None if bias is None else bias.float()
    )


def apply_head(head: Head, pooled: torch.Tensor) -> torch.Tensor:
    """(B, D) float32 of (B, H)."""
    return head(pooled) if isinstance(head, TwoLayerHead) else apply_linear(head, pooled)


def linear_part(head: Head) -> nn.Linear:
    """W and b, which a closed form sets; the head itself where it is linear."""
    return head.linear if isinstance(head, TwoLayerHead) else head


def head_rank(head: Head) -> int:
    """Dimensions of the space that the head's vectors are in, b aside: min(H, D) of a linear one,
    min(H + K, D) of two layers.
    """
    width = head.in_features
    if isinstance(head, TwoLayerHead):
        width += head.inner.out_features
    return min(width, head.out_features)


def to_dense(head: TwoLayerHead) -> tuple[nn.Linear, nn.Linear]:
    """The linear maps of two Dense modules, the first under GELU, that give the head's vectors;
    float32.
    """
    width, hidden = head.in_features, head.inner.out_features
    both = 2 * width
    first = nn.Linear(width, both + hidden)
    second = nn.Linear(both + hidden, head.out_features, bias=head.linear.bias is not None)
    with torch.no_grad():
        first.bias.zero_()
        first.bias[both:] = head.inner.bias
        first.weight[:width] = torch.eye(width)
        first.weight[width:both] = -torch.eye(width)
        first.weight[both:] = head.inner.weight
        second.weight[:, :width] = head.linear.weight
        second.weight[:, width:both] = -head.linear.weight
        second.weight[:, both:] = head.outer.weight
        if head.linear.bias is not None:
            second.bias.copy_(head.linear.bias)
    return first, second


def from_dense(first: nn.Linear, second: nn.Linear) -> TwoLayerHead | None:
    """The head that ``to_dense`` made these of; None of any other maps.

    Args:
        first: (H -> 2 H + K) under GELU.
        second: (2 H + K -> D).
    """
    width = first.in_features
    both, hidden = 2 * width, first.out_features - 2 * width
    if hidden < 1 or first.bias is None or second.in_features != first.out_features:
        return None
    eye, through = torch.eye(width), second.weight[:, :width]
    carries = (
        torch.equal(first.weight[:both], torch.cat([eye, -eye]))
        and not bool(first.bias[:both].any())
        and torch.equal(second.weight[:, width:both], -through)
    )
    if not carries:
        return None
    head = TwoLayerHead(width, hidden, second.out_features, bias=second.bias is not None)
    with torch.no_grad():
        head.linear.weight.copy_(through)
        head.inner.weight.copy_(first.weight[both:])
        head.inner.bias.copy_(first.bias[both:])
        head.outer.weight.copy_(second.weight[:, both:])
        if second.bias is not None:
            head.linear.bias.copy_(second.bias)
    return head
