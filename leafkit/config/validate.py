"""What a recipe may say: ranges of single values and rules between them, each in the user's words."""

from __future__ import annotations

import math
import re
from dataclasses import fields, is_dataclass
from typing import Any

from leafkit.config.schema import (
    ATTENTIONS,
    BAD_ROW_POLICIES,
    BATCHINGS,
    DEVICES,
    EMBEDDING_TASKS,
    IN_BATCH,
    INDEX_KINDS,
    LABEL_TASKS,
    OWN_DOCUMENT_POLICIES,
    POOLING_CHOICES,
    PRECISIONS,
    PROMPT_SIDES,
    QUERY_FORMS,
    QUERY_SPLITS,
    SHORTFALLS,
    SOFT_KINDS,
    STUDENT_KINDS,
    SYNTH_LANGUAGES,
    SYNTH_TASKS,
    TASKS,
    VECTOR_PRECISIONS,
    BenchConfig,
    EmbeddingsConfig,
    InheritConfig,
    MiningConfig,
    Recipe,
    StageConfig,
    SynthConfig,
)
from leafkit.core.checkpoint_layout import (
    RECIPE_FOLDERS,
    SHARED_FOLDERS,
    is_taken_by_all,
    is_taken_in_recipe,
)

_FOLDER_NAME = r"[A-Za-z0-9][\w.-]*"
_ROLES = ("query", "document")
MODEL_KINDS = ("recipe", "model", "vectors", "endpoint")
_POSITIVE = frozenset(
    "num_steps batch_size tokens_per_batch max_texts_per_batch lr max_grad_norm num_epochs "
    "query_repeats"
    " max_query_tokens max_document_tokens num_resamples num_neighbors num_ridge_texts ridge "
    "anchor_batch_size"
    " temperature beta alpha last_rank num_rows num_instructions rows_per_instruction "
    "max_output_tokens max_concurrency"
    " timeout_s backoff_s texts_per_request hnsw_links overlap_words width document_epochs "
    "query_epochs query_lr"
    " texts_per_batch".split()
)
_NOT_NEGATIVE = frozenset(
    "limit max_bad_rows weight_decay anchor_weight num_pseudo_texts max_train_queries"
    " num_latency_queries num_samples hidden_size intermediate_size"
    " false_negative_margin seed weight num_negatives first_rank min_margin filter_rank "
    "num_pairwise num_listwise"
    " contrastive_weight focal_gamma gor_weight chunk_tokens num_examples rank max_retries "
    "max_cost"
    " price_per_million_input_tokens price_per_million_output_tokens"
    " dimensions num_lists code_bytes int8_range pq_bytes".split()
)
_SHARE = frozenset(
    (
        "warmup_ratio wise_ft_alpha final_lr_ratio question_ratio max_positive_share "
        "same_task_ratio target_recall"
    ).split()
)
_CHOICES = {
    "on_bad_row": BAD_ROW_POLICIES,
    "exclude_self": OWN_DOCUMENT_POLICIES,
    "device": DEVICES,
    "precision": PRECISIONS,
    "batching": BATCHINGS,
    "split": QUERY_SPLITS,
    "task": TASKS,
    "prompt_on": PROMPT_SIDES,
    "in_batch": IN_BATCH,
    "on_shortfall": SHORTFALLS,
    "attention": ATTENTIONS,
    "pooling": POOLING_CHOICES,
}


def _check_value(path: str, name: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, float) and not math.isfinite(value):
        return [(path, f"{value} is not a finite number")]
    if name in _POSITIVE and not value > 0:
        return [(path, f"{value} is not above 0")]
    if name in _NOT_NEGATIVE and value < 0:
        return [(path, f"{value} is below 0")]
    if name in _SHARE and not 0 <= value <= 1:
        return [(path, f"{value} is not between 0 and 1")]
    if name in _CHOICES and value not in _CHOICES[name]:
        return [(path, f"{value!r} is not one of {', '.join(_CHOICES[name])}")]
    return []


def _check_names(key: str, values: list[str], known: tuple[str, ...]) -> list[tuple[str, str]]:
    return [
        (key, f"{value!r} is not one of {', '.join(known)}")
        for value in values
        if value not in known
    ]


