"""Recipes: the sections that they are made of, which values are allowed, and the only module that
knows YAML (``load``).
"""

from leafkit.config.contrastive_loss import (
    SOFT_KINDS,
    ContrastiveLossConfig,
    MixingConfig,
    SoftLabelConfig,
)
from leafkit.config.data import BAD_ROW_POLICIES, OWN_DOCUMENT_POLICIES, DataConfig, SourceConfig
from leafkit.config.endpoint import EndpointConfig
from leafkit.config.evaluation import (
    EMBEDDING_TASKS,
    INDEX_KINDS,
    QUERY_FORMS,
    QUERY_SPLITS,
    VECTOR_PRECISIONS,
    BenchConfig,
    IndexConfig,
    InheritConfig,
)
from leafkit.config.recipe import DEVICES, PRECISIONS, Recipe, to_plain
from leafkit.config.stage import (
    ATTENTIONS,
    AUTO_TASK,
    BATCHINGS,
    IN_BATCH,
    INSTRUCTIONS,
    LABEL_TASKS,
    POOLING_CHOICES,
    PROMPT_POLICIES,
    PROMPT_SIDES,
    SHORTFALLS,
    TASKS,
    LoraConfig,
    MiningConfig,
    SoupConfig,
    StageConfig,
    TrainSourceConfig,
)
from leafkit.config.student import STUDENT_KINDS, StaticConfig, StudentConfig
from leafkit.config.synth import SYNTH_LANGUAGES, SYNTH_TASKS, SynthConfig
from leafkit.config.teacher import EmbeddingsConfig, TeacherConfig
from leafkit.config.trainer import (
    CALLBACKS,
    LOGGERS,
    STRATEGIES,
    OptimizerConfig,
    TrainerConfig,
)

__all__ = [
    "ATTENTIONS",
    "AUTO_TASK",
    "BAD_ROW_POLICIES",
    "BATCHINGS",
    "CALLBACKS",
    "DEVICES",
    "EMBEDDING_TASKS",
    "INDEX_KINDS",
    "INSTRUCTIONS",
    "IN_BATCH",
    "LABEL_TASKS",
    "LOGGERS",
    "OWN_DOCUMENT_POLICIES",
    "POOLING_CHOICES",
    "PRECISIONS",
    "PROMPT_POLICIES",
    "PROMPT_SIDES",
    "QUERY_FORMS",
    "QUERY_SPLITS",
    "SHORTFALLS",
    "SOFT_KINDS",
    "STRATEGIES",
    "STUDENT_KINDS",
    "SYNTH_LANGUAGES",
    "SYNTH_TASKS",
    "TASKS",
    "VECTOR_PRECISIONS",
    "BenchConfig",
    "ContrastiveLossConfig",
    "DataConfig",
    "EmbeddingsConfig",
    "EndpointConfig",
    "IndexConfig",
    "InheritConfig",
    "LoraConfig",
    "MiningConfig",
    "MixingConfig",
    "OptimizerConfig",
    "Recipe",
    "SoftLabelConfig",
    "SoupConfig",
    "SourceConfig",
    "StageConfig",
    "StaticConfig",
    "StudentConfig",
    "SynthConfig",
    "TeacherConfig",
    "TrainSourceConfig",
    "TrainerConfig",
    "to_plain",
]
