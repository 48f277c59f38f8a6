"""Which keys of a recipe count in which command, and with which other keys.

A recipe's file serves every command, so a file may hold anything. What somebody writes on the
command line is meant for that command: a key that nothing there reads is refused, not taken and
ignored.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from leafkit.config.recipe import Recipe
from leafkit.config.student import SCORE_TERMS, StudentLosses
from leafkit.core.errors import UsageError

_RUN = ("name", "checkpoints", "device", "precision", "force")
OF_A_RUN = (*_RUN, "dry_run")  # its teacher's recipe gets those of the run itself
_READING = (
    "data.corpus",
    "data.packages",
    "data.out_of_domain_packages",
    "data.on_bad_row",
    "data.max_bad_rows",
    "data.columns*",
    "data.ignore_columns",
)
_CUTS = ("data.max_query_tokens", "data.max_document_tokens")
_PAIRS = ("data.*made_quer*", "teacher.mrl_dims", "bench.num_resamples")
_ENGINE = "embed.[!t]*"
_STORE = "embed.to*"
_MODELS = ("teacher.*", "embeddings.*", "allow_hosts")
_STUDENT = ("bench.student", "bench.same_space")
_DIM = "student.dim"
_JUDGED = ("bench.split", "bench.num_resamples", "seed")
_ASKING = (*_READING, *_CUTS, "data.exclude_self", *_MODELS, _ENGINE)
# those that decide about the rungs below the student, or about the texts that train them
_BELOW = tuple(
    f"student.{key}"
    for key in ("init", "attention", "pooling", "question_ratio", "ridge", "head_bias", "num_[hr]*")
)
_START = ("student.init*", "student.kind", "student.head_layers", "student.static.width")
_PROBED = (
    "student.init",
    "student.static.*",
    # a probe's table has no words of its own, and is trained on documents alone
    "!student.static.num_words",
    "!student.static.query_*",
    "inherit.dims",
    "inherit.precisions",
    "bench.indexes.[eh]*",
)
_TRAINING = ("seed", *_READING, *_CUTS, "data.num_pseudo_texts", "stages.*", "trainer.*", _ENGINE)
_SECTIONS = ("data.*", "student.*", "trainer.*", "bench.*", "inherit.*")
# command -> patterns of keys that it reads; ! takes keys out again
EFFECTS: dict[str, tuple[str, ...]] = {
    "distill": (*_RUN, "dry_run", "seed", *_MODELS, _ENGINE, *_SECTIONS, "!inherit.diagnose"),
    "predict": (*_RUN, "seed", *_READING, *_CUTS, *_MODELS, _ENGINE, _DIM, *_PROBED),
    "rescue": (*_RUN, "seed", *_READING, *_CUTS, *_PAIRS, _ENGINE, "student.*", "trainer.*"),
    "teach": (*_RUN, "dry_run", *_TRAINING),
    "mine": (*_RUN, "dry_run", *_TRAINING),
    "synth": ("name", "checkpoints", "force", "seed", "synth.*", "allow_hosts"),
    "embed": (*_RUN, *_READING, "data.max_document_tokens", *_MODELS, _ENGINE, _STORE, _DIM),
    "bench": (*_RUN, "seed", *_ASKING, "bench.*", _DIM),
    "inherit": (*_RUN, *_ASKING, *_STUDENT, *_JUDGED, _DIM, *_START, "inherit.*"),
    "ladder": (*_RUN, *_ASKING, *_JUDGED, "data.*", _DIM, *_BELOW, "bench.num_l*", "ladder.*"),
    "export": (*_RUN, *_READING, *_CUTS, *_MODELS, _ENGINE, *_STUDENT, *_JUDGED, _DIM),
    "show": ("*",),
}


# what leafkit export reads where it writes folders for other tools (to=)
_FOLDERS = (*_RUN, *_CUTS, *_MODELS, *_STUDENT, _DIM)


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


def _diagnoses(recipe: Recipe, _: str) -> bool:
    return recipe.inherit.diagnose


_CONDITIONS = (
    _Condition(("student.[!d]*", "inherit.ranks"), _diagnoses, "inherit.diagnose=true", "inherit"),
    _Condition(
        (
            *_STUDENT,
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
            "student.num_checks",
            "student.enough_overlap",
            "student.patience",
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
        ("student.enough_overlap", "student.patience"),
        lambda recipe, _: recipe.student.num_checks > 0,
        "student.num_checks of one at least",
    ),
    _Condition(
        (
            "student.ridge",
            "student.num_held_out",
            "student.head",
            "student.head_layers",
            "student.head_bias",
        ),
        lambda recipe, _: recipe.student.kind != "static",
        "student.kind=transformer or instant",
    ),
    _Condition(
        ("student.ridge", "student.head_layers", "student.head_bias", "student.head_steps"),
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
        "student.kind=transformer or static, and student.minutes other than 0: an instant student "
        "takes no steps",
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


def has_effect(command: str, key: str) -> bool:
    """Whether anything in a command reads a key.

    >>> has_effect("teach", "stages.tune.optimizer.lr"), has_effect("bench", "student.kind")
    (True, False)
    """
    return _matches(key, EFFECTS[command]) and not _matches(
        key, [pattern[1:] for pattern in EFFECTS[command] if pattern.startswith("!")]
    )


def find_useless(command: str, recipe: Recipe, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Those of ``keys`` that change nothing in a command, each with what would make it count.

    Args:
        command: of the command line.
        recipe: resolved, with the keys' values.
        keys: that somebody set for this command.
    """
    for key in keys:
        if not has_effect(command, key):
            others = [name for name in EFFECTS if name != "show" and has_effect(name, key)]
            yield key, f"it counts in leafkit {', '.join(others)}"
        elif need := _missing(command, recipe, key):
            yield key, f"it needs {need}"


