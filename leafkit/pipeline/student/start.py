"""The model that a student begins as."""

from __future__ import annotations

from leafkit.config import StudentConfig
from leafkit.core.console import log
from leafkit.models.checkpoint import load_encoder
from leafkit.models.configure import configure
from leafkit.models.prune_layers import prune_layers
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.student.head import head_width
from leafkit.train.student_terms import check_terms


def load_start(config: StudentConfig) -> TextEncoder:
    """The model that ``config.init`` names, shaped as the student.

    Raises:
        UsageError: it has no such layers, or cannot be given that attention or pooling.
        LeafkitError: it cannot be had.
    """
    return shape_start(load_encoder(config.init), config, config.init)


def check_start(config: StudentConfig) -> None:
    """Refuse layers that the start lacks, before anything is computed: those that the student
    keeps, and those that its head reads. A usual student needs no look at the model. So are losses
    that train nothing.

    Raises:
        UsageError: it has no such layers, or see ``check_terms``.
        LeafkitError: it cannot be had.
    """
    if config.trains_on_losses:
        check_terms(config.losses)
    if config.init_layers or (config.kind != "static" and config.head_layers != "last"):
        head_width(config)


def shape_start(start: TextEncoder, config: StudentConfig, name: str) -> TextEncoder:
    """A model with the layers that the student keeps, and its attention and pooling.

    Args:
        start: it or its weights are in the result, and change with it.
        config: of the student.
        name: of the model, for the console.

    Raises:
        UsageError: it has no such layers, or cannot be given that attention or pooling.
        LeafkitError: its architecture does not follow.
    """
    start = _keep_layers(start, config, name)
    if not config.attention and not config.pooling:
        return start
    return configure(start, config.attention, config.pooling)


def _keep_layers(start: TextEncoder, config: StudentConfig, name: str) -> TextEncoder:
    if not config.init_layers:
        return start
    pruned = prune_layers(start, config.init_layers)
    log(
        f"  {config.init_layers}: {pruned.backbone.config.num_hidden_layers} of the "
        f"{start.backbone.config.num_hidden_layers} layers of {name}, "
        f"{pruned.num_parameters():,} parameters"
    )
    return pruned
