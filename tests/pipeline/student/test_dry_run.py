"""Dry runs of a distillation: sizes at full size, small plans, and the whole road offline."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch

from leafkit.cli import main
from leafkit.cli.recipe_words import read_recipe
from leafkit.config import StudentConfig
from leafkit.config.load import load_recipe
from leafkit.config.validate import find_problems
from leafkit.core.artifact import open_artifact
from leafkit.core.errors import UsageError
from leafkit.models.checkpoint import load_encoder, read_encoder
from leafkit.models.prune_layers import prune_layers
from leafkit.pipeline.student.dry_run import full_sizes, plan_dry_distill
from leafkit.pipeline.student.full_size import config_of, count_parameters, student_at_full_size
from leafkit.train.student_terms import check_terms

LEAF_START = "model:nreimers/MiniLM-L6-H384-uncased@" + "a" * 40
RECIPES = sorted(
    path.stem
    for path in (tiny.ROOT / "recipes").glob("*.yaml")
    if path.stem.startswith(("mpnet", "minilm", "leaf", "kalm-to", "kalm-base-to", "own-index"))
)


# leaf-ir, and leaf-mt, which has no bias
@pytest.mark.parametrize(
    ("dim", "bias", "count"), [(768, True, 22_861_056), (1024, False, 22_958_592)]
)
def test_the_students_of_leaf_have_the_registered_counts(dim, bias, count):
    sizes = student_at_full_size(StudentConfig(init=LEAF_START, head_bias=bias), dim)
    assert sizes == (22_565_376, count - 22_565_376)
    # all-MiniLM-L6-v2 is as large
    assert student_at_full_size(StudentConfig(head_bias=bias), dim) == sizes


def test_a_head_of_several_layers_counts_and_becomes_a_small_one(tmp_path, capsys):
    every = StudentConfig(head_layers="all")
    assert student_at_full_size(every, 768)[1] == (7 * 384 + 1) * 768
    with pytest.raises(UsageError, match="no layer 9"):
        student_at_full_size(StudentConfig(head_layers="0,9"), 768)
    words = ["student.head_layers=0,3,6", f"checkpoints={tmp_path}"]
    small = plan_dry_distill(load_recipe("mpnet-to-23m", words))
    assert small.student.head_layers == "all"
    assert "all layers stand for student.head_layers=0,3,6" in capsys.readouterr().out


def test_a_schedule_stays_one_where_a_term_has_nothing_to_follow(tmp_path, capsys):
    words = ["mrl_prefix=1", "begin.mrl_prefix=.5", "end.l2=.5", "score_kl=1", "end.score_kl=.75"]
    words = [*(f"student.losses.{word}" for word in words), f"checkpoints={tmp_path}"]
    small = plan_dry_distill(load_recipe("mpnet-to-23m", words)).student.losses
    check_terms(small)
    assert (small.mrl_prefix, small.l2, small.begin, small.end) == (0, 1, {}, {"score_kl": 0.75})
    assert "dry run: l2 for mrl_prefix" in capsys.readouterr().out


def test_counts_without_weights_are_those_of_the_weights():
    encoder = load_encoder("builtin:minilm")
    assert count_parameters(encoder.backbone.config) == encoder.num_parameters()
    for choice in ("every:2", "1,6"):
        transformer, head = student_at_full_size(StudentConfig(init_layers=choice), 48)
        assert transformer == prune_layers(encoder, choice).num_parameters()
        assert head == sum(p.numel() for p in torch.nn.Linear(384, 48).parameters())
    with pytest.raises(UsageError, match="beyond the 6 layers"):
        student_at_full_size(StudentConfig(init_layers="7"), 48)


def test_sizes_are_said_of_models_that_are_known_without_a_hub(tmp_path):
    said = full_sizes(load_recipe("leaf-ir"))
    assert "108,891,648 parameters, 768 dimensions" in said[0]
    assert "22,861,056 parameters, 295,680 of them in W_out" in said[1]
    # BERT-large, with pooler 335,141,888
    said = full_sizes(load_recipe("leaf-mt"))
    assert "334,092,288 parameters, 1,024 dimensions" in said[0]
    assert "22,958,592 parameters, 393,216 of them in W_out" in said[1]
    assert config_of("model:owner/unknown@" + "a" * 40) is None
    assert config_of(f"model:{tmp_path}") is None
    # its vectors come out of a Dense module: the transformer's width is not theirs
    assert config_of(f"model:{tiny.write_model(tmp_path / 'dense', dim=48)}") is None
    plain = config_of(f"model:{tiny.write_model(tmp_path / 'plain')}")
    assert count_parameters(plain) == read_encoder(tmp_path / "plain").num_parameters()


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_of_a_student_becomes_a_small_one(name, tmp_path, capsys):
    words = [] if load_recipe(name).teacher.source else ["teacher.source=builtin:mpnet"]
    recipe = load_recipe(name, [*words, "dry_run=true", f"checkpoints={tmp_path}"])
    small = plan_dry_distill(recipe)
    assert small.name == f"{name}-dry-run"
    assert not small.dry_run
    # no recipe may name a tiny teacher itself
    assert {key for key, _ in find_problems(small)} == {"teacher.source"}
    assert small.teacher.source.startswith("tiny:")
    is_static = recipe.student.kind == "static"
    assert small.student.init.startswith("builtin:" if is_static else "tiny:")
    assert small.student.kind == recipe.student.kind
    assert small.student.optimizer == recipe.student.optimizer
    assert small.student.losses.score_kl == recipe.student.losses.score_kl
    uris = [source.uri for source in small.data.sources.values()]
    assert len(uris) == len(recipe.data.sources)
    assert all(Path(uri.removeprefix("jsonl:")).is_file() for uri in uris)
    said = capsys.readouterr().out
    assert all(f"stand in for {source.uri}" in said for source in recipe.data.sources.values())


def test_its_words_are_taken(tmp_path):
    words = ["recipe=leaf-ir", "dry_run=true", f"checkpoints={tmp_path}"]
    assert read_recipe("distill", words, may_run_dry=True).teacher.source == "tiny:bert"


@pytest.mark.slow
def test_leaf_ir_runs_offline_from_end_to_end(tmp_path, capsys):
    words = ["recipe=leaf-ir", "dry_run=true", f"checkpoints={tmp_path}", "device=cpu"]
    assert main.main(["distill", *words]) == 0
    assert "22,861,056 parameters" in capsys.readouterr().out
    folder = tmp_path / "leaf-ir-dry-run"
    assert (folder / "report.html").is_file()
    used = open_artifact(folder / "student", "student").metrics["texts"]
    names = {name for name, *_ in used}
    assert names >= {"pydocs documents", "pydocs queries", "amazonqa queries"}, names
    # of pairs LEAF takes the queries alone
    assert not names & {"amazonqa documents", "ccnews queries"}, names
    assert sum(count for *_, count in used) > 6 * 64
    assert read_encoder(folder / "student").dim == 64
