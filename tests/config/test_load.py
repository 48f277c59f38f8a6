"""Recipes from text: order, types, and every mistake in one message with the place where it was
made.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from leafkit.config import EmbedConfig, Recipe, TeacherConfig
from leafkit.config.fields import spec_of
from leafkit.config.load import find_recipe, list_recipes, load_recipe, to_yaml
from leafkit.config.validate import find_problems
from leafkit.core.errors import UsageError


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write recipes/NAME.yaml below an empty working folder and return NAME."""
    (tmp_path / "recipes").mkdir()
    monkeypatch.chdir(tmp_path)

    def write_recipe(text: str, name: str = "mine") -> str:
        Path("recipes", f"{name}.yaml").write_text(text, encoding="utf-8")
        return name

    return write_recipe


def _mistakes(name: str, *overrides: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        load_recipe(name, overrides)
    head, *lines = str(caught.value).split("\n  ")
    assert head == f"recipe {name} has {len(lines)} mistake(s):"
    assert caught.value.exit_status == 2
    return lines


Write = Callable[..., str]


# --- mistakes


def test_all_mistakes_at_once_each_with_its_place_and_the_nearest_match(write: Write) -> None:
    text = (
        "sead: 1\nstudent:\n  ridge: fast\n  # a comment\n  num_epoch: 2\nstages:\n  tune:\n    "
        "batching: randm\n    optimizer: {lr: -1.0}\n"
    )
    found = _mistakes(write(text), "student.optimizer.warmup_ratio=2", "data.corpu=x", "nonsense")
    assert sorted(found) == sorted(
        [
            "command line: 'nonsense' is not key=value",
            "recipes/mine.yaml:1: unknown key sead; did you mean seed?",
            "recipes/mine.yaml:3: student.ridge: 'fast' is not a number",
            "recipes/mine.yaml:5: unknown key student.num_epoch; did you mean student.num_epochs?",
            "command line: unknown key data.corpu; did you mean data.corpus?",
            "command line: student.optimizer.warmup_ratio: 2.0 is not between 0 and 1",
            "recipes/mine.yaml:9: stages.tune.optimizer.lr: -1.0 is not above 0",
            "recipes/mine.yaml:8: stages.tune.batching: 'randm' is not one of random, neighbors",
        ]
    )


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("seed: 1.5", "seed: 1.5 is not a whole number"),
        ("seed: many", "seed: 'many' is not a whole number"),
        ("seed: true", "seed: True is not a whole number"),
        ("seed: [1]", "seed: [1] is not a whole number"),
        ("seed:", "seed: None is not a whole number"),
        ("seed: 2024-01-01", "seed: datetime.date(2024, 1, 1) is not a whole number"),
        ("seed: 2024-13-45", "seed: month must be in 1..12"),
        ("seed: {a: 1}", "seed is a value, it has no key 'a'"),
        ("force: 1", "force: 1 is not true or false"),
        ("force: 'yes'", "force: 'yes' is not true or false"),
        ("student: {optimizer: {lr: true}}", "student.optimizer.lr: True is not a number"),
        ("student: {optimizer: {lr: .nan}}", "student.optimizer.lr: nan is not a finite number"),
        (
            "student: {optimizer: {weight_decay: .inf}}",
            "student.optimizer.weight_decay: inf is not a finite number",
        ),
        ("student: 5", "student: 5 is not a mapping of keys to values"),
        ("data: {packages: numpy}", "data.packages: 'numpy' is not a list of texts"),
        (
            "data: {packages: [numpy, 3]}",
            "data.packages: YAML reads this as 3, but the key takes text: write it in quotes",
        ),
        (
            "stages: {tune: {loss: {mrl_dims: [64, x]}}}",
            "stages.tune.loss.mrl_dims: 'x' is not a whole number",
        ),
        ("stages: {tune: 5}", "stages.tune: 5 is not a mapping of keys to values"),
        ("inherit: {max_gap: {int8: much}}", "inherit.max_gap.int8: 'much' is not a number"),
        (
            "data: {sources: {more: 'jsonl:x'}}",
            "data.sources.more: 'jsonl:x' is not a mapping of keys to values",
        ),
        ("? [a, b]\n: c", "a key must be text"),
        ("base: 5", "base: 5 is not the name of a recipe"),
    ],
)
def test_wrong_types(write: Write, line: str, complaint: str) -> None:
    assert _mistakes(write(line)) == [f"recipes/mine.yaml:1: {complaint}"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("no", False),
        ("off", False),
        ("Yes", True),
        ("on", True),
        ("null", None),
        ("12", 12),
        ("1e3", 1000.0),
    ],
)
def test_text_that_yaml_reads_as_something_else_is_refused(
    write: Write, written: str, read: object
) -> None:
    complaint = f"YAML reads this as {read!r}, but the key takes text: write it in quotes"
    assert _mistakes(write(f"data:\n  corpus: {written}\n")) == [
        f"recipes/mine.yaml:2: data.corpus: {complaint}"
    ]
    assert _mistakes(write(f"data:\n  packages: [{written}]\n")) == [
        f"recipes/mine.yaml:2: data.packages: {complaint}"
    ]
    assert load_recipe(write(f"data: {{corpus: '{written}'}}")).data.corpus == written


