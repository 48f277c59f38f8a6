"""Parameters that a recipe's models have, counted without their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

from leafkit.config import StudentConfig
from leafkit.core.builtin_models.published import PUBLISHED
from leafkit.core.builtin_models.table import is_builtin
from leafkit.core.errors import LeafkitError
from leafkit.models.builtin.find import find_builtin
from leafkit.models.foreign.modules import read_stock
from leafkit.models.pooling import choose_head_layers, pooler_free
from leafkit.models.prune_layers import choose_layers, config_of_layers
from leafkit.pipeline.student.head import make_head


def config_of(reference: str) -> Any | None:
    """The config of a model whose vectors are its pooled hidden states; None where it cannot be had
    without the hub.
    """
    kind, _, rest = reference.partition(":")
    hub_id = rest.partition("@")[0]
    if kind == "model" and hub_id in PUBLISHED:
        known = PUBLISHED[hub_id]
        return AutoConfig.for_model(known.architecture, **known.fields)
    try:
        folder = find_builtin(reference) if is_builtin(reference) else Path(rest)
        is_known = (folder / "config.json").is_file() and read_stock(folder).projection is None
        return AutoConfig.from_pretrained(folder) if is_known else None
    except LeafkitError:
        return None


def count_parameters(config: Any) -> int:
    """Parameters of a transformer of this config, without a pooler, which no vector uses."""
    with torch.device("meta"):
        backbone = AutoModel.from_config(config, **pooler_free(str(config.model_type)))
    return sum(weight.numel() for weight in backbone.parameters())


def student_at_full_size(student: StudentConfig, dim: int) -> tuple[int, int] | None:
    """Parameters of a student's transformer and of its head onto ``dim`` dimensions; None where the
    model that it begins as is not known here.

    Raises:
        UsageError: it has no such layers as the student keeps, or as its head reads.
    """
    config = config_of(student.init)
    if config is None:
        return None
    if student.init_layers:
        kept = choose_layers(student.init_layers, int(config.num_hidden_layers))
        config = config_of_layers(config, kept)
    layers = choose_head_layers(student.head_layers, int(config.num_hidden_layers), student.init)
    with torch.device("meta"):
        width, before = config.hidden_size * max(1, len(layers)), 0
        if student.token_units:
            units = student.token_units + 2 * config.hidden_size  # see ``add_token_layer``
            width, before = units, units * (config.hidden_size + 1)
        head = make_head(student, width + min(student.token_table, dim), dim)
    weights = head.parameters() if head is not None else ()
    return count_parameters(config), before + sum(weight.numel() for weight in weights)
