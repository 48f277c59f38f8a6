"""A student's head as it is asked for, and what it cannot be, said before anything is embedded or
trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from torch import nn

from leafkit.config import StudentConfig
from leafkit.core.errors import UsageError
from leafkit.data.records import same_text
from leafkit.embedders.prefix import precomputed_of
from leafkit.embedders.protocol import Embedder
from leafkit.models.checkpoint import load_encoder
from leafkit.models.heads.two_layer import Head, TwoLayerHead
from leafkit.models.pooling import choose_head_layers, count_layers
from leafkit.models.prune_layers import prune_layers
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.student.text_groups import FITTED_TO, TextGroup


def head_width(config: StudentConfig, start: TextEncoder | None = None) -> int:
    """H, what the student's W_out will map from; a table of token vectors beside it, which the fit
    may leave out, is not counted.

    Args:
        config: of the student.
        start: the model that it begins as, with the layers that it keeps; None loads
            ``config.init`` where it decides.

    Raises:
        UsageError: the student is to keep, or its head to read, a layer that the start model lacks.
    """
    if config.kind == "static":
        return config.static.width
    what = config.init if start is None else "the start model"
    if start is None:
        start = load_encoder(config.init)
        if config.init_layers:
            start, what = prune_layers(start, config.init_layers), f"what is kept of {what}"
    layers = choose_head_layers(config.head_layers, count_layers(start.backbone), what)
    return int(start.backbone.config.hidden_size) * max(1, len(layers))


def check_head(config: StudentConfig, dim: int, start: TextEncoder | None = None) -> None:
    """Refuse a head that the start model cannot have. A usual student needs no look at the model.

    Args:
        config: of the student.
        dim: of its vectors.
        start: as of ``head_width``.

    Raises:
        UsageError: it has no such layers, or is to have no head and is not as wide as the vectors.
    """
    if config.kind == "static" or (start is None and config.head != "none"):
        return
    width = head_width(config, start)
    if config.head == "none" and width != dim:
        raise UsageError(
            f"student.head=none: the hidden states have {width:,} dimensions and the student's "
            f"vectors {dim:,}",
            f"student.dim={width} matches a teacher's first {width} dimensions, where it was "
            "trained for them; student.head=linear maps onto any",
        )


def make_head(config: StudentConfig, width: int, dim: int) -> Head | None:
    """The head that ``config.head`` names, with random weights: (B, width) -> (B, dim); None where
    the pooled hidden states are the vectors.
    """
    if config.head == "none":
        return None
    if config.head == "two_layer":
        return TwoLayerHead(width, config.head_hidden, dim, bias=config.head_bias)
    return nn.Linear(width, dim, bias=config.head_bias)


def check_enough_texts(
    groups: Sequence[TextGroup],
    config: StudentConfig,
    teacher: Embedder,
    *,
    unseen: AbstractSet[str] = frozenset(),
) -> None:
    """Refuse a W_out that fewer texts decide about than it has outputs.

    Args:
        groups: that the student learns from.
        config: of the student.
        teacher: whose vectors they have.
        unseen: texts among them that training leaves out, as ``leave_out`` does.

    Raises:
        UsageError: there are too few.
    """
    if config.kind == "static" or config.head == "none":
        return  # a table's map is made of the teacher's vectors of tokens
    _, origins = FITTED_TO["all" if config.fit_to == "best" else config.fit_to]
    texts = [text for group in groups if group.origin in origins for text in group.texts]
    left_out = {same_text(text) for text in unseen}
    count = sum(same_text(text) not in left_out for text in texts) if left_out else len(texts)
    if count < teacher.dim:
        beside = f" beside the {len(texts) - count:,} held out" if count < len(texts) else ""
        beside += f" (student.fit_to={config.fit_to})" if config.fit_to != "best" else ""
        raise UsageError(
            f"{count:,} texts{beside} cannot decide about a projection onto the teacher's "
            f"{teacher.dim:,} dimensions: it needs as many texts at least",
            _how_to_have_enough(teacher, count),
        )


def _how_to_have_enough(teacher: Embedder, count: int) -> str:
    if precomputed_of(teacher) is None:
        return "give more texts: data.sources, or random words as data.num_pseudo_texts"
    # nobody can embed other texts any more
    more = "give more of the index, texts with their vectors; or fewer dimensions of a model that "
    known = next((dim for dim in teacher.mrl_dims if dim <= count), 0)
    if known:
        return f"{more}was trained for them: student.dim={known}"
    return f"{more}was trained for them (Matryoshka): teacher.mrl_dims=[N] student.dim=N"