@pytest.mark.parametrize("value", ["'${oc.env:HOME}'", "'x${seed}'", "'\\${seed}'", "'???'"])
def test_interpolation_is_refused(write: Write, value: str) -> None:
    for text in (f"data:\n  corpus: {value}", f"data:\n  packages: [{value}]"):
        assert "interpolation (${...}, ???) is not part of recipes" in _mistakes(write(text))[0]
    assert "interpolation" in _mistakes(write(""), f"data.corpus={value}".replace("'", ""))[0]


def test_duplicates_are_named_where_the_second_one_stands(write: Write) -> None:
    found = _mistakes(write("seed: 1\ndata:\n  corpus: a\n  corpus: b\nseed: 2\n"))
    assert sorted(found) == [
        "recipes/mine.yaml:4: data.corpus is written twice",
        "recipes/mine.yaml:5: seed is written twice",
    ]


def test_unknown_key_without_a_near_one_lists_what_is_known(write: Write) -> None:
    found = _mistakes(write("teacher:\n  zzzzzz: 1\n"))
    known = (
        "source, overrides, revision, trust_remote_code, query_prompt, document_prompt, mrl_dims"
    )
    assert found == [f"recipes/mine.yaml:2: unknown key teacher.zzzzzz; known here: {known}"]


def test_keys_of_a_section_are_listed_once_and_those_of_one_that_is_none_are_one_mistake(
    write: Write,
) -> None:
    first, second, section = _mistakes(
        write("teacher:\n  zzzzzz: 1\n  qqqqqq: 1\nxxxxxxx:\n  a: 1\n  b: 1\n")
    )
    assert first.startswith("recipes/mine.yaml:2: unknown key teacher.zzzzzz; known here: source, ")
    assert second == "recipes/mine.yaml:3: unknown key teacher.qqqqqq; known here: as above"
    assert section.startswith("recipes/mine.yaml:5: unknown key xxxxxxx; known here: name, seed, ")


def test_ranges_carry_their_origin_through_dicts_and_lists(write: Write) -> None:
    found = _mistakes(
        write("inherit:\n  precisions: [int3]\n  max_gap:\n    int8: 3.0\n    int2: 0.1\n")
    )
    precisions = "float32, float16, int8, int8_fixed, int4, binary, pq"
    assert sorted(found) == [
        f"recipes/mine.yaml:2: inherit.precisions: 'int3' is not one of {precisions}",
        "recipes/mine.yaml:4: inherit.max_gap.int8: 3.0 is not between 0 and 1",
        f"recipes/mine.yaml:5: inherit.max_gap.int2: 'int2' is not one of {precisions}",
    ]


# --- files that are no recipes


@pytest.mark.parametrize("text", ["- a\n- b\n", "just text", "3"])
def test_not_a_mapping(write: Write, text: str) -> None:
    with pytest.raises(UsageError, match=r"recipes/mine\.yaml is not a mapping of keys to values"):
        load_recipe(write(text))


@pytest.mark.parametrize(
    "text",
    [
        "seed: [1",
        "a: b: c",
        "seed: 1\n---\nseed: 2\n",
        "\tseed: 1",
        "seed: *nowhere",
        "seed: " + "[" * 3000,
    ],
)
def test_unreadable_yaml(write: Write, text: str) -> None:
    with pytest.raises(UsageError, match=r"recipes/mine\.yaml cannot be read as YAML"):
        load_recipe(write(text))


def test_not_utf8(write: Write) -> None:
    name = write("")
    Path("recipes/mine.yaml").write_bytes(b"data: {corpus: caf\xe9}")
    with pytest.raises(UsageError, match=r"recipes/mine\.yaml cannot be read as YAML"):
        load_recipe(name)


@pytest.mark.parametrize("text", ["", "# a comment only\n", "\ufeffseed: 42\n", "seed: 42\r\n"])
def test_an_empty_recipe_a_byte_order_mark_and_carriage_returns_are_fine(
    write: Write, text: str
) -> None:
    assert load_recipe(write(text)) == Recipe(name="mine")


# --- a recipe cannot run code


@pytest.mark.parametrize(
    "text",
    [
        "seed: !!python/object/apply:os.system ['touch ran']",
        "data: {packages: !!python/object/apply:os.system ['touch ran']}",
        "data: !!python/object:subprocess.Popen {corpus: 'touch ran'}",
        "data: {corpus: !!python/object/new:os.system ['touch ran']}",
        "? !!python/object/apply:os.system ['touch ran']\n: 1",
        "seed: !!python/name:os.system ''",
        "seed: !mine 3",
        "seed: !!int '3'",
        "data: {packages: !!set {a, b}}",
    ],
)
def test_yaml_tags_are_refused_and_run_nothing(write: Write, text: str) -> None:
    for mistake in _mistakes(write(text)):
        assert re.match(
            r"recipes/mine\.yaml:1: the YAML tag (tag:yaml\.org,2002:|!)\S+ is not part of recipes",
            mistake,
        )
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "override",
    ["seed=!!python/object/apply:os.system ['touch ran']", "data.packages=[!!python/name:os.x a]"],
)
def test_tags_on_the_command_line_are_refused_too(write: Write, override: str) -> None:
    assert "the YAML tag tag:yaml.org,2002:python/" in _mistakes(write(""), override)[0]
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "text", ["data: &x\n  sources: *x\n", "data:\n  packages: &x [*x]\n", "a: &x [1]\nb: *x\n"]
)
def test_aliases_are_refused_so_that_none_can_hold_itself(write: Write, text: str) -> None:
    assert _mistakes(write(text)) == [
        "recipes/mine.yaml:2: the alias *x is not part of recipes: write the value itself"
    ]


