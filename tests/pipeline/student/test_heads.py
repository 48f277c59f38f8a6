"""Students whose head reads several layers, or has no bias: their closed form, training, folder and
what is refused, on tiny models.
"""

from __future__ import annotations

import numpy as np
import pytest
import small_student
import tiny
import torch
from small_student import DOCUMENTS, QUERIES
from small_student import distill_from as distill

import leafkit
from leafkit import api
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.models.checkpoint import read_encoder
from leafkit.models.prune_layers import prune_layers
from leafkit.models.text_encoder import EncoderSpec, TextEncoder
from leafkit.pipeline import distill as recipe_steps
from leafkit.pipeline.collect import collect_report
from leafkit.report.card import render_card
from leafkit.results import RunReport

UNSEEN = [f"which {query} of the first value" for query, _ in tiny.make_pairs()[50:]]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tiny.make_home(tmp_path_factory.mktemp("home"))


def teacher_over(home, layers, dim=40, bias=True) -> TextEncoder:
    """A random map of the student's own states: what a closed form must find again."""
    start = read_encoder(home / "small")
    torch.manual_seed(9)
    projection = torch.nn.Linear(32 * len(layers), dim, bias=bias)
    spec = EncoderSpec(normalized=False, max_tokens=64, head_layers=tuple(layers))
    return TextEncoder(start.backbone, start.tokenizer, spec, projection).eval()


def cosines(pair, teacher) -> np.ndarray:
    return small_student.cosines(pair, teacher, UNSEEN)


def test_the_closed_form_finds_a_map_of_all_layers_again(home):
    teacher = teacher_over(home, (0, 1, 2))
    every = distill(home, teacher, kind="instant", ridge=1e-9, head_layers="all")
    assert every.student.spec.head_layers == (0, 1, 2)
    assert cosines(every, teacher).min() > 1 - 1e-5
    some = distill(home, teacher, kind="instant", ridge=1e-9, head_layers="1,2")
    last = distill(home, teacher, kind="instant", ridge=1e-9)
    means = [float(cosines(pair, teacher).mean()) for pair in (every, some, last)]
    assert means[0] > means[1] > means[2]
    assert means[2] < 0.999


def test_without_bias_the_map_goes_through_the_origin(home):
    teacher = teacher_over(home, (2,), bias=False)
    plain = distill(home, teacher, kind="instant", ridge=1e-9, head_bias=False)
    assert plain.student.projection.bias is None
    assert cosines(plain, teacher).min() > 1 - 1e-5
    assert plain.student.num_parameters() + 40 == (
        distill(home, teacher, kind="instant", ridge=1e-9).student.num_parameters()
    )


def test_it_trains_is_saved_and_searches(home, tmp_path):
    instant = distill(home, f"model:{home / 'big'}", kind="instant", head_layers="all")
    pair = distill(home, f"model:{home / 'big'}", head_layers="all", head_bias=False, num_checks=0)
    assert pair.student.projection.in_features == 96
    assert pair.student.projection.bias is None
    changed = [
        name
        for name, value in pair.student.backbone.state_dict().items()
        if not torch.equal(value, instant.student.backbone.state_dict()[name])
    ]
    # keys' biases move nothing
    assert {n for n, _ in pair.student.backbone.named_parameters() if "key.bias" not in n} <= (
        set(changed)
    )
    pair.save(tmp_path / "pair")
    again = leafkit.load_pair(tmp_path / "pair")
    np.testing.assert_allclose(again.encode_query(UNSEEN), pair.encode_query(UNSEEN), atol=1e-5)
    assert [h.id for h in again.search(UNSEEN[0])] == [h.id for h in pair.search(UNSEEN[0])]


