"""Keys and values of recipes that have another name today, and what a recipe that uses one is told.

A recipe with an old name is refused: read under the new name without a word, it would stay old for
ever. What a manifest holds was right when it was written, so that is read under today's names.
Names that other tools use are known too, for a hint.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

# old key -> new key; * stands for one name, the same on both sides
RENAMED_KEYS = {
    "data.home": "data.corpus",
    "data.away_packages": "data.out_of_domain_packages",
    "data.drop_own_document": "data.exclude_self",
    "stages.*.num_neighbours": "stages.*.num_neighbors",
    "stages.*.neighbour_model": "stages.*.neighbor_model",
    "stages.*.question_share": "stages.*.question_ratio",
    "stages.*.soup_share": "stages.*.wise_ft_alpha",
    "stages.*.lr": "stages.*.optimizer.lr",
    "stages.*.warmup_share": "stages.*.optimizer.warmup_ratio",
    "stages.*.weight_decay": "stages.*.optimizer.weight_decay",
    "stages.*.max_grad_norm": "stages.*.optimizer.max_grad_norm",
    "stages.*.temperature": "stages.*.loss.temperature",
    "stages.*.false_negative_margin": "stages.*.loss.false_negative_margin",
    "stages.*.focal_gamma": "stages.*.loss.focal_gamma",
    "stages.*.spread_weight": "stages.*.loss.gor_weight",
    "stages.*.anchor_weight": "stages.*.loss.anchor_weight",
    "stages.*.mrl_dims": "stages.*.loss.mrl_dims",
    "stages.*.mrl_weights": "stages.*.loss.mrl_weights",
    "stages.*.soft.contrastive_weight": "stages.*.loss.contrastive_weight",
    "stages.*.soft": "stages.*.soft_labels",
    "stages.*.soft.models": "stages.*.soft_labels.models",
    "stages.*.soft.kind": "stages.*.soft_labels.kind",
    "stages.*.soft.weight": "stages.*.soft_labels.weight",
    "stages.*.soft.temperature": "stages.*.soft_labels.temperature",
    "stages.*.soft.query_template": "stages.*.soft_labels.query_template",
    "student.question_share": "student.question_ratio",
    "student.lr": "student.optimizer.lr",
    "student.warmup_share": "student.optimizer.warmup_ratio",
    "student.final_lr_share": "student.optimizer.final_lr_ratio",
    "student.weight_decay": "student.optimizer.weight_decay",
    "student.max_grad_norm": "student.optimizer.max_grad_norm",
    "embeddings.base_url": "embeddings.endpoint.base_url",
    "embeddings.api_key_env": "embeddings.endpoint.api_key_env",
    "embeddings.max_concurrency": "embeddings.endpoint.max_concurrency",
    "embeddings.max_retries": "embeddings.endpoint.max_retries",
    "embeddings.backoff_s": "embeddings.endpoint.backoff_s",
    "embeddings.timeout_s": "embeddings.endpoint.timeout_s",
    "synth.base_url": "synth.endpoint.base_url",
    "synth.api_key_env": "synth.endpoint.api_key_env",
    "synth.max_concurrency": "synth.endpoint.max_concurrency",
    "synth.max_retries": "synth.endpoint.max_retries",
    "synth.backoff_s": "synth.endpoint.backoff_s",
    "synth.timeout_s": "synth.endpoint.timeout_s",
}
_PYDOCS = {"builtin:pydocs-away": "builtin:pydocs-out-of-domain"}
# key -> old value -> new value
RENAMED_VALUES = {
    "data.corpus": _PYDOCS,
    "data.sources.*.uri": _PYDOCS,
    "stages.*.sources.*.uri": _PYDOCS,
    "bench.collections": _PYDOCS,
    "bench.training_sources": _PYDOCS,
    "stages.*.batching": {"neighbours": "neighbors"},
    "inherit.queries": {"quantised": "quantized"},
}
# what other tools call a thing, and the keys that it may mean here
_LR = ("student.optimizer.lr", "stages.NAME.optimizer.lr")
_EPOCHS = ("student.num_epochs", "stages.NAME.num_steps")
_BATCH = ("student.tokens_per_batch", "stages.NAME.batch_size")
_LENGTH = ("data.max_document_tokens", "data.max_query_tokens")
_DEVICE = ("device",)
_PRECISION = ("precision",)
_FOLDER = ("checkpoints", "name")
_CORPUS = ("data.corpus",)
_TEACHER = ("teacher.source",)
_STUDENT = ("student.init",)
FAMILIAR: dict[str, tuple[str, ...]] = {
    "batch_size": _BATCH,
    "train_batch_size": _BATCH,
    "per_device_train_batch_size": _BATCH,
    "learning_rate": _LR,
    "lr": _LR,
    "epochs": _EPOCHS,
    "num_epochs": _EPOCHS,
    "num_train_epochs": _EPOCHS,
    "n_epochs": _EPOCHS,
    "max_steps": ("stages.NAME.num_steps",),
    "steps": ("stages.NAME.num_steps",),
    "warmup": ("student.optimizer.warmup_ratio", "stages.NAME.optimizer.warmup_ratio"),
    "warmup_steps": ("student.optimizer.warmup_ratio", "stages.NAME.optimizer.warmup_ratio"),
    "gradient_accumulation_steps": ("trainer.accumulate_grad_batches",),
    "accumulate": ("trainer.accumulate_grad_batches",),
    "report_to": ("trainer.loggers",),
    "logger": ("trainer.loggers",),
    "max_length": _LENGTH,
    "max_len": _LENGTH,
    "max_seq_length": _LENGTH,
    "max_tokens": _LENGTH,
    "max_seq_len": _LENGTH,
    "output": _FOLDER,
    "output_dir": _FOLDER,
    "out": _FOLDER,
    "save_dir": _FOLDER,
    "dataset": _CORPUS,
    "corpus": _CORPUS,
    "documents": _CORPUS,
    "docs": _CORPUS,
    "data_path": _CORPUS,
    "train_data": _CORPUS,
    "teacher": _TEACHER,
    "teacher_model": _TEACHER,
    "model": (*_TEACHER, *_STUDENT),
    "model_name": (*_TEACHER, *_STUDENT),
    "model_name_or_path": (*_TEACHER, *_STUDENT),
    "student": _STUDENT,
    "student_model": _STUDENT,
    "gpu": _DEVICE,
    "cuda": _DEVICE,
    "cpu": _DEVICE,
    "fp16": _PRECISION,
    "bf16": _PRECISION,
    "dtype": _PRECISION,
    "random_state": ("seed",),
    "random_seed": ("seed",),
    "overwrite": ("force",),
    "resume": ("force",),
    "temperature": ("stages.NAME.loss.temperature",),
    "pooling": ("stages.NAME.pooling",),
    "negatives": ("stages.NAME.mining.num_negatives",),
    "num_negatives": ("stages.NAME.mining.num_negatives",),
    "eval_data": ("bench.collections",),
    "matryoshka_dims": ("inherit.dims", "stages.NAME.loss.mrl_dims"),
    "dims": ("inherit.dims",),
    "prompt": ("teacher.query_prompt", "stages.NAME.query_template"),
    "query_prompt": ("teacher.query_prompt",),
}


def new_name(key: str) -> str | None:
    """Today's name of a key that was renamed; None for every other key.

    >>> new_name("stages.tune.spread_weight")
    'stages.tune.gor_weight'
    """
    parts = key.split(".")
    for old, new in RENAMED_KEYS.items():
        pattern = old.split(".")
        if _matches(parts, pattern):
            names = iter(p for p, q in zip(parts, pattern, strict=True) if q == "*")
            return ".".join(next(names) if part == "*" else part for part in new.split("."))
    return None


def old_value(key: str, value: Any) -> tuple[str, str] | None:
    """The first value at ``key`` that was renamed, with its new name.

    >>> old_value("inherit.queries", ["float", "quantised"])
    ('quantised', 'quantized')
    """
    for pattern, names in RENAMED_VALUES.items():
        if _matches(key.split("."), pattern.split(".")):
            for item in value if isinstance(value, list) else [value]:
                if item in names:
                    return item, names[item]
    return None


def with_new_names(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe that a manifest holds, with keys and values under today's names."""
    renamed: dict[str, Any] = {}
    _rename(plain, "", renamed)
    return renamed


def _rename(value: Mapping[str, Any], prefix: str, out: dict[str, Any]) -> None:
    for name, child in value.items():
        key = f"{prefix}{name}"
        if isinstance(child, Mapping) and child:
            _rename(child, f"{key}.", out)
            continue
        key = new_name(key) or key
        place, parts = out, key.split(".")
        for part in parts[:-1]:
            place = place.setdefault(part, {})
        place[parts[-1]] = _with_new_values(key, child)


def _with_new_values(key: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_with_new_values(key, item) for item in value]
    renamed = old_value(key, value)
    return renamed[1] if renamed else value


def _matches(parts: list[str], pattern: list[str]) -> bool:
    return len(parts) == len(pattern) and all(map(fnmatch.fnmatchcase, parts, pattern))


def familiar_keys(name: str) -> tuple[str, ...]:
    """The keys that another tool's name means; none where it is unknown. Dashes, capitals and the
    sections before it do not count.

    >>> familiar_keys("--learning-rate")
    ('student.optimizer.lr', 'stages.NAME.optimizer.lr')
    """
    return FAMILIAR.get(name.rpartition(".")[2].strip("-").replace("-", "_").lower(), ())