def test_there_is_no_target(write: Write) -> None:
    found = _mistakes(write("_target_: os.system\nstudent:\n  _target_: os.system\n"))
    assert [line.partition("; ")[0] for line in found] == [
        "recipes/mine.yaml:1: unknown key _target_",
        "recipes/mine.yaml:3: unknown key student._target_",
    ]


# --- order: defaults < base < recipe < command line


def test_order(write: Write) -> None:
    write(
        "seed: 1\nstudent: {ridge: 0.1, num_epochs: 3.0}\nstages: {a: {num_steps: 5, batch_size: "
        "7}}\n",
        "ground",
    )
    name = write(
        "base: ground\nstudent: {ridge: 0.2, query_repeats: 4}\n"
        "stages: {a: {num_steps: 6}, b: {}}\n"
    )
    recipe = load_recipe(
        name, ["student.query_repeats=9", "stages.b.num_steps=8", "student.query_repeats=10"]
    )
    assert recipe.name == "mine"
    assert recipe.seed == 1
    assert (recipe.student.ridge, recipe.student.num_epochs, recipe.student.query_repeats) == (
        0.2,
        3.0,
        10,
    )
    assert list(recipe.stages) == ["a", "b"]
    assert (
        recipe.stages["a"].num_steps,
        recipe.stages["a"].batch_size,
        recipe.stages["b"].num_steps,
    ) == (6, 7, 8)
    assert recipe.data == Recipe().data


@pytest.mark.parametrize("value", ["{}", "{ }"])
def test_an_empty_mapping_drops_what_a_base_names(write: Write, value: str) -> None:
    write("data:\n  sources:\n    far: {uri: 'jsonl:far.jsonl', limit: 3}\n", "ground")
    path = write("base: ground\ndata:\n  columns: {text: body}\n")
    assert set(load_recipe(path).data.sources) == {"far"}
    words = [f"data.sources={value}", "data.sources.own.uri=jsonl:own.jsonl"]
    found = load_recipe(path, words).data.sources
    assert {name: (one.uri, one.limit) for name, one in found.items()} == {
        "own": ("jsonl:own.jsonl", 0)
    }
    assert load_recipe(path, [f"data.columns={value}"]).data.columns == {}
    # a section has its keys all the same
    assert load_recipe(path, [f"data={value}"]).data.sources.keys() == {"far"}
    inherited = write(f"base: ground\ndata:\n  sources: {value}\n", "less")
    assert load_recipe(inherited).data.sources == {}
    silent = write("base: ground\ndata:\n  sources:\n", "same")
    assert set(load_recipe(silent).data.sources) == {"far"}


def test_mistakes_in_the_base_name_the_base(write: Write) -> None:
    write("seed: x\n", "ground")
    found = _mistakes(write("base: ground\nforce: 3\n"))
    assert found == [
        "recipes/ground.yaml:1: seed: 'x' is not a whole number",
        "recipes/mine.yaml:2: force: 3 is not true or false",
    ]


@pytest.mark.parametrize("second", ["cellar", "ground", "mine"])
def test_two_levels_of_base_are_refused(write: Write, second: str) -> None:
    write("seed: 1\n", "cellar")
    write(f"base: {second}\n", "ground")
    complaint = f"recipes/ground.yaml: base: {second}: a base recipe cannot have a base itself"
    assert complaint in _mistakes(write("base: ground\n"))


def test_unknown_base(write: Write) -> None:
    write("seed: 1\n", "ground")
    with pytest.raises(UsageError, match="recipe=grund: no such recipe") as caught:
        load_recipe(write("base: grund\n"))
    assert "did you mean recipe=ground?" in caught.value.hint


# --- key=value


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("student.optimizer.lr=1e-5", 1e-5),
        ("student.optimizer.lr=.5", 0.5),
        ("student.ridge=2", 2.0),
        ("seed=7", 7),
        ("seed=1e3", 1000),
        ("seed= 7 ", 7),
        ("force=true", True),
        ("data.corpus=jsonl:my file=1.jsonl", "jsonl:my file=1.jsonl"),
        ("data.corpus=no", "no"),
        ("data.corpus=12", "12"),
        ("data.corpus=", ""),
        ("data.corpus= x ", " x "),
        ("data.packages=numpy", ["numpy"]),
        ("data.packages=[numpy, scipy]", ["numpy", "scipy"]),
        ("data.packages=[]", []),
        ("stages.tune.loss.mrl_dims=[384,64]", [384, 64]),
        ("stages.tune.loss.mrl_dims=[384]", [384]),
        ("stages.tune.optimizer.lr=1e-5", 1e-5),
        ("data.sources.wiki.limit=3", 3),
        ("data.columns.query=question", "question"),
        ("inherit.max_gap.int8=0.5", 0.5),
    ],
)
def test_override_types(write: Write, override: str, expected: object) -> None:
    extra = (
        ["stages.tune.loss.mrl_weights=" + str([1.0] * len(expected))]
        if "mrl_dims" in override
        else []
    )
    value: object = load_recipe(write(""), [override, *extra])
    for part in override.partition("=")[0].split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("seed", "'seed' is not key=value"),
        ("=3", "'=3' is not key=value"),
        ("seed=", "seed: None is not a whole number"),
        ("seed=x", "seed: 'x' is not a whole number"),
        ("force=3", "force: 3 is not true or false"),
        ("student.optimizer.lr=fast", "student.optimizer.lr: 'fast' is not a number"),
        ("data.packages=", "data.packages: None is not a list of texts"),
        (
            "data.packages=[no]",
            "data.packages: YAML reads this as False, but the key takes text: write it in quotes",
        ),
        ("data.packages=[numpy", "data.packages: while parsing a flow sequence"),
        ("student=5", "student: 5 is not a mapping of keys to values"),
        ("seed.x=5", "seed is a value, it has no key 'x'"),
        ("student.xyz=5", "unknown key student.xyz; known here: "),
        ("base=ground", "unknown key base; "),
    ],
)
def test_override_mistakes(write: Write, override: str, complaint: str) -> None:
    (found,) = _mistakes(write(""), override)
    assert found.startswith(f"command line: {complaint}")


