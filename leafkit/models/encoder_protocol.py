"""What every encoder has, and its way from a reference or a folder and back to a folder.

Shapes: B texts, H hidden width, D output dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import nn

from leafkit.core.errors import LeafkitError
from leafkit.models.checkpoint import (
    find_model,
    load_encoder,
    read_encoder,
    refuse_own_code,
    write_encoder,
)
from leafkit.models.packed.grouping import TokenIds
from leafkit.models.static_encoder import StaticEncoder, is_static, read_static, write_static
from leafkit.models.text_encoder import EncoderSpec, TextEncoder


class Encoder(Protocol):
    """Token ids to vectors: a transformer (``TextEncoder``) or a table (``StaticEncoder``).

    Attributes:
        spec: pooling, prompts and lengths.
        fingerprint: identity of the weights on disk; "" for a model in the making.
    """

    spec: EncoderSpec
    fingerprint: str

    @property
    def hidden_size(self) -> int:
        """H, what W_out maps from."""

    @property
    def dim(self) -> int:
        """D, the dimension of the vectors."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    def prompt(self, role: str) -> str:
        """Text put before an input of this role."""

    def tokenize(
        self, texts: Sequence[str], role: str, max_tokens: int | None = None
    ) -> list[list[int]]:
        """Token ids of each text with its role's prompt, cut at ``max_tokens``."""

    def limit(self, max_tokens: int | None) -> int:
        """Tokens of an input that is to be cut at ``max_tokens``; None and 0 take the model's own
        limit.
        """

    def count_uncut(self, texts: Sequence[str], role: str) -> list[int]:
        """Tokens of each text with its role's prompt, however many there are."""

    def pool(self, token_ids: TokenIds) -> torch.Tensor:
        """(B, H) float32, before W_out."""

    def project(self, pooled: torch.Tensor) -> torch.Tensor:
        """W_out in float32: (B, H) -> (B, D)."""

    def __call__(self, token_ids: TokenIds) -> torch.Tensor:
        """(B, D) float32 raw vectors: neither cut nor normalized."""

    def finish(self, raw: torch.Tensor, dim: int | None = None) -> torch.Tensor:
        """Raw vectors as they are served: cut to ``dim``, then normalized where the model does."""

    def num_parameters(self) -> int:
        """All weights."""

    def num_embedding_parameters(self) -> int:
        """Those of the table of token vectors, which are looked up, not multiplied."""

    def flops_per_token(self) -> int:
        """Additions and multiplications that one more token costs."""

    def disable_dropout(self) -> None:
        """Train without dropout, where there is any."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """As of ``torch.nn.Module``."""

    def to(self, device: Any) -> Self:
        """As of ``torch.nn.Module``."""

    def train(self, mode: bool = True) -> Self:
        """As of ``torch.nn.Module``."""

    def eval(self) -> Self:
        """As of ``torch.nn.Module``."""


def load_model(
    reference: str | Path, revision: str = "", *, trust_remote_code: bool = False
) -> Encoder:
    """An encoder of whatever kind, float32, in evaluation mode.

    Args:
        reference: a model folder, or ``builtin:NAME``, ``model:FOLDER``,
            ``model:OWNER/NAME@REVISION``, ``tiny:ARCHITECTURE``; see ``load_encoder``.
        revision: of a hub model whose reference has none.
        trust_remote_code: see ``read_encoder``.

    Raises:
        UsageError: the reference is of no known kind, or a hub id comes without a pinned revision.
        LeafkitError: the model cannot be had, is damaged, or is not made of stock modules.
    """
    if isinstance(reference, Path) or Path(reference).is_dir():
        return read_model(Path(reference), trust_remote_code=trust_remote_code)
    if reference.startswith("tiny:"):
        return load_encoder(reference)
    folder = find_model(reference, revision, trust_remote_code)
    return read_model(folder, trust_remote_code=trust_remote_code)


def read_model(folder: Path, *, trust_remote_code: bool = False) -> Encoder:
    """The encoder in a model folder, of the kind that its files name.

    Raises:
        LeafkitError: see ``read_encoder`` and ``read_static``.
    """
    if is_static(folder):
        refuse_own_code(folder, trust_remote_code)
        return read_static(folder)
    return read_encoder(folder, trust_remote_code)


def save_model(encoder: Encoder, folder: Path, space: dict[str, Any]) -> None:
    """Write a model folder of stock sentence-transformers modules, in the legacy layout.

    Args:
        encoder: the model; weights are written in float32.
        folder: where to; created.
        space: what the model's vectors may be compared with; see ``write_encoder``.

    Raises:
        LeafkitError: it is of no kind that has a layout on disk, or see ``write_encoder``.
    """
    if isinstance(encoder, TextEncoder):
        write_encoder(encoder, folder, space)
    elif isinstance(encoder, StaticEncoder):
        write_static(encoder, folder, space)
    else:
        raise LeafkitError(
            f"a {type(encoder).__name__} has no layout on disk",
            "a TextEncoder and a StaticEncoder have",
        )