def _check_model(
    key: str, reference: str, earlier: list[str], words: tuple[str, ...] = ()
) -> list[tuple[str, str]]:
    """A reference to a model: builtin:minilm, an earlier stage, a folder or hub id, or one of
    ``words``.
    """
    kind, _, rest = reference.partition(":")
    if reference in words or reference == "builtin:minilm" or (kind in {"model", "tiny"} and rest):
        return []
    if kind == "stage" and rest in earlier:
        return []
    if kind == "stage":
        return [
            (
                key,
                f"{reference!r} names no earlier stage (earlier stages: "
                f"{', '.join(earlier) or 'none'})",
            )
        ]
    allowed = ", ".join([*words, "builtin:minilm", "stage:NAME"])
    return [(key, f"{reference!r} is not {allowed} or model:FOLDER_OR_HUB_ID@REVISION")]


def _check_stage(path: str, stage: StageConfig, earlier: list[str]) -> list[tuple[str, str]]:
    problems = _check_model(f"{path}.init", stage.init, earlier)
    if not stage.query_template.endswith("{query}"):
        problems.append(
            (f"{path}.query_template", "does not end with {query}: a prompt is put before the text")
        )
    if stage.num_examples and not {"{query}", "{document}"} <= set(
        re.findall(r"{\w+}", stage.example_template)
    ):
        problems.append((f"{path}.example_template", "shows no {query} with its {document}"))
    if len(stage.mrl_dims) != len(stage.mrl_weights):
        problems.append(
            (
                f"{path}.mrl_weights",
                f"{len(stage.mrl_weights)} weights for {len(stage.mrl_dims)} dimensions in "
                f"mrl_dims",
            )
        )
    if any(weight < 0 for weight in stage.mrl_weights):
        problems.append((f"{path}.mrl_weights", f"{stage.mrl_weights} has a weight below 0"))
    if sorted(set(stage.mrl_dims), reverse=True) != stage.mrl_dims or any(
        d < 1 for d in stage.mrl_dims
    ):
        problems.append(
            (f"{path}.mrl_dims", f"{stage.mrl_dims} is not a falling list of positive dimensions")
        )
    if stage.lora.rank and stage.hidden_size:
        problems.append(
            (
                f"{path}.lora.rank",
                "a model that grows trains all its weights: set hidden_size or lora.rank to 0",
            )
        )
    for name, source in stage.sources.items():
        if not re.fullmatch(_FOLDER_NAME, name) or name in _ROLES:
            problems.append(
                (
                    f"{path}.sources.{name}",
                    f"{name!r} cannot name a source ({', '.join(_ROLES)} are taken)",
                )
            )
        if not source.uri:
            problems.append((f"{path}.sources.{name}.uri", "is missing"))
        if source.task in LABEL_TASKS and source.in_batch == "use":
            problems.append(
                (
                    f"{path}.sources.{name}.in_batch",
                    "rows of the same label are false negatives: auto or none",
                )
            )
        if source.task in LABEL_TASKS and not stage.mining.num_negatives:
            problems.append(
                (
                    f"{path}.mining.num_negatives",
                    f"0 leaves {name} no negative: rows of labels take none in-batch",
                )
            )
    if stage.sources and not any(source.weight > 0 for source in stage.sources.values()):
        problems.append((f"{path}.sources", "every source has weight 0"))
    problems += _check_mining(f"{path}.mining", stage.mining, earlier)
    problems += _check_signals(path, stage, earlier)
    return problems


def _check_mining(path: str, mining: MiningConfig, earlier: list[str]) -> list[tuple[str, str]]:
    problems = []
    if mining.model:
        problems += _check_model(f"{path}.model", mining.model, earlier, ("start",))
    if mining.first_rank >= mining.last_rank:
        problems.append(
            (f"{path}.last_rank", f"{mining.last_rank} is not above first_rank={mining.first_rank}")
        )
    elif mining.last_rank - mining.first_rank < mining.num_negatives:
        window = mining.last_rank - mining.first_rank
        problems.append(
            (
                f"{path}.num_negatives",
                f"{mining.num_negatives} do not fit into a window of {window} ranks",
            )
        )
    if max(mining.num_negatives, mining.filter_rank) > 0 and not mining.model:
        problems.append(
            (
                f"{path}.model",
                "is missing: num_negatives and filter_rank need a model that searches",
            )
        )
    if mining.model and not (mining.num_negatives or mining.filter_rank):
        problems.append((f"{path}.model", "searches for nothing: set num_negatives or filter_rank"))
    return problems