# --- names


def test_unknown_recipe_names_the_nearest(write: Write) -> None:
    write("", "kalm-huge")
    with pytest.raises(UsageError, match="recipe=kalm-hug: no such recipe") as caught:
        load_recipe("kalm-hug")
    assert caught.value.hint.startswith("did you mean recipe=kalm-huge? known recipes: ")
    with pytest.raises(UsageError) as caught:
        load_recipe("qqqqqqqqqqqq")
    assert caught.value.hint.startswith("known recipes: ")
    assert "kalm-huge" in caught.value.hint


@pytest.mark.parametrize("name", ["absent.yaml", "folder/absent", "recipes"])
def test_missing_file(write: Write, name: str) -> None:
    with pytest.raises(UsageError, match=f"recipe={name}: no such"):
        find_recipe(name)


def test_the_working_folder_comes_before_the_package(write: Write) -> None:
    shipped = set(list_recipes())
    write("# mine\nseed: 77\n", "kalm-mini")
    write("", "only-here")
    assert set(list_recipes()) == shipped | {"kalm-mini", "only-here"}
    assert load_recipe("kalm-mini").seed == 77


def test_a_path_takes_any_folder(write: Write, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "x.yml").write_text("seed: 5\n")
    assert load_recipe("deep/x.yml") == Recipe(name="x", seed=5)


def test_round_trip_of_every_kind_of_value(write: Write) -> None:
    text = """
seed: 3
data: {corpus: 'no', packages: [], sources: {a: {uri: "jsonl:ü: # x", limit: 2}}}
stages:
  one:
    optimizer: {lr: 1e-7}
    loss: {mrl_dims: [8, 4], mrl_weights: [1, 0.5]}
    query_template: "a\\n{query}"
  two: {init: stage:one}
inherit: {max_gap: {int8: 1e-3}}
"""
    recipe = load_recipe(write(text))
    assert recipe.inherit.max_gap == load_recipe(write("{}")).inherit.max_gap | {"int8": 0.001}
    assert load_recipe(write(to_yaml(recipe))) == recipe


# --- ranges, each rule once


