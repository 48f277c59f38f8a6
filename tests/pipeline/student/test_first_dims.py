"""Students of the first dimensions of a Matryoshka teacher, with a head and without: every step
agrees on the cut space, and what does not fit is refused.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
import torch

import leafkit
from leafkit import api
from leafkit.core.artifact import publish
from leafkit.core.checkpoint_layout import INDEX
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.truncate import truncate_then_normalize
from leafkit.exporters.hub import export_hub
from leafkit.exporters.source import ExportSource
from leafkit.models.checkpoint import read_encoder, write_encoder
from leafkit.models.folder import read_space
from leafkit.pipeline import distill as recipe_steps
from leafkit.pipeline.collect import collect_report
from leafkit.pipeline.document_index import read_space_of_index, run_embed
from leafkit.pipeline.evaluate.bench import run_bench
from leafkit.pipeline.student import transformer
from leafkit.pipeline.student.full_size import student_at_full_size
from leafkit.pipeline.student.validation import Agreed
from leafkit.report.card import render_card
from leafkit.results import EvaluationResult

DOCUMENTS = [document for _, document in tiny.make_pairs()]
QUERIES = [f"{query} number {n}" for query, _ in tiny.make_pairs()[:50] for n in range(10)]
UNSEEN = [f"which {query} of the first value" for query, _ in tiny.make_pairs()[50:]]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tiny.make_home(tmp_path_factory.mktemp("home"))
    tiny.write_model(home / "narrow", hidden=24, seed=3)
    return home


def distill(home, start="small", teacher="big", **config) -> leafkit.Pair:
    settings = {"dim": 24, "tokens_per_batch": 512, "num_ridge_texts": 512, "num_epochs": 0.3}
    return leafkit.distill(
        f"model:{home / teacher}",
        f"model:{home / start}",
        DOCUMENTS,
        QUERIES,
        config=leafkit.StudentConfig(**settings | config),
        max_query_tokens=32,
        max_document_tokens=48,
        num_pseudo_texts=0,
        device="cpu",
        precision="float32",
    )


def teacher_vectors(home, texts, role) -> np.ndarray:
    teacher = read_encoder(home / "big")
    with torch.no_grad():
        raw = teacher(teacher.tokenize(texts, role, 48))
    return truncate_then_normalize(raw.numpy(), 24)


def test_the_pair_lives_in_the_first_dimensions(home):
    pair = distill(home, kind="instant")
    assert (pair.dim, pair.student.dim, pair.prefix_of, pair.mrl_dims) == (24, 24, 48, (24,))
    assert pair.space.teacher == read_encoder(home / "big").fingerprint
    expected = teacher_vectors(home, DOCUMENTS, "document")
    np.testing.assert_allclose(pair.document_matrix(), expected, atol=1e-5)
    np.testing.assert_allclose(pair.encode_document(DOCUMENTS), expected, atol=1e-5)
    found = (pair.encode_query(UNSEEN) * teacher_vectors(home, UNSEEN, "query")).sum(1)
    strangers = (pair.encode_query(UNSEEN) * teacher_vectors(home, UNSEEN[::-1], "query")).sum(1)
    assert found.mean() > 0.5
    assert found.mean() > strangers.mean()
    assert pair.search(UNSEEN[0], k=3)
    assert "24, the first of the teacher's 48" in repr(pair)


def test_it_trains_towards_the_cut_vectors(home, monkeypatch):
    seen: list[torch.Tensor] = []

    def fit(module, batches, **options):
        seen.append(batches[0].targets)
        options["metrics"]["loader"] = {}
        return []

    monkeypatch.setattr(transformer, "fit", fit)
    distill(home, num_checks=0)
    (vectors,) = seen
    assert vectors.shape[1] == 24
    known = torch.from_numpy(
        np.concatenate(
            [teacher_vectors(home, QUERIES, "query"), teacher_vectors(home, DOCUMENTS, "document")]
        )
    )
    assert (vectors @ known.T).max(dim=1).values.min() > 1 - 1e-5


def test_it_is_saved_loaded_and_asks_the_teacher_again(home, tmp_path):
    pair = distill(home, kind="instant")
    pair.save(tmp_path / "pair")
    about = read_space(tmp_path / "pair" / "student")
    assert (about["dim"], about["prefix_of"]) == (24, 48)
    again = leafkit.load_pair(tmp_path / "pair")
    np.testing.assert_allclose(again.encode_query(UNSEEN), pair.encode_query(UNSEEN), atol=1e-5)
    np.testing.assert_allclose(
        again.encode_document(DOCUMENTS[:3]), pair.encode_document(DOCUMENTS[:3]), atol=1e-5
    )
    again.save(tmp_path / "once more")
    assert read_space(tmp_path / "once more" / "student")["prefix_of"] == 48


def test_an_index_of_the_whole_teacher_is_cut(home, tmp_path):
    pair = distill(home, kind="instant")
    pair.save(tmp_path / "pair")
    whole = distill(home, kind="instant", dim=0)
    whole.save(tmp_path / "whole")
    old = tmp_path / "pair" / INDEX
    old.rename(tmp_path / "cut index")
    (tmp_path / "whole" / INDEX).rename(old)
    found = leafkit.load_pair(tmp_path / "pair")
    assert (found.dim, found.vectors.shape) == (24, (len(DOCUMENTS), 24))
    np.testing.assert_allclose(
        found.document_matrix(), pair.document_matrix(), atol=2e-3
    )  # stored in float16
    assert [h.id for h in found.search(UNSEEN[0])] == [h.id for h in pair.search(UNSEEN[0])]
    # the other way round there is nothing to be had
    (tmp_path / "cut index").rename(tmp_path / "whole" / INDEX)
    with pytest.raises(LeafkitError, match="48 dimensions and the teacher's 24"):
        leafkit.load_pair(tmp_path / "whole")


@pytest.mark.parametrize("prefix_of", [40, 0, "48", -1])
def test_a_student_that_says_nothing_of_it_is_refused(home, tmp_path, prefix_of):
    distill(home, kind="instant").save(tmp_path / "pair")
    distill(home, kind="instant", dim=0).save(tmp_path / "whole")
    about = tmp_path / "pair" / "student" / "leafkit.json"
    changed = json.loads(about.read_text()) | {"prefix_of": prefix_of}
    student = read_encoder(tmp_path / "pair" / "student")
    (tmp_path / "pair" / INDEX).rename(tmp_path / "cut")
    (tmp_path / "whole" / INDEX).rename(tmp_path / "pair" / INDEX)
    with publish(tmp_path / "pair" / "student", "student", {}, {}) as draft:
        write_encoder(student, draft, changed)
    is_number = type(prefix_of) is int and prefix_of >= 0
    match = "24 dimensions and the teacher's 48" if is_number else "prefix_of .* is not a number"
    with pytest.raises(LeafkitError, match=match):
        leafkit.load_pair(tmp_path / "pair")


def test_sentence_transformers_gives_its_vectors_and_the_card_says_how(home, tmp_path):
    library = pytest.importorskip(
        "sentence_transformers", reason="sentence-transformers is not installed"
    )
    pair = distill(home, kind="instant")
    pair.save(tmp_path / "pair")
    space = read_space(tmp_path / "pair" / "student")
    (tmp_path / "hub").mkdir()
    export_hub(ExportSource(pair.student, space), tmp_path / "hub")
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "dimensions: 24, the first of the teacher's 48, cut and normalized again" in card
    lines = card.partition("```python\n")[2].partition("```")[0]
    lines = lines.replace("FOLDER_OR_HUB_ID_OF_THIS_MODEL", str(tmp_path / "hub"))
    lines = lines.replace("FOLDER_OR_HUB_ID_OF_THE_TEACHER", str(home / "big"))
    found: dict[str, np.ndarray] = {}
    exec(lines, found)  # as a reader would
    text = ["Compute the inverse of a sparse matrix."]
    np.testing.assert_allclose(found["documents"], pair.encode_document(text), atol=1e-5)
    asked = pair.encode_query(["how do I invert a sparse matrix?"])
    np.testing.assert_allclose(found["queries"], asked, atol=1e-5)
    assert library is not None


def test_without_a_head_the_hidden_states_are_the_vectors(home, tmp_path, caplog):
    with caplog.at_level("INFO", logger="leafkit"):
        pair = distill(home, start="narrow", head="none", num_epochs=1.0)
    assert "no head: the start as it came has cosine" in caplog.text
    student = pair.student
    assert (student.projection, student.dim) == (None, 24)
    start = read_encoder(home / "narrow")
    assert student.num_parameters() == start.num_parameters()
    wanted = teacher_vectors(home, QUERIES, "query")

    def cosine(encoder) -> float:
        with torch.no_grad():
            ids = student.tokenize(QUERIES, "query", 32)
            return float((encoder.finish(encoder(ids)).numpy() * wanted).sum(1).mean())

    assert cosine(student) > cosine(start) + 0.05
    pair.save(tmp_path / "pair")
    modules = json.loads((tmp_path / "pair" / "student" / "modules.json").read_text())
    assert [m["type"].rpartition(".")[2] for m in modules] == [
        "Transformer",
        "Pooling",
        "Normalize",
    ]
    again = leafkit.load_pair(tmp_path / "pair")
    np.testing.assert_allclose(again.encode_query(UNSEEN), pair.encode_query(UNSEEN), atol=1e-5)


def test_a_table_learns_the_first_dimensions_too(home):
    config = leafkit.StaticConfig(width=8, document_epochs=0.5, query_epochs=0.5)
    pair = distill(home, kind="static", static=config)
    assert (pair.student.dim, pair.dim, pair.prefix_of) == (24, 24, 48)
    assert pair.search(UNSEEN[0], k=2)


def test_a_training_without_a_head_that_finds_no_more_ends_as_its_start(home, monkeypatch, caplog):
    monkeypatch.setattr(Agreed, "is_better", lambda self, other: False)
    with caplog.at_level("INFO", logger="leafkit"):
        ruined = distill(home, start="narrow", head="none").student
    assert "training found no more than the start as it came" in caplog.text
    start = read_encoder(home / "narrow").backbone.state_dict()
    for name, value in ruined.backbone.state_dict().items():
        assert torch.equal(value, start[name]), name


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"dim": 20}, "student.dim=20: the teacher model:.*big has 48 dimensions and Matryoshka"),
        ({"dim": 96}, "student.dim=96"),
        ({"dim": -1}, "student.dim"),
        ({"head": "none"}, "hidden states have 32 dimensions and the student's vectors 24"),
        ({"head": "none", "kind": "instant"}, "student.head: none leaves nothing to fit"),
        ({"head": "none", "head_layers": "all"}, "hands on the last layer alone"),
        ({"teacher": "small"}, "student.dim=24: .*small has 32 dimensions and no Matryoshka"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_work(home, config, message, monkeypatch):
    monkeypatch.setattr(api, "embed_groups", None)
    with pytest.raises(UsageError, match=message):
        distill(home, **config)


def test_a_recipe_is_refused_before_its_texts_are_embedded(home, tmp_path, start, monkeypatch):
    recipe = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    monkeypatch.setattr(recipe_steps, "load_targets", None)
    with pytest.raises(UsageError, match=r"student\.dim=20: the teacher .* Matryoshka at 24"):
        start(recipe, "student.dim=20")
    with pytest.raises(UsageError, match="head=none: the hidden states have 32 dimensions"):
        start(recipe, "student.head=none", "student.dim=24")


def test_a_student_without_a_head_counts_no_weight_of_one():
    config = leafkit.StudentConfig(init="builtin:minilm", head="none", dim=384)
    found = student_at_full_size(config, 384)
    assert found is not None
    assert found[1] == 0


@pytest.mark.slow
def test_a_whole_run_agrees_on_the_cut_space(home, tmp_path, start):
    recipe = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    words = ["student.dim=24", "inherit.precisions=[float32]"]
    run = start(recipe, *words, "student.losses.score_kl=1")
    assert read_encoder(run.folder / "student").dim == 24
    assert read_space_of_index(run.folder / INDEX).dim == 24
    # what the teacher gave is kept whole
    stores = list((tmp_path / "ck" / "vectors").glob("big-*/*.json"))
    dims = {json.loads(path.read_text()).get("space", {}).get("dim") for path in stores} - {None}
    assert dims == {48}
    result = EvaluationResult.load(run.folder / "bench" / "results.json")
    assert {row.system for row in result.collections[0].systems} >= {"teacher", "asymmetric"}
    report = collect_report(run, "leafkit distill")
    assert (report.student.dim, report.teacher.dim) == (24, 24)
    card = render_card(report)
    assert "dimensions: 24, the teacher's first, cut and normalized again" in card
    assert "truncate_dim=24" in card
    pair = leafkit.load_pair(run.folder)
    assert (pair.dim, pair.prefix_of) == (24, 48)
    measured = leafkit.evaluate(pair, num_resamples=100)
    values = [
        row.metrics["ndcg@10"].value
        for one in (result, measured)
        for row in one.collections[0].systems
        if row.system == "asymmetric"
    ]
    assert values[1] == pytest.approx(values[0], abs=0.02)
    before = (run.folder / INDEX / "vectors.npy").read_bytes()
    start(recipe, *words, work=run_embed)
    assert (run.folder / INDEX / "vectors.npy").read_bytes() == before
    # the whole teacher is another dimension
    with pytest.raises(LeafkitError, match="24 dimensions and the teacher's 48") as caught:
        start(recipe, work=run_bench)
    assert "student.dim" in caught.value.hint
