"""Rules between the keys of a recipe, each in the user's words."""

from __future__ import annotations

import re

from leafkit.config.endpoint import EndpointConfig
from leafkit.config.evaluation import EMBEDDING_TASKS, BenchConfig
from leafkit.config.recipe import Recipe
from leafkit.config.rules_stage import FOLDER_NAME, Problem, broken_stage_rules
from leafkit.config.synth import SynthConfig
from leafkit.config.trainer import TrainerConfig
from leafkit.core.checkpoint_layout import (
    RECIPE_FOLDERS,
    SHARED_FOLDERS,
    is_taken_by_all,
    is_taken_in_recipe,
)

MODEL_KINDS = ("recipe", "model", "vectors", "endpoint")


def broken_rules(recipe: Recipe) -> list[Problem]:
    """Every broken rule between keys, as ``(key, what is wrong)``."""
    return [
        *_check_names(recipe),
        *_check_stages(recipe),
        *_check_synth(recipe.synth),
        *_check_references(recipe),
        *_check_endpoint("synth.endpoint", recipe.synth.endpoint),
        *_check_endpoint("embeddings.endpoint", recipe.embeddings.endpoint),
        *_check_black_box(recipe),
        *_check_tasks(recipe.bench),
        *_check_trainer(recipe.trainer),
    ]


def _check_names(recipe: Recipe) -> list[Problem]:
    """The recipe's name is a folder beside those that recipes share."""
    if not re.fullmatch(FOLDER_NAME, recipe.name):
        return [
            ("name", f"{recipe.name!r} is not a folder name: letters, digits, '.', '_' and '-'")
        ]
    if is_taken_by_all(recipe.name):
        taken = ", ".join(SHARED_FOLDERS)
        return [
            (
                "name",
                f"{recipe.name!r} is taken: recipes share the folders {taken} beside their own",
            )
        ]
    return []


def _check_stages(recipe: Recipe) -> list[Problem]:
    problems: list[Problem] = []
    earlier: list[str] = []
    for name, stage in recipe.stages.items():
        if not re.fullmatch(FOLDER_NAME, name) or is_taken_in_recipe(name):
            taken = ", ".join((*RECIPE_FOLDERS, *SHARED_FOLDERS, "index-KIND"))
            problems.append(
                (f"stages.{name}", f"{name!r} cannot name a stage's folder ({taken} are taken)")
            )
        problems += broken_stage_rules(f"stages.{name}", stage, earlier)
        earlier.append(name)
    return problems


def _check_trainer(trainer: TrainerConfig) -> list[Problem]:
    if trainer.callbacks and not trainer.loggers:
        return [
            (
                "trainer.callbacks",
                f"{', '.join(trainer.callbacks)} would measure for nobody: name trainer.loggers, "
                "csv say",
            )
        ]
    return []


def _check_synth(synth: SynthConfig) -> list[Problem]:
    if "bitext" in synth.tasks and len(set(synth.languages)) < 2:
        return [
            (
                "synth.tasks",
                "bitext needs two languages: add one to synth.languages, or leave bitext out",
            )
        ]
    return []


def _check_references(recipe: Recipe) -> list[Problem]:
    """What names a whole model, and the code that may come with one."""
    problems = []
    references = {
        "teacher.source": recipe.teacher.source,
        "bench.student": recipe.bench.student,
        "bench.baseline": recipe.bench.baseline,
    }
    for key, reference in references.items():
        kind, _, rest = reference.partition(":")
        if reference and reference != "builtin:minilm" and (kind not in MODEL_KINDS or not rest):
            allowed = (
                "recipe:NAME, builtin:minilm, model:FOLDER_OR_HUB_ID@REVISION, vectors:FOLDER or "
                "endpoint:MODEL"
            )
            problems.append((key, f"{reference!r} is not {allowed}"))
    if recipe.teacher.trust_remote_code and not recipe.teacher.revision:
        problems.append(
            (
                "teacher.trust_remote_code",
                "needs teacher.revision, a 40-hex commit: unpinned code could change",
            )
        )
    return problems


def _check_endpoint(section: str, config: EndpointConfig) -> list[Problem]:
    """What may hold a secret; every artifact's manifest and every report holds the recipe, so the
    value is not shown.
    """
    problems = []
    if set(config.base_url) & set("@?#"):
        problems.append(
            (
                f"{section}.base_url",
                "may hold a password or a key: a recipe never does, put this address into "
                "OPENAI_BASE_URL",
            )
        )
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", config.api_key_env):
        problems.append(
            (
                f"{section}.api_key_env",
                "is not the name of an environment variable, in capitals: OPENAI_API_KEY, say; "
                "the key itself goes into that variable and never into a recipe",
            )
        )
    return problems


def _check_black_box(recipe: Recipe) -> list[Problem]:
    """Keys of teachers that are endpoints or vectors, set for one that knows better itself: they
    would do nothing.
    """
    teacher, problems = recipe.teacher, []
    pair = (teacher.source, recipe.bench.student)
    for key in ("query_prompt", "document_prompt"):
        if getattr(teacher, key) and not any(
            reference.startswith(("endpoint:", "model:", "builtin:")) for reference in pair
        ):
            problems.append(
                (
                    f"teacher.{key}",
                    "is for endpoint:, model: and builtin: models: what a recipe trained and "
                    "vectors know their own prompts",
                )
            )
    if teacher.mrl_dims and not teacher.source.startswith(("endpoint:", "vectors:")):
        problems.append(
            (
                "teacher.mrl_dims",
                "is for vectors: and endpoint: teachers; inherit.dims says what is measured",
            )
        )
    return problems


def _check_tasks(bench: BenchConfig) -> list[Problem]:
    kinds = ", ".join(f"{name}:PATH" for name in EMBEDDING_TASKS)
    return [
        ("bench.tasks", f"{task!r} is not {kinds}")
        for task in bench.tasks
        if task.partition(":")[0] not in EMBEDDING_TASKS or not task.partition(":")[2]
    ]