POSITIVE = [
    "stages.s.num_steps",
    "stages.s.batch_size",
    "student.tokens_per_batch",
    "student.max_texts_per_batch",
    "student.optimizer.lr",
    "stages.s.optimizer.lr",
    "student.optimizer.max_grad_norm",
    "stages.s.loss.temperature",
    "student.num_epochs",
    "student.query_repeats",
    "bench.num_resamples",
    "stages.s.num_neighbors",
    "student.num_ridge_texts",
    "student.losses.candidates.num_nearest",
    "student.losses.candidates.temperature",
    "stages.s.anchor_batch_size",
    "stages.s.soup.temperature",
    "stages.s.soup.num_rows",
    "stages.s.soft_labels.temperature",
    "stages.s.mixing.temperature",
    "stages.s.mixing.beta",
    "stages.s.lora.alpha",
    "embeddings.texts_per_request",
    "embeddings.endpoint.timeout_s",
    "bench.indexes.hnsw_links",
    "bench.overlap_words",
    "student.static.width",
    "student.static.document_epochs",
    "student.static.query_epochs",
    "student.static.lr",
    "student.static.query_lr",
    "student.static.texts_per_batch",
]
NOT_NEGATIVE = [
    "student.ridge",
    "student.num_checks",
    "student.num_held_out",
    "student.losses.l2",
    "student.losses.candidates.num_random",
    "data.num_made_queries",
    "data.max_query_tokens",
    "data.max_document_tokens",
    "bench.max_document_tokens",
    "embeddings.dimensions",
    "bench.indexes.num_lists",
    "bench.indexes.code_bytes",
    "inherit.int8_range",
    "inherit.pq_bytes",
    "data.max_bad_rows",
    "student.optimizer.weight_decay",
    "stages.s.loss.anchor_weight",
    "data.num_pseudo_texts",
    "data.max_train_queries",
    "bench.num_latency_queries",
    "bench.num_samples",
    "stages.s.hidden_size",
    "stages.s.intermediate_size",
    "stages.s.loss.false_negative_margin",
    "seed",
    "data.sources.x.limit",
    "stages.s.mining.num_negatives",
    "stages.s.mining.first_rank",
    "stages.s.mining.min_margin",
    "stages.s.mining.filter_rank",
    "stages.s.mixing.num_pairwise",
    "stages.s.mixing.num_listwise",
    "stages.s.soft_labels.weight",
    "stages.s.loss.focal_gamma",
    "stages.s.loss.gor_weight",
    "stages.s.chunk_tokens",
    "stages.s.num_examples",
    "stages.s.lora.rank",
]
SHARES = [
    "student.optimizer.warmup_ratio",
    "stages.s.wise_ft_alpha",
    "student.optimizer.final_lr_ratio",
    "student.question_ratio",
    "stages.s.mining.max_positive_share",
    "stages.s.same_task_ratio",
]
CHOICES = {
    "data.on_bad_row": "error, skip",
    "device": "auto, cuda, npu, mps, cpu",
    "precision": "auto, float32, bf16",
    "stages.s.batching": "random, neighbors",
    "bench.split": "test, validation, train",
    "stages.s.attention": ", bidirectional, causal",
    "stages.s.pooling": ", mean, cls, last",
    "stages.s.mining.on_shortfall": "keep, drop",
    "stages.s.soft_labels.kind": "kl, mse",
}
RULES = [
    *[(f"{key}=0", key, r"0(\.0)? is not above 0") for key in POSITIVE],
    *[(f"{key}=-1", key, r"-1(\.0)? is below 0") for key in NOT_NEGATIVE],
    *[(f"{key}=1.5", key, r"1\.5 is not between 0 and 1") for key in SHARES],
    *[(f"{key}=-0.5", key, r"-0\.5 is not between 0 and 1") for key in SHARES],
    *[
        (f"{key}=other", key, f"'other' is not one of {allowed}")
        for key, allowed in CHOICES.items()
    ],
    *[
        (f"name={name}", "name", ".* is not a folder name: .*")
        for name in ("../x", "a/b", "..", "", "-x", "a b")
    ],
    (
        "stages.s.init=stage:t",
        "stages.s.init",
        r"'stage:t' names no earlier stage \(earlier stages: none\)",
    ),
    (
        "stages.s.init=stage:s",
        "stages.s.init",
        r"'stage:s' names no earlier stage \(earlier stages: none\)",
    ),
    (
        "stages.s.init=bert",
        "stages.s.init",
        "'bert' is not builtin:minilm, builtin:mpnet, stage:NAME or model:FOLDER_OR_HUB_ID@REV.*",
    ),
    (
        "stages.s.query_template={query} now",
        "stages.s.query_template",
        r"does not end with \{query\}: .*",
    ),
    (
        "stages.s.loss.mrl_weights=[1.0]",
        "stages.s.loss.mrl_weights",
        "1 weights for 0 dimensions in mrl_dims",
    ),
    (
        "teacher.source=bert",
        "teacher.source",
        "'bert' is not recipe:NAME, builtin:minilm, builtin:mpnet, model:.*",
    ),
    ("teacher.source=vectors:", "teacher.source", "'vectors:' is not recipe:NAME, .*"),
    (
        "student.init=builtin:bert",
        "student.init",
        "unknown model 'builtin:bert': there are builtin:minilm, .*",
    ),
    (
        "stages.s.neighbor_model=builtin:bert",
        "stages.s.neighbor_model",
        "unknown model 'builtin:bert': there are builtin:minilm, .*",
    ),
    ("bench.student=builtin:bert", "bench.student", "'builtin:bert' is not recipe:NAME, .*"),
    (
        "bench.tasks=[sts]",
        "bench.tasks",
        "'sts' is not sts:PATH, clustering:PATH, classification:PATH",
    ),
    ("bench.tasks=[rank:a.jsonl]", "bench.tasks", "'rank:a.jsonl' is not sts:PATH, .*"),
    ("bench.indexes.kinds=[lsh]", "bench.indexes.kinds", "'lsh' is not one of flat, hnsw, .*"),
    (
        "bench.indexes.ef_search=[64, 16]",
        "bench.indexes.ef_search",
        r"\[64, 16\] is not a rising list",
    ),
    (
        "bench.indexes.num_probes=[]",
        "bench.indexes.num_probes",
        "is empty: name some",
    ),
    (
        "bench.indexes.rescore_factors=[0]",
        "bench.indexes.rescore_factors",
        "0 is below 1",
    ),
    ("inherit.queries=[double]", "inherit.queries", "'double' is not one of float, quantized"),
    ("inherit.queries=[]", "inherit.queries", "is empty: name some of float, quantized"),
    ("inherit.rescoring=[-1]", "inherit.rescoring", "-1 is below 0"),
    ("inherit.dims=[0]", "inherit.dims", "0 is below 1"),
    ("inherit.ranks=[0]", "inherit.ranks", "0 is below 1"),
    ("student.kind=lstm", "student.kind", "'lstm' is not one of transformer, instant, static"),
    ("stages.s.soft_labels.kind=dot", "stages.s.soft_labels.kind", "'dot' is not one of kl, mse"),
    (
        "data.exclude_self=maybe",
        "data.exclude_self",
        "'maybe' is not one of auto, always, never",
    ),
    (
        "embeddings.endpoint.base_url=http://a:b@c/v1",
        "embeddings.endpoint.base_url",
        "may hold a password or a key: .*",
    ),
    *[
        (
            f"{section}.endpoint.api_key_env={value}",
            f"{section}.endpoint.api_key_env",
            "is not the name of an environment variable, in .*",
        )
        for section in ("synth", "embeddings")
        for value in ("sk-abcdef0123", "abcdef0123456789", "$OPENAI_API_KEY", "")
    ],
    *[
        (
            f"{section}.endpoint.api_key_env={value}",
            f"{section}.endpoint.api_key_env",
            f"{value} does not end in _API_KEY or _TOKEN: .*",
        )
        for section in ("synth", "embeddings")
        for value in (
            "AWS_SECRET_ACCESS_KEY",
            "HOME",
            "DATABASE_URL",
            "PGPASSWORD",
            "API_KEY_FILE",
            "TOKEN",
        )
    ],
    *[
        (f"data.{key}=['{name}']", f"data.{key}", f"{re.escape(repr(name))} is not the name of .*")
        for key in ("packages", "out_of_domain_packages")
        for name in (
            "numpy./x",
            "/etc",
            "numpy/../x",
            "..",
            ".numpy",
            "numpy.",
            "numpy..linalg",
            "a b",
            "~",
            "",
            "numpy\\x",
            "C:x",
        )
    ],
    ("allow_hosts=https://a.org", "allow_hosts", "'https://a.org' is no host: .*"),
    (
        "bench.baseline=bert",
        "bench.baseline",
        "'bert' is not recipe:NAME, builtin:minilm, builtin:mpnet, model:.*",
    ),
    (
        "teacher.query_prompt=find",
        "teacher.query_prompt",
        "is for endpoint:, model: and builtin: models: .*",
    ),
    (
        "teacher.document_prompt=find",
        "teacher.document_prompt",
        "is for endpoint:, model: and builtin: models: .*",
    ),
    ("teacher.trust_remote_code=true", "teacher.trust_remote_code", "needs teacher.revision, .*"),
    (
        "inherit.precisions=[int3]",
        "inherit.precisions",
        "'int3' is not one of float32, float16, .*",
    ),
    ("inherit.max_gap.int8=-0.1", r"inherit.max_gap.int8", r"-0\.1 is not between 0 and 1"),
]


