"""Rules between the keys of a recipe, each in the user's words."""

from __future__ import annotations

import os
import re
import typing
from collections.abc import Collection
from dataclasses import fields, is_dataclass, replace
from typing import Any

from leafkit.config.effects import OF_A_RUN, has_effect, key_of
from leafkit.config.endpoint import EndpointConfig
from leafkit.config.evaluation import EMBEDDING_TASKS, BenchConfig
from leafkit.config.fields import hints_of, spec_of
from leafkit.config.recipe import Recipe
from leafkit.config.rules_stage import FOLDER_NAME, Problem, broken_stage_rules
from leafkit.config.rules_student import broken_student_rules
from leafkit.config.synth import SynthConfig
from leafkit.config.teacher import BLACK_BOXES, EmbedConfig
from leafkit.config.trainer import TrainerConfig
from leafkit.core.addresses.store import PRECISIONS_OF_STORES, parse_store
from leafkit.core.builtin_models.table import BUILTIN_NAMES, KIND, is_builtin
from leafkit.core.checkpoint_layout import (
    RECIPE_FOLDERS,
    SHARED_FOLDERS,
    is_taken_by_all,
    is_taken_in_recipe,
)
from leafkit.core.errors import UsageError
from leafkit.core.hosts import host_of, is_host

KEY_ENDINGS = ("_API_KEY", "_TOKEN")  # of variables that a recipe may send to an endpoint
ENGLISH_DOCUMENTATION = ("builtin:pydocs",)
MODEL_KINDS = ("recipe", "model", "vectors", "endpoint")


