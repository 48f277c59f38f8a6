"""With which other keys a key of the recipe counts: what it is useless without."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from leafkit.config.recipe import Recipe
from leafkit.config.student import SCORE_TERMS, StudentConfig, StudentLosses

OF_STUDENT = ("bench.student", "bench.same_space")


@dataclass(frozen=True, slots=True)
class _Condition:
    """Keys that count only where another key has a certain value."""

    keys: tuple[str, ...]
    holds: Callable[[Recipe, str], bool]  # of the recipe and the stage that the key names
    needs: str
    command: str = ""  # the only one in which it is so; "" is every command
    but: str = ""  # a command in which the keys count without it


def _stage(test: Callable[..., bool]) -> Callable[[Recipe, str], bool]:
    """A test of the stage that a key names; a stage that is not there has been refused before."""
    return lambda recipe, name: name not in recipe.stages or test(recipe.stages[name])


def _reads(uri: str) -> Callable[[Recipe, str], bool]:
    return lambda recipe, _: uri in _uris(recipe)


def _uris(recipe: Recipe) -> list[str]:
    """Every source of texts that the recipe names."""
    return [
        recipe.data.corpus,
        *recipe.bench.collections,
        *recipe.bench.training_sources,
        *(source.uri for source in recipe.data.sources.values()),
        *(source.uri for stage in recipe.stages.values() for source in stage.sources.values()),
    ]


def _asks_endpoint(recipe: Recipe, _: str) -> bool:
    references = (recipe.teacher.source, recipe.bench.student, recipe.bench.baseline)
    return any(reference.startswith("endpoint:") for reference in references)


def _scores(losses: StudentLosses) -> bool:
    return any(getattr(losses, term) for term in SCORE_TERMS)


def _has_softmax(student: StudentConfig) -> bool:
    """Whether something divides scores by the candidates' temperature."""
    losses = student.losses
    fits_head = student.head_steps > 0 and student.head != "none"
    return fits_head or any((losses.score_kl, losses.ranking, losses.contrastive))


def _diagnoses(recipe: Recipe, _: str) -> bool:
    return recipe.inherit.diagnose