@pytest.mark.parametrize(
    ("override", "key", "complaint"), RULES, ids=[override for override, _, _ in RULES]
)
def test_range(write: Write, override: str, key: str, complaint: str) -> None:
    (found,) = _mistakes(write("stages: {s: {}}"), override)
    assert re.fullmatch(f"command line: {re.escape(key)}: {complaint}", found)


def test_dimensions_are_told_of_a_teacher_that_does_not_know_its_own(write: Write) -> None:
    name = write("stages: {s: {}}")
    words = ["teacher.mrl_dims=[8]", "teacher.source=builtin:mpnet"]
    (found,) = _mistakes(name, *words)
    assert "teacher.mrl_dims: is for vectors: and endpoint: teachers" in found
    # a rescue's recipe names no teacher, and its vectors may be a Matryoshka model's
    for source in ("", "vectors:old"):
        assert load_recipe(name, [words[0], f"teacher.source={source}"]).teacher.mrl_dims == [8]


CONSENTS = {
    "teacher.trust_remote_code": ("teacher: {trust_remote_code: true, revision: REV}", "true"),
    "allow_hosts": ("allow_hosts: [a.org]", "a.org"),
    "embed.to": ("embed: {to: 'parquet:a.org'}", "parquet:a.org"),
}


def test_every_consent_has_its_case() -> None:
    consents = [
        f"{prefix}{f.name}"
        for section, prefix in (
            (Recipe, ""),
            (TeacherConfig, "teacher."),
            (EmbedConfig, "embed."),
        )
        for f in fields(section)
        if spec_of(f).is_consent
    ]
    assert sorted(consents) == sorted(CONSENTS)


@pytest.mark.parametrize("through", ["recipe", "base"])
@pytest.mark.parametrize("key", CONSENTS)
def test_a_recipe_file_cannot_give_the_users_consent(
    write: Write, tmp_path: Path, key: str, through: str
) -> None:
    text, value = CONSENTS[key]
    text = text.replace("REV", "a" * 40)
    name = write(text)
    if through == "base":
        (tmp_path / "recipes" / "mine.yaml").rename(tmp_path / "recipes" / "theirs.yaml")
        name = write("base: theirs")
    (found,) = _mistakes(name)
    assert f"{key}: a recipe cannot allow this itself" in found
    assert ".yaml:1: " in found
    # the word of the command line does not make the file's a good one
    assert len(_mistakes(name, f"{key}={value}")) == 1
    alone = write(text.replace("true", "false").replace("parquet:a.org", "").replace("a.org", ""))
    assert load_recipe(alone, [f"{key}={value}"])


def test_a_host_on_the_command_line_needs_no_further_word(write: Write) -> None:
    name = write("embeddings: {endpoint: {base_url: 'https://in.recipe/v1'}}")
    assert load_recipe(name).allow_hosts == []
    assert load_recipe(name, ["allow_hosts=in.recipe"]).allow_hosts == ["in.recipe"]
    for section in ("embeddings", "synth"):
        word = f"{section}.endpoint.base_url=https://In.Words:80/v1"
        assert load_recipe(name, [word]).allow_hosts == ["in.words"]


def test_a_key_in_the_place_of_its_variables_name_is_not_shown(write: Write) -> None:
    (found,) = _mistakes(write("stages: {s: {}}"), "embeddings.endpoint.api_key_env=sk-abcdef0123")
    assert "sk-abcdef0123" not in found


@pytest.mark.parametrize(
    ("dims", "complaint"),
    [
        ("[64, 128]", "[64, 128] is not a falling list"),
        ("[128, 128]", "[128, 128] is not a falling list"),
        ("[128, 0]", "0 is below 1"),
        ("[128, -1]", "-1 is below 1"),
    ],
)
def test_mrl_dims_fall_and_are_positive(write: Write, dims: str, complaint: str) -> None:
    (found,) = _mistakes(
        write("stages: {s: {loss: {mrl_weights: [1, 1]}}}"), f"stages.s.loss.mrl_dims={dims}"
    )
    assert found == f"command line: stages.s.loss.mrl_dims: {complaint}"