def test_a_training_that_does_harm_ends_as_its_start(home):
    settings = {"head_layers": "0,2", "optimizer": leafkit.OptimizerConfig(lr=1.0)}
    ruined = distill(home, f"model:{home / 'big'}", **settings)
    instant = distill(home, f"model:{home / 'big'}", kind="instant", head_layers="0,2")
    for one, other in zip(ruined.student.parameters(), instant.student.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_start_that_is_a_student_gives_its_backbone_alone(home, tmp_path):
    pair = distill(home, f"model:{home / 'big'}", kind="instant", head_layers="all")
    pair.save(tmp_path / "pair")
    config = leafkit.StudentConfig(kind="instant", num_ridge_texts=64)
    other = leafkit.distill(
        f"model:{home / 'big'}",
        f"model:{tmp_path / 'pair' / 'student'}",
        DOCUMENTS,
        QUERIES,
        config=config,
        device="cpu",
        precision="float32",
    )
    assert other.student.spec.head_layers == ()
    assert other.student.projection.in_features == 32


@pytest.mark.slow
def test_layers_are_counted_in_what_is_kept_of_the_start(home):
    cut = distill(home, f"model:{home / 'big'}", kind="instant", head_layers="0,1", init_layers="2")
    assert cut.student.spec.head_layers == (0, 1)
    # whose own head was another one
    again = distill(home, f"model:{home / 'big'}", start=cut.student, kind="instant")
    assert again.student.spec.head_layers == ()
    whole = distill(home, f"model:{home / 'big'}", kind="instant", head_layers="all").student
    pruned = prune_layers(whole, "1")
    assert (pruned.spec.head_layers, pruned.projection) == ((), None)
    with pytest.raises(UsageError, match=r"there is no layer 2: the model has 0 .* to 1"):
        distill(home, f"model:{home / 'big'}", head_layers="0,2", init_layers="2")


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ("0,3", "there is no layer 3"),
        ("0,1", "the last layer is not among 0, 1"),
        ("2,0", "not in rising order"),
        ("some", "neither last nor all"),
        ("", "neither last nor all"),
        ("0,-2", "neither last nor all"),
    ],
)
def test_layers_that_the_start_lacks_are_refused_before_the_work(home, layers, reason, monkeypatch):
    monkeypatch.setattr(api, "embed_groups", None)
    with pytest.raises(UsageError, match=reason) as caught:
        distill(home, f"model:{home / 'big'}", head_layers=layers)
    assert caught.value.hint


def test_a_recipe_is_refused_before_its_corpus_is_read(home, tmp_path, start, monkeypatch):
    recipe = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    monkeypatch.setattr(recipe_steps, "load_corpus", None)
    with pytest.raises(UsageError, match=r"head_layers=0,9: .*small: there is no layer 9"):
        start(recipe, "student.head_layers=0,9")


def test_fewer_texts_than_dimensions_are_refused_before_the_work(home, tmp_path, start):
    with pytest.raises(UsageError, match=r"40 texts cannot decide .* 48 dimensions") as caught:
        distill(home, f"model:{home / 'big'}", DOCUMENTS[:30], QUERIES[:10])
    assert "num_pseudo_texts" in caught.value.hint
    recipe = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    few = tiny.write_pairs(tmp_path / "few.jsonl", count=20, num_test=4, num_validation=0)
    with pytest.raises(UsageError, match="36 texts cannot decide"):
        start(recipe, f"data.corpus=jsonl:{few}", "data.num_pseudo_texts=0")
    assert not list((tmp_path / "ck").rglob("*.npy"))


@pytest.mark.slow
def test_a_recipe_measures_it_and_its_card_says_how_to_load_it(home, tmp_path, start):
    recipe = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    words = ["student.head_layers=all", "student.head_bias=false", "inherit.precisions=[float32]"]
    run = start(recipe, *words)
    student = read_encoder(run.folder / "student")
    assert student.spec.head_layers == (0, 1, 2)
    report = collect_report(run, "leafkit distill")
    assert report.student.head_layers == (0, 1, 2)
    assert report.teacher.head_layers is None
    assert RunReport.from_json(report.to_json()).student == report.student
    card = render_card(report)
    assert "SentenceTransformer" not in card
    assert "reads the hidden states of the layers 0, 1, 2" in card
    assert "library_name: leafkit" in card
    lines = card.partition("```python\n")[2].partition("```")[0]
    folder = str(run.folder / "student")
    found: dict[str, torch.Tensor] = {}
    exec(lines.replace("FOLDER_OF_THIS_MODEL", folder), found)  # as a reader would
    with torch.no_grad():
        ids = student.tokenize(["how do I invert a matrix"], "query")
        torch.testing.assert_close(found["queries"], student.finish(student(ids)))
    with pytest.raises(LeafkitError, match="its head reads the layers 0, 1, 2"):
        leafkit.export(run.folder, tmp_path / "out")
