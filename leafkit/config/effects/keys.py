"""Which keys of a recipe count in which command, and with which other keys.

A recipe's file serves every command, so a file may hold anything. What somebody writes on the
command line is meant for that command: a key that nothing there reads is refused, not taken and
ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from leafkit.config.effects.conditions import OF_STUDENT, find_missing, matches
from leafkit.config.recipe import Recipe
from leafkit.config.reference import list_keys
from leafkit.config.yaml_text import shown
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
_DIM = "student.dim"
_JUDGED = ("bench.split", "bench.num_resamples", "seed")
_ASKING = (*_READING, *_CUTS, "data.exclude_self", *_MODELS, _ENGINE)
# those that decide about the rungs below the student, or about the texts that train them
_BELOW = tuple(
    f"student.{key}"
    for key in (
        "init",
        "attention",
        "pooling",
        "question_ratio",
        "ridge",
        "fit_to",
        "head_bias",
        "num_[hr]*",
    )
)
_START = (
    "student.init*",
    "student.kind",
    "student.head_layers",
    "student.static.width",
)
_PROBED = (
    "student.init*",
    "student.attention",
    "student.pooling",
    "student.static.*",
    # a probe's table has no words of its own, and is trained on documents alone, at its own rate
    "!student.static.num_words",
    "!student.static.query_*",
    "student.optimizer.*",
    "!student.optimizer.lr",
    "inherit.dims",
    "inherit.precisions",
    "inherit.int8_range",
    "inherit.pq_bytes",
    "bench.indexes.[eh]*",
    "bench.num_resamples",  # of the diagnosis: see pipeline.predict.settings
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
    "inherit": (*_RUN, *_ASKING, *OF_STUDENT, *_JUDGED, _DIM, *_START, "inherit.*"),
    "ladder": (*_RUN, *_ASKING, *_JUDGED, "data.*", _DIM, *_BELOW, "bench.num_l*", "ladder.*"),
    "export": (*_RUN, *_READING, *_CUTS, *_MODELS, _ENGINE, *OF_STUDENT, *_JUDGED, _DIM),
    "show": ("*",),
}


# what leafkit export reads where it writes folders for other tools (to=)
_FOLDERS = (*_RUN, *_CUTS, *_MODELS, *OF_STUDENT, _DIM)


def has_effect(command: str, key: str) -> bool:
    """Whether anything in a command reads a key.

    >>> has_effect("teach", "stages.tune.optimizer.lr"), has_effect("bench", "student.kind")
    (True, False)
    """
    return matches(key, EFFECTS[command]) and not matches(
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
        elif need := find_missing(command, recipe, key):
            yield key, f"it needs {need}"


def find_idle(
    command: str, recipe: Recipe, sections: Sequence[str] = ("data", "student", "trainer")
) -> dict[str, str]:
    """Settings that differ from their default and change nothing in a command, each as
    ``key=value`` by its key: a recipe's file may hold them, for it serves other kinds of students.

    >>> from leafkit.config.student import StudentConfig
    >>> find_idle("distill", Recipe(student=StudentConfig(kind="instant", minutes=20.0)))
    {'student.minutes': 'student.minutes=20.0'}

    Args:
        command: of those that train a student.
        recipe: resolved.
        sections: that are looked at.
    """
    defaults = {key.name: key.default for key in list_keys()}
    # of a section as it is, what holds for a key is its value
    keys = (key for part in sections for key in list_keys(getattr(recipe, part), f"{part}."))
    return {
        key.name: f"{key.name}={shown(key.default)}"
        for key in keys
        if key.default != defaults[key.name] and find_missing(command, recipe, key.name)
    }


def refuse_of_graphs(settings: Sequence[str]) -> None:
    """Refuse settings (``key=value``) that leafkit export reads for its own graphs alone, where
    folders for other tools are asked for.

    Raises:
        UsageError: naming each.
    """
    keys = [key_of(word) for word in settings]
    why = "it counts in leafkit export without to="
    refuse("export to=", [(key, why) for key in keys if not matches(key, _FOLDERS)])


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