def broken_rules(recipe: Recipe) -> list[Problem]:
    """Every broken rule between keys, as ``(key, what is wrong)``."""
    return [
        *_check_names(recipe),
        *_check_stages(recipe),
        *_check_synth(recipe.synth),
        *_check_references(recipe),
        *_check_store(recipe.embed),
        *_check_hosts(recipe),
        *_check_packages(recipe),
        *_check_endpoint("synth.endpoint", recipe.synth.endpoint),
        *_check_endpoint("embeddings.endpoint", recipe.embeddings.endpoint),
        *_check_black_box(recipe),
        *_check_questions(recipe),
        *broken_student_rules(recipe.student),
        *_check_optimizers(recipe),
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
        if reference and not is_builtin(reference) and (kind not in MODEL_KINDS or not rest):
            allowed = (
                f"recipe:NAME, {BUILTIN_NAMES}, model:FOLDER_OR_HUB_ID@REVISION, vectors:FOLDER or "
                "endpoint:MODEL"
            )
            meant = f"; did you mean model:{reference}?" if kind == reference else ""
            problems.append((key, f"{reference!r} is not {allowed}{meant}"))
    for key, reference in {
        "student.init": recipe.student.init,
        **{f"stages.{name}.neighbor_model": s.neighbor_model for name, s in recipe.stages.items()},
    }.items():
        if reference.startswith(f"{KIND}:") and not is_builtin(reference):
            problems.append((key, f"unknown model {reference!r}: there are {BUILTIN_NAMES}"))
    source = recipe.teacher.source
    is_pinned = recipe.teacher.revision or "@" in source
    # its content is its identity
    is_folder = source.startswith("model:") and os.path.isdir(source.removeprefix("model:"))
    if recipe.teacher.trust_remote_code and not (is_pinned or is_folder):
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
    elif not config.api_key_env.endswith(KEY_ENDINGS):
        problems.append(
            (
                f"{section}.api_key_env",
                f"{config.api_key_env} does not end in {' or '.join(KEY_ENDINGS)}: variables of "
                "other names are not sent to endpoints; export the key under such a name",
            )
        )
    return problems


def _check_hosts(recipe: Recipe) -> list[Problem]:
    return [
        ("allow_hosts", f"{host!r} is no host: api.example.org, without http:// and port")
        for host in recipe.allow_hosts
        if not is_host(host)
    ]


def _check_packages(recipe: Recipe) -> list[Problem]:
    """A name with a slash or dots that lead upwards would read any folder."""
    named = {
        "data.packages": recipe.data.packages,
        "data.out_of_domain_packages": recipe.data.out_of_domain_packages,
    }
    return [
        (key, f"{name!r} is not the name of a package: numpy or scipy.sparse, say")
        for key, names in named.items()
        for name in names
        if not is_package_name(name)
    ]


def is_package_name(name: str) -> bool:
    """Whether a text names a package as an import statement would.

    >>> [is_package_name(name) for name in ("scipy.sparse", "numpy./etc", "..", "")]
    [True, False, False, False]
    """
    return all(part.isidentifier() for part in name.split("."))


def _check_black_box(recipe: Recipe) -> list[Problem]:
    """Keys of teachers that are endpoints or vectors, set for one that knows better itself: they
    would do nothing.
    """
    teacher, problems = recipe.teacher, []
    pair = (teacher.source, recipe.bench.student)
    for key in ("query_prompt", "document_prompt"):
        places = [p for p in ("{instruction}", "{query}") if p in getattr(teacher, key)]
        if places:
            what = f"holds {places[0]}, which nothing fills here: it is put before a text as it is"
            problems.append((f"teacher.{key}", what))
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
    if teacher.overrides and not teacher.source.startswith("recipe:"):
        problems.append(
            ("teacher.overrides", "is for recipe:NAME: no other teacher has a recipe to change")
        )
    # nor can a recipe file allow another recipe what it cannot allow itself
    problems += [
        (
            "teacher.overrides",
            f"{word!r} is no setting of a teacher's training: data., stages., trainer. or seed",
        )
        for word in teacher.overrides
        if "=" not in word or not has_effect("teach", key_of(word)) or key_of(word) in OF_A_RUN
    ]
    # a rescue's recipe names no teacher: its vectors are those of the command line's source
    is_told = not teacher.source or teacher.source.startswith(BLACK_BOXES)
    if teacher.mrl_dims and not is_told:
        problems.append(
            (
                "teacher.mrl_dims",
                "is for vectors: and endpoint: teachers; inherit.dims says what is measured",
            )
        )
    return problems


def _check_questions(recipe: Recipe) -> list[Problem]:
    """Queries become questions by what English imperatives look like; anything else would train on
    sentences that nobody writes.
    """
    corpus = recipe.data.corpus
    sources = {
        "student": (recipe.student.question_ratio, [corpus]),
        **{
            f"stages.{name}": (
                stage.question_ratio,
                [source.uri for source in stage.sources.values()] or [corpus],
            )
            for name, stage in recipe.stages.items()
        },
    }
    return [
        (
            f"{key}.question_ratio",
            f"{ratio:g} rewrites queries by the rules of English documentation, and {uri} is none "
            "of leafkit's own: set it to 0 (recipe=own-data does, for your own documents)",
        )
        for key, (ratio, uris) in sources.items()
        for uri in uris
        if ratio > 0 and uri and not uri.startswith(ENGLISH_DOCUMENTATION)
    ]


def _check_optimizers(recipe: Recipe) -> list[Problem]:
    optimizers = {
        "student": recipe.student.optimizer,
        **{f"stages.{name}": stage.optimizer for name, stage in recipe.stages.items()},
    }
    return [
        (
            f"{key}.optimizer.warmup_ratio",
            f"{found.warmup_ratio:g} of all steps is more than the first of {found.num_cycles} "
            "cycles: the learning rate would never get to its peak there",
        )
        for key, found in optimizers.items()
        if 1 < found.warmup_ratio * found.num_cycles <= found.num_cycles
    ]


def _check_store(embed: EmbedConfig) -> list[Problem]:
    if not embed.to:
        return []
    try:
        address = parse_store(embed.to)
    except UsageError as err:
        return [("embed.to", f"{err}: {err.hint}")]
    known = PRECISIONS_OF_STORES[address.kind]
    if embed.to_precision in known:
        return []
    what = f"{embed.to_precision}: {address.kind} has {', '.join(known)}"
    return [("embed.to_precision", what)]


def _check_tasks(bench: BenchConfig) -> list[Problem]:
    kinds = ", ".join(f"{name}:PATH" for name in EMBEDDING_TASKS)
    return [
        ("bench.tasks", f"{task!r} is not {kinds}")
        for task in bench.tasks
        if task.partition(":")[0] not in EMBEDDING_TASKS or not task.partition(":")[2]
    ]


def is_consent(path: tuple[str, ...]) -> bool:
    """Whether the key at ``path``, which exists, is for the command line alone."""
    section: Any = Recipe
    for part in path[:-1]:
        hints = hints_of(section) if is_dataclass(section) else {}
        section = hints[part] if hints else typing.get_args(section)[1]
    return is_dataclass(section) and any(
        f.name == path[-1] and spec_of(f).is_consent for f in fields(section)
    )


def with_own_hosts(recipe: Recipe, own: Collection[str]) -> Recipe:
    """The recipe with the hosts of its user's own addresses allowed: who writes one on the command
    line means it.

    Args:
        recipe: as it was read.
        own: keys that the command line gave.
    """
    addresses = {
        "synth.endpoint.base_url": recipe.synth.endpoint.base_url,
        "embeddings.endpoint.base_url": recipe.embeddings.endpoint.base_url,
    }
    hosts = {host_of(url) for key, url in addresses.items() if key in own}
    return replace(recipe, allow_hosts=sorted({*recipe.allow_hosts, *hosts} - {""}))