def _check_signals(path: str, stage: StageConfig, earlier: list[str]) -> list[tuple[str, str]]:
    problems = []
    # a source's rows may bring their own
    has_negatives = bool(stage.mining.num_negatives or stage.sources)
    for key, count in (
        ("num_pairwise", stage.mixing.num_pairwise),
        ("num_listwise", stage.mixing.num_listwise),
    ):
        if count > 0 and not has_negatives:
            problems.append(
                (f"{path}.mixing.{key}", "there is nothing to mix: mining.num_negatives is 0")
            )
    problems += _check_names(f"{path}.soft.kind", [stage.soft.kind], SOFT_KINDS)
    if stage.soft.query_template and not stage.soft.query_template.endswith("{query}"):
        problems.append(
            (
                f"{path}.soft.query_template",
                "does not end with {query}: a prompt is put before the text",
            )
        )
    for reference in stage.soft.models:
        problems += _check_model(f"{path}.soft.models", reference, earlier, ("rows", "bm25"))
    if stage.soft.models and not has_negatives:
        problems.append(
            (f"{path}.soft.models", "there are no candidates to score: mining.num_negatives is 0")
        )
    if "rows" in stage.soft.models and len(stage.soft.models) > 1:
        problems.append(
            (f"{path}.soft.models", "rows bring their own scores: no other model beside them")
        )
    if stage.soft.contrastive_weight == 0 and not stage.soft.models:
        problems.append(
            (
                f"{path}.soft.contrastive_weight",
                "0 leaves nothing to train on: soft.models is empty",
            )
        )
    soup = stage.soup
    for reference in soup.members:
        problems += _check_model(f"{path}.soup.members", reference, earlier)
    if soup.members and len(soup.members) < 2:
        problems.append((f"{path}.soup.members", "an average needs at least two members"))
    if soup.weights and len(soup.weights) != len(soup.members):
        problems.append(
            (f"{path}.soup.weights", f"{len(soup.weights)} weights for {len(soup.members)} members")
        )
    if soup.weights and (min(soup.weights) < 0 or abs(sum(soup.weights) - 1) > 1e-6):
        problems.append((f"{path}.soup.weights", f"{soup.weights} are not shares that sum to 1"))
    return problems


def _check_synth(synth: SynthConfig) -> list[tuple[str, str]]:
    problems = []
    for key, values, known in (
        ("tasks", synth.tasks, SYNTH_TASKS),
        ("languages", synth.languages, SYNTH_LANGUAGES),
    ):
        problems += [
            (f"synth.{key}", f"{value!r} is not one of {', '.join(known)}")
            for value in values
            if value not in known
        ]
        if not values:
            problems.append((f"synth.{key}", f"is empty: name some of {', '.join(known)}"))
    if "bitext" in synth.tasks and len(set(synth.languages)) < 2:
        problems.append(
            (
                "synth.tasks",
                "bitext needs two languages: add one to synth.languages, or leave bitext out",
            )
        )
    return problems


def _check_endpoint(section: str, config: SynthConfig | EmbeddingsConfig) -> list[tuple[str, str]]:
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
                "the key itself goes into that"
                " variable and never into a recipe",
            )
        )
    return problems