_STEPS = (
    "student.kind=transformer or static, and student.minutes other than 0: an instant student "
    "takes no steps"
)
_CONDITIONS = (
    _Condition(("student.[!d]*", "inherit.ranks"), _diagnoses, "inherit.diagnose=true", "inherit"),
    _Condition(
        (
            *OF_STUDENT,
            "inherit.queries",
            "inherit.rescoring",
            "inherit.max_gap.*",
            "inherit.strict",
        ),
        lambda recipe, _: not recipe.inherit.diagnose,
        "inherit.diagnose=false: a diagnosis examines the teacher alone",
        "inherit",
    ),
    _Condition(("data.packages",), _reads("builtin:pydocs"), "a source builtin:pydocs"),
    _Condition(
        ("data.out_of_domain_packages",),
        _reads("builtin:pydocs-out-of-domain"),
        "a source builtin:pydocs-out-of-domain",
    ),
    _Condition(
        ("data.max_bad_rows",),
        lambda recipe, _: recipe.data.on_bad_row == "skip",
        "data.on_bad_row=skip",
    ),
    _Condition(("embeddings.*",), _asks_endpoint, "a model endpoint:MODEL"),
    _Condition(
        ("data.made_query_vectors",),
        lambda recipe, _: recipe.data.num_made_queries > 0,
        "data.num_made_queries of one at least",
    ),
    _Condition(
        ("embed.num_workers",),
        lambda recipe, _: recipe.embed.engine == "ray",
        "embed.engine=ray",
    ),
    _Condition(("embed.to_precision",), lambda recipe, _: bool(recipe.embed.to), "embed.to"),
    _Condition(
        ("student.static.*",),
        lambda recipe, _: recipe.student.kind == "static",
        "student.kind=static",
        but="predict",  # which probes a static student beside others
    ),
    _Condition(
        (
            "student.tokens_per_batch",
            "student.max_texts_per_batch",
            "student.num_epochs",
            "student.ema",
            "student.optimizer.lr",
            "student.losses.*",
        ),
        lambda recipe, _: recipe.student.kind == "transformer" and recipe.student.minutes != 0,
        "student.kind=transformer and student.minutes other than 0; an instant student takes no "
        "steps, and student.static has keys of its own",
    ),
    _Condition(
        ("student.minutes",),
        lambda recipe, _: recipe.student.kind == "transformer",
        "student.kind=transformer",
    ),
    _Condition(
        ("student.num_epochs",),
        lambda recipe, _: recipe.student.kind != "transformer" or recipe.student.minutes < 0,
        "student.minutes=-1: a time budget takes as many passes as fit",
    ),
    _Condition(
        ("student.num_checks", "student.enough_overlap", "student.patience"),
        lambda recipe, _: not recipe.student.trains_nothing,
        _STEPS,
    ),
    _Condition(
        ("student.enough_overlap", "student.patience"),
        lambda recipe, _: recipe.student.num_checks > 0,
        "student.num_checks of one at least",
    ),
    _Condition(
        ("student.num_held_out",),
        lambda recipe, _: recipe.student.kind != "static" or recipe.student.num_checks > 0,
        "student.num_checks of one at least",
    ),
    _Condition(
        (
            "student.ridge",
            "student.fit_to",
            "student.head",
            "student.head_layers",
            "student.token_table",
            "student.token_units",
            "student.head_bias",
        ),
        lambda recipe, _: recipe.student.kind != "static",
        "student.kind=transformer or instant",
    ),
    _Condition(
        (
            "student.ridge",
            "student.fit_to",
            "student.head_layers",
            "student.token_table",
            "student.token_units",
            "student.head_bias",
            "student.head_steps",
        ),
        lambda recipe, _: recipe.student.head != "none",
        "student.head=linear or two_layer",
    ),
    _Condition(
        ("student.head_hidden",),
        lambda recipe, _: recipe.student.kind != "static" and recipe.student.head == "two_layer",
        "student.head=two_layer, and student.kind=transformer or instant",
    ),
    _Condition(
        ("student.optimizer.*", "student.query_repeats"),
        lambda recipe, _: not recipe.student.trains_nothing,
        _STEPS,
        but="predict",
    ),
    _Condition(
        ("student.head_steps",),
        lambda recipe, _: (
            recipe.student.kind != "static"
            and (recipe.student.trains_nothing or _scores(recipe.student.losses))
        ),
        "student.kind=instant, or a weight of a term over scores, student.losses.score_kl=1 say",
    ),
    _Condition(
        ("student.start_weight",),
        lambda recipe, _: (
            recipe.student.kind != "static"
            and (
                recipe.student.head_steps > 0
                if recipe.student.trains_nothing
                else _scores(recipe.student.losses)
            )
        ),
        "a term over scores, student.losses.score_kl=1 say, or student.kind=instant with "
        "student.head_steps",
    ),
    _Condition(
        ("student.losses.candidates.*",),
        lambda recipe, _: _scores(recipe.student.losses),
        "a weight of a term over scores, student.losses.score_kl=1 say",
    ),
    _Condition(
        ("student.losses.candidates.temperature",),
        lambda recipe, _: _has_softmax(recipe.student),
        "student.losses.score_kl, ranking or contrastive, or student.head_steps beside another "
        "term over scores",
    ),
    _Condition(
        ("student.losses.candidates.margin",),
        lambda recipe, _: recipe.student.losses.triplet > 0,
        "student.losses.triplet",
    ),
    *(
        _Condition(
            ("trainer.*",),
            lambda recipe, _: not recipe.student.trains_nothing,
            _STEPS,
            command,
        )
        for command in ("distill", "rescue")
    ),
    _Condition(
        ("bench.indexes.[!k]*",),
        lambda recipe, _: bool(recipe.bench.indexes.kinds),
        "indexes.kinds",
        but="predict",  # which links a graph whatever is benched
    ),
    _Condition(
        ("inherit.int8_range",),
        lambda recipe, _: "int8_fixed" in recipe.inherit.precisions,
        "int8_fixed among inherit.precisions",
    ),
    _Condition(
        ("inherit.pq_bytes",),
        lambda recipe, _: "pq" in recipe.inherit.precisions,
        "pq among inherit.precisions",
    ),
    _Condition(
        ("stages.*.lora.alpha", "stages.*.lora.targets"),
        _stage(lambda stage: stage.lora.rank > 0),
        "lora.rank",
    ),
    _Condition(
        ("stages.*.mining.[!m]*", "stages.*.mining.max_*", "stages.*.mining.min_*"),
        _stage(lambda stage: bool(stage.mining.model)),
        "mining.model",
    ),
    _Condition(
        ("stages.*.soup.[!m]*",), _stage(lambda stage: bool(stage.soup.members)), "soup.members"
    ),
    _Condition(
        ("stages.*.soft_labels.[!m]*",),
        _stage(lambda stage: bool(stage.soft_labels.models)),
        "soft_labels.models",
    ),
    _Condition(
        ("stages.*.mixing.beta",),
        _stage(lambda stage: stage.mixing.num_pairwise > 0),
        "mixing.num_pairwise",
    ),
    _Condition(
        ("stages.*.mixing.temperature",),
        _stage(lambda stage: stage.mixing.num_listwise > 0),
        "mixing.num_listwise",
    ),
    _Condition(
        ("stages.*.anchor_batch_size",),
        _stage(lambda stage: stage.loss.anchor_weight > 0),
        "loss.anchor_weight",
    ),
    _Condition(
        ("stages.*.neighbor_model", "stages.*.num_neighbors"),
        _stage(lambda stage: stage.batching == "neighbors"),
        "batching=neighbors",
    ),
    _Condition(
        ("stages.*.intermediate_size",),
        _stage(lambda stage: stage.hidden_size > 0),
        "hidden_size",
    ),
    _Condition(
        ("stages.*.example_template",),
        _stage(lambda stage: stage.num_examples > 0),
        "num_examples",
    ),
)


def find_missing(command: str, recipe: Recipe, key: str) -> str:
    """What a key that the command reads is useless without; empty where nothing is missing."""
    if command == "show":
        return ""
    parts = key.split(".")
    stage = parts[1] if parts[0] == "stages" and len(parts) > 2 else ""
    for condition in _CONDITIONS:
        concerns = condition.command in {"", command} and condition.but != command
        if concerns and matches(key, condition.keys) and not condition.holds(recipe, stage):
            return condition.needs
    return ""


def matches(key: str, patterns: Sequence[str]) -> bool:
    """Whether a key is one of those that patterns name."""
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)