def refuse_of_graphs(settings: Sequence[str]) -> None:
    """Refuse settings (``key=value``) that leafkit export reads for its own graphs alone, where
    folders for other tools are asked for.

    Raises:
        UsageError: naming each.
    """
    keys = [key_of(word) for word in settings]
    why = "it counts in leafkit export without to="
    refuse("export to=", [(key, why) for key in keys if not _matches(key, _FOLDERS)])


def refuse_useless(command: str, recipe: Recipe, settings: Sequence[str]) -> None:
    """Refuse settings (``key=value``) that change nothing.

    Raises:
        UsageError: naming each, and where it would count.
    """
    refuse(command, list(find_useless(command, recipe, [key_of(word) for word in settings])))


def refuse(command: str, useless: Sequence[tuple[str, str]]) -> None:
    """Refuse the keys that ``find_useless`` found, if there are any.

    Raises:
        UsageError: naming each, and where it would count.
    """
    if useless:
        raise UsageError(
            f"{', '.join(dict.fromkeys(key for key, _ in useless))} "
            f"{'has' if len(useless) == 1 else 'have'} no effect in leafkit {command}",
            "leave it out; " + "; ".join(dict.fromkeys(f"{key}: {why}" for key, why in useless)),
        )


def key_of(word: str) -> str:
    """The key of ``key=value``.

    >>> key_of("seed=7")
    'seed'
    """
    return word.partition("=")[0].strip()


def _missing(command: str, recipe: Recipe, key: str) -> str:
    """What a key that the command reads is useless without; empty where nothing is missing."""
    if command == "show":
        return ""
    parts = key.split(".")
    stage = parts[1] if parts[0] == "stages" and len(parts) > 2 else ""
    for condition in _CONDITIONS:
        concerns = condition.command in {"", command} and condition.but != command
        if concerns and _matches(key, condition.keys) and not condition.holds(recipe, stage):
            return condition.needs
    return ""


def _matches(key: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)