def test_the_bounds_themselves_are_allowed(write: Write) -> None:
    inside = [f"{key}=0" for key in [*NOT_NEGATIVE, *SHARES]] + [
        f"{key}=1" for key in [*POSITIVE, *SHARES]
    ]
    revision = "teacher.revision=" + "a" * 40
    recipe = load_recipe(
        write("stages: {s: {}, t: {init: stage:s}}"),
        [*inside, "teacher.trust_remote_code=true", revision],
    )
    assert recipe.teacher.trust_remote_code


@pytest.mark.parametrize("key", ["query_prompt", "document_prompt"])
@pytest.mark.parametrize("place", ["{instruction}", "{query}"])
def test_a_place_that_nothing_fills_is_no_prompt(key: str, place: str) -> None:
    teacher = TeacherConfig(source="model:x", **{key: f"Instruct: {place}"})
    ((path, what),) = find_problems(Recipe(name="x", teacher=teacher))
    assert path == f"teacher.{key}"
    assert what.startswith(f"holds {place}, which nothing fills here")


def test_defaults_have_no_problem() -> None:
    assert find_problems(Recipe(name="x")) == []


# --- stages: sources, mining, signals, soups


STAGE_RULES: list[tuple[str, list[str]]] = [
    # sources
    ("sources: {a: {}}", ["sources.a.uri: is missing"]),
    (
        "sources: {query: {uri: 'jsonl:x'}}",
        ["sources.query: 'query' cannot name a source (query, document, prompted are taken)"],
    ),
    (
        "sources: {document: {uri: 'jsonl:x'}}",
        ["sources.document: 'document' cannot name a source"],
    ),
    (
        "sources: {a/b: {uri: 'jsonl:x'}}",
        ["sources.a/b: 'a/b' cannot name a source (query, document, prompted are taken)"],
    ),
    (
        "sources: {a: {uri: 'jsonl:x', weight: 0}, b: {uri: 'jsonl:x', weight: 0}}",
        ["sources: every source has weight 0"],
    ),
    (
        "sources: {a: {uri: 'jsonl:x', weight: -1}}",
        ["sources.a.weight: -1.0 is below 0", "sources: every source has weight 0"],
    ),
    ("sources: {a: {uri: 'jsonl:x', limit: -1}}", ["sources.a.limit: -1 is below 0"]),
    (
        "sources: {a: {uri: 'jsonl:x', task: retreival}}",
        [
            "sources.a.task: 'retreival' is not one of auto, retrieval, reranking, sts, "
            "pair_classification, bitext, classification,"
            " clustering"
        ],
    ),
    (
        "sources: {a: {uri: 'jsonl:x', prompt_on: none}}",
        ["sources.a.prompt_on: 'none' is not one of auto, query, both"],
    ),
    (
        "sources: {a: {uri: 'jsonl:x', in_batch: all}}",
        ["sources.a.in_batch: 'all' is not one of auto, use, none"],
    ),
    (
        "{mining: {model: start, num_negatives: 2}, sources: {a: {uri: 'jsonl:x', task: "
        "clustering, in_batch: use}}}",
        ["sources.a.in_batch: rows of the same label are false negatives: auto or none"],
    ),
    (
        "sources: {a: {uri: 'jsonl:x', task: classification}}",
        ["mining.num_negatives: 0 leaves a no negative: rows of labels take none in-batch"],
    ),
    # prompts
    (
        "{num_examples: 2, example_template: 'Query: {query}'}",
        ["example_template: shows no {query} with its {document}"],
    ),
    (
        "soft_labels: {query_template: 'Instruct: x'}",
        ["soft_labels.query_template: does not end with {query}"],
    ),
    # mining
    (
        "mining: {num_negatives: 7}",
        ["mining.model: is missing: num_negatives and filter_rank need a model that searches"],
    ),
    (
        "mining: {filter_rank: 50}",
        ["mining.model: is missing: num_negatives and filter_rank need a model that searches"],
    ),
    (
        "mining: {model: start}",
        ["mining.model: searches for nothing: set num_negatives or filter_rank"],
    ),
    (
        "mining: {model: minilm, filter_rank: 1}",
        ["mining.model: 'minilm' is not start, builtin:minilm, builtin:mpnet, stage:NAME or "],
    ),
    (
        "mining: {model: 'stage:s', filter_rank: 1}",
        ["mining.model: 'stage:s' names no earlier stage (earlier stages: first)"],
    ),
    (
        "mining: {last_rank: 0, first_rank: -1}",
        ["mining.last_rank: 0 is not above 0", "mining.first_rank: -1 is below 0"],
    ),
    ("loss: {contrastive_weight: -1}", ["loss.contrastive_weight: -1.0 is below 0"]),
    ("mining: {first_rank: 100}", ["mining.last_rank: 100 is not above first_rank=100"]),
    (
        "mining: {model: start, num_negatives: 7, first_rank: 94, last_rank: 100}",
        ["mining.num_negatives: 7 do not fit into a window of 6 ranks"],
    ),
    # signals
    (
        "mixing: {num_pairwise: 1}",
        ["mixing.num_pairwise: there is nothing to mix: mining.num_negatives is 0"],
    ),
    (
        "mixing: {num_listwise: 1}",
        ["mixing.num_listwise: there is nothing to mix: mining.num_negatives is 0"],
    ),
    (
        "soft_labels: {models: [bm25]}",
        ["soft_labels.models: there are no candidates to score: mining.num_negatives is 0"],
    ),
    (
        "{sources: {a: {uri: 'jsonl:x'}}, soft_labels: {models: [rows, bm25]}}",
        ["soft_labels.models: rows bring their own scores: no other model beside them"],
    ),
    (
        "{sources: {a: {uri: 'jsonl:x'}}, soft_labels: {models: [tfidf]}}",
        ["soft_labels.models: 'tfidf' is not rows, bm25"],
    ),
    (
        "{sources: {a: {uri: 'jsonl:x'}}, soft_labels: {models: ['stage:t']}}",
        ["soft_labels.models: 'stage:t' names no earlier stage"],
    ),
    (
        "loss: {contrastive_weight: 0}",
        ["loss.contrastive_weight: 0 leaves nothing to train on: soft_labels.models is empty"],
    ),
    (
        "{hidden_size: 128, lora: {rank: 8}}",
        ["lora.rank: a model that grows trains all its weights"],
    ),
    # soups
    ("soup: {members: ['stage:first']}", ["soup.members: an average needs at least two members"]),
    (
        "soup: {members: ['stage:first', 'stage:s']}",
        ["soup.members: 'stage:s' names no earlier stage (earlier stages: first)"],
    ),
    (
        "soup: {members: ['stage:first', start]}",
        ["soup.members: 'start' is not builtin:minilm, builtin:mpnet, stage:NAME or "],
    ),
    (
        "soup: {members: ['stage:first', 'model:x'], weights: [1.0]}",
        ["soup.weights: 1 weights for 2 members"],
    ),
    (
        "soup: {members: ['stage:first', 'model:x'], weights: [0.7, 0.7]}",
        ["soup.weights: [0.7, 0.7] are not shares"],
    ),
    (
        "soup: {members: ['stage:first', 'model:x'], weights: [1.5, -0.5]}",
        ["soup.weights: 1.5 is not between 0 and 1", "soup.weights: -0.5 is not between 0 and 1"],
    ),
]


