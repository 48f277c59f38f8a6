"""leafkit: distil a text-embedding teacher into small students that live in the teacher's own
vector space.

Everything here is imported when it is first asked for, so that ``import leafkit`` costs nothing.
Nothing is printed unless ``set_verbosity("info")`` asks for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from leafkit.core.version import __version__

if TYPE_CHECKING:
    from leafkit.api import distill
    from leafkit.config import (
        BenchConfig,
        ContrastiveLossConfig,
        DataConfig,
        EmbeddingsConfig,
        InheritConfig,
        OptimizerConfig,
        StageConfig,
        StaticConfig,
        StudentConfig,
        TeacherConfig,
    )
    from leafkit.core.console import set_verbosity
    from leafkit.core.errors import LeafkitError, MissingExtra, UsageError
    from leafkit.data.records import Collection, Document, Query
    from leafkit.embedders.make_embedder import make_embedder
    from leafkit.models.encoder_protocol import load_model, save_model
    from leafkit.pipeline.evaluate.evaluate_pair import evaluate
    from leafkit.pipeline.export import export
    from leafkit.pipeline.hits import Hits
    from leafkit.pipeline.load_pair import load_pair
    from leafkit.pipeline.pair import Pair
    from leafkit.pipeline.predict.predict import predict
    from leafkit.pipeline.predict.settings import PredictSettings
    from leafkit.pipeline.rescue.rescue import Rescued, rescue
    from leafkit.pipeline.teacher.train import train_teacher
    from leafkit.results import Certificate, EvaluationResult, InheritanceGrid, Prediction
    from leafkit.server.serve import serve
    from leafkit.testing import check_inheritance
    from leafkit.train.contrastive_data import ContrastiveData
    from leafkit.train.contrastive_module import ContrastiveModule
    from leafkit.train.distillation_data import DistillationData
    from leafkit.train.leaf_module import LeafModule
    from leafkit.train.trainer_options import TrainerOptions

__all__ = [
    "BenchConfig",
    "Certificate",
    "Collection",
    "ContrastiveData",
    "ContrastiveLossConfig",
    "ContrastiveModule",
    "DataConfig",
    "DistillationData",
    "Document",
    "EmbeddingsConfig",
    "EvaluationResult",
    "Hits",
    "InheritConfig",
    "InheritanceGrid",
    "LeafModule",
    "LeafkitError",
    "MissingExtra",
    "OptimizerConfig",
    "Pair",
    "PredictSettings",
    "Prediction",
    "Query",
    "Rescued",
    "StageConfig",
    "StaticConfig",
    "StudentConfig",
    "TeacherConfig",
    "TrainerOptions",
    "UsageError",
    "__version__",
    "check_inheritance",
    "distill",
    "evaluate",
    "export",
    "load_model",
    "load_pair",
    "make_embedder",
    "predict",
    "rescue",
    "save_model",
    "serve",
    "set_verbosity",
    "train_teacher",
]

# the module that each name comes from
_HOMES = {
    "leafkit.api": ("distill",),
    "leafkit.config": (
        "BenchConfig",
        "ContrastiveLossConfig",
        "DataConfig",
        "EmbeddingsConfig",
        "InheritConfig",
        "OptimizerConfig",
        "StageConfig",
        "StaticConfig",
        "StudentConfig",
        "TeacherConfig",
    ),
    "leafkit.core.console": ("set_verbosity",),
    "leafkit.core.errors": ("LeafkitError", "MissingExtra", "UsageError"),
    "leafkit.data.records": ("Collection", "Document", "Query"),
    "leafkit.embedders.make_embedder": ("make_embedder",),
    "leafkit.models.encoder_protocol": ("load_model", "save_model"),
    "leafkit.pipeline.export": ("export",),
    "leafkit.pipeline.hits": ("Hits",),
    "leafkit.pipeline.load_pair": ("load_pair",),
    "leafkit.pipeline.pair": ("Pair",),
    "leafkit.pipeline.predict.predict": ("predict",),
    "leafkit.pipeline.predict.settings": ("PredictSettings",),
    "leafkit.pipeline.rescue.rescue": ("Rescued", "rescue"),
    "leafkit.server.serve": ("serve",),
    "leafkit.pipeline.evaluate.evaluate_pair": ("evaluate",),
    "leafkit.results": ("Certificate", "EvaluationResult", "InheritanceGrid", "Prediction"),
    "leafkit.testing": ("check_inheritance",),
    "leafkit.train.contrastive_data": ("ContrastiveData",),
    "leafkit.train.contrastive_module": ("ContrastiveModule",),
    "leafkit.train.distillation_data": ("DistillationData",),
    "leafkit.pipeline.teacher.train": ("train_teacher",),
    "leafkit.train.leaf_module": ("LeafModule",),
    "leafkit.train.trainer_options": ("TrainerOptions",),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