def _check_black_box(recipe: Recipe) -> list[tuple[str, str]]:
    """Keys of teachers that are endpoints or vectors, set for one that knows better itself: they
    would do nothing.
    """
    teacher, problems = recipe.teacher, []
    pair = (teacher.source, recipe.bench.student)
    for key in ("query_prompt", "document_prompt"):
        if getattr(teacher, key) and not any(
            reference.startswith("endpoint:") for reference in pair
        ):
            problems.append(
                (
                    f"teacher.{key}",
                    "is for endpoint:MODEL: models on disk and vectors know their own prompts",
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


def _check_bench(bench: BenchConfig) -> list[tuple[str, str]]:
    indexes = bench.indexes
    problems = _check_names("bench.indexes.kinds", indexes.kinds, INDEX_KINDS)
    for task in bench.tasks:
        kind, _, path = task.partition(":")
        if kind not in EMBEDDING_TASKS or not path:
            problems.append(
                (
                    "bench.tasks",
                    f"{task!r} is not {', '.join(f'{name}:PATH' for name in EMBEDDING_TASKS)}",
                )
            )
    sweeps = {
        "ef_search": indexes.ef_search,
        "num_probes": indexes.num_probes,
        "rescore_factors": indexes.rescore_factors,
    }
    problems += [
        (f"bench.indexes.{key}", f"{values} is not a list of positive numbers, smallest first")
        for key, values in sweeps.items()
        if not values or values != sorted(set(values)) or values[0] < 1
    ]
    return problems


def _check_inherit(inherit: InheritConfig) -> list[tuple[str, str]]:
    problems = _check_names("inherit.precisions", inherit.precisions, VECTOR_PRECISIONS)
    problems += _check_names("inherit.queries", inherit.queries, QUERY_FORMS)
    for name, value in inherit.max_gap.items():
        problems += _check_names(f"inherit.max_gap.{name}", [name], VECTOR_PRECISIONS)
        if not 0 <= value <= 1:
            problems.append((f"inherit.max_gap.{name}", f"{value} is not between 0 and 1"))
    for key, numbers, least in (
        ("rescoring", inherit.rescoring, 0),
        ("dims", inherit.dims, 1),
        ("ranks", inherit.ranks, 1),
    ):
        problems += [
            (f"inherit.{key}", f"{number} is below {least}") for number in numbers if number < least
        ]
    for key, values in (
        ("precisions", inherit.precisions),
        ("queries", inherit.queries),
        ("rescoring", inherit.rescoring),
    ):
        if not values:
            problems.append((f"inherit.{key}", "is empty: there is nothing to measure"))
    return problems


def find_problems(recipe: Recipe) -> list[tuple[str, str]]:
    """Every value out of range and every broken rule between fields, as ``(key, what is wrong)``."""
    problems: list[tuple[str, str]] = []

    def walk(value: Any, path: str) -> None:
        children = (
            {f.name: getattr(value, f.name) for f in fields(value)}.items()
            if is_dataclass(value)
            else value.items()
        )
        for name, child in children:
            child_path = f"{path}.{name}" if path else str(name)
            if is_dataclass(child) or (
                isinstance(child, dict) and any(is_dataclass(c) for c in child.values())
            ):
                walk(child, child_path)
            else:
                problems.extend(_check_value(child_path, str(name), child))

    walk(recipe, "")
    earlier: list[str] = []
    for name, stage in recipe.stages.items():
        if not re.fullmatch(_FOLDER_NAME, name) or is_taken_in_recipe(name):
            taken = ", ".join((*RECIPE_FOLDERS, *SHARED_FOLDERS, "index-KIND"))
            problems.append(
                (f"stages.{name}", f"{name!r} cannot name a stage's folder ({taken} are taken)")
            )
        problems.extend(_check_stage(f"stages.{name}", stage, earlier))
        earlier.append(name)
    if not re.fullmatch(_FOLDER_NAME, recipe.name):
        problems.append(
            ("name", f"{recipe.name!r} is not a folder name: letters, digits, '.', '_' and '-'")
        )
    elif is_taken_by_all(recipe.name):
        problems.append(
            (
                "name",
                f"{recipe.name!r} is taken: recipes share the folders {', '.join(SHARED_FOLDERS)} "
                f"beside their own",
            )
        )
    problems += _check_synth(recipe.synth)
    references = {"teacher.source": recipe.teacher.source, "bench.student": recipe.bench.student}
    for key, reference in (references | {"bench.baseline": recipe.bench.baseline}).items():
        kind, _, rest = reference.partition(":")
        if reference and reference != "builtin:minilm" and (kind not in MODEL_KINDS or not rest):
            allowed = (
                "recipe:NAME, builtin:minilm, model:FOLDER_OR_HUB_ID@REVISION, vectors:FOLDER or "
                "endpoint:MODEL"
            )
            problems.append((key, f"{reference!r} is not {allowed}"))
    problems += _check_endpoint("synth", recipe.synth) + _check_endpoint(
        "embeddings", recipe.embeddings
    )
    problems += _check_black_box(recipe)
    if recipe.teacher.trust_remote_code and not recipe.teacher.revision:
        problems.append(
            (
                "teacher.trust_remote_code",
                "needs teacher.revision, a 40-hex commit: unpinned code could change",
            )
        )
    problems += _check_names("student.kind", [recipe.student.kind], STUDENT_KINDS)
    problems += _check_bench(recipe.bench) + _check_inherit(recipe.inherit)
    return problems