@pytest.mark.parametrize(
    ("stage", "complaints"), STAGE_RULES, ids=[stage for stage, _ in STAGE_RULES]
)
def test_rules_of_a_stage(write: Write, stage: str, complaints: list[str]) -> None:
    body = stage if stage.startswith("{") else f"{{{stage}}}"
    found = _mistakes(write(f"stages:\n  first: {{}}\n  s: {body}\n"))
    assert len(found) == len(complaints)
    said = sorted(line.partition(": stages.s.")[2] for line in found)
    assert all(
        line.startswith(complaint) for line, complaint in zip(said, sorted(complaints), strict=True)
    ), said


def test_a_stage_with_everything_is_allowed(write: Write) -> None:
    text = """
stages:
  first:
    sources: {a: {uri: "jsonl:x", task: sts, weight: 0}, b: {uri: "jsonl:y", weight: 2}}
    mixing: {num_pairwise: 1}
  second:
    init: stage:first
    num_examples: 2
    sources: {labels: {uri: "jsonl:x", task: clustering}}
    mining: {model: start, num_negatives: 7, first_rank: 0, last_rank: 7, filter_rank: 50}
    mixing: {num_pairwise: 2, num_listwise: 1}
    loss: {contrastive_weight: 0}
    soft_labels:
      models: [bm25, "stage:first", "model:folder", builtin:minilm]
      query_template: "{query}"
    lora: {rank: 8}
  third: {soup: {members: ["stage:first", "stage:second"], weights: [0.25, 0.75]}}
  fourth: {soup: {members: ["stage:first", "stage:third"]}}
"""
    recipe = load_recipe(write(text))
    assert recipe.stages["second"].mining.num_negatives == 7
    assert find_problems(recipe) == []


@pytest.mark.parametrize(
    "name",
    "corpora vectors measured mined student Student index index-hnsw bench inherit synth "
    "synth.work contamination diagnosis export hub openvino web rows".split(),
)
def test_a_stage_may_not_take_the_folder_of_something_else(write: Write, name: str) -> None:
    (found,) = _mistakes(write(f"stages: {{{name}: {{}}}}"))
    assert f"stages.{name}: '{name}' cannot name a stage's folder" in found


@pytest.mark.parametrize("name", ["vectors", "corpora", "measured", "tokens", "Vectors"])
def test_a_recipe_may_not_take_a_folder_that_recipes_share(write: Write, name: str) -> None:
    (found,) = _mistakes(write(f"name: {name}"))
    assert f"name: '{name}' is taken" in found
    assert "vectors, corpora, measured, tokens" in found


@pytest.mark.parametrize("reference", ["builtin:minilm", "builtin:mpnet"])
def test_every_built_in_model_may_stand_wherever_a_model_is_named(tmp_path, reference):
    file = tmp_path / "r.yaml"
    file.write_text(
        f"""name: r
teacher: {{source: "{reference}"}}
student: {{init: "{reference}"}}
bench: {{baseline: "{reference}", student: "{reference}"}}
data: {{corpus: builtin:pydocs}}
stages:
  s:
    init: "{reference}"
    batching: neighbors
    neighbor_model: "{reference}"
    sources: {{a: {{uri: jsonl:a.jsonl}}}}
    mining: {{model: "{reference}", num_negatives: 7}}
    soft_labels: {{models: [bm25, "{reference}"]}}
""",
        encoding="utf-8",
    )
    stage = load_recipe(str(file)).stages["s"]
    assert {stage.init, stage.neighbor_model, stage.mining.model} == {reference}
