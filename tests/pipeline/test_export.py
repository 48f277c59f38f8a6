"""leafkit export of a finished run, and a search that answers with what it wrote."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.data.vector_store import Space
from leafkit.embedders.lookup_table import LookupTableEmbedder
from leafkit.embedders.onnx_graph import OnnxGraphEmbedder
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.exporters.snippet import graph_snippet
from leafkit.models.checkpoint import read_encoder
from leafkit.models.encoder_protocol import read_model
from leafkit.models.folder import read_space
from leafkit.pipeline import load_pair as search_module
from leafkit.pipeline.export import export, run_export
from leafkit.pipeline.exports.recipe_folders import export_folders, hub_id_of_start
from leafkit.pipeline.load_pair import load_pair
from leafkit.results import EvaluationResult, GraphQuality


@pytest.fixture(scope="module")
def exported_once(finished, home, start, tmp_path_factory):
    """Checkpoints of a finished run with its graphs; read only: take ``exported``."""
    folder = tmp_path_factory.mktemp("exported")
    shutil.copytree(finished / "ck", folder / "ck")
    recipe = tiny.write_recipe(folder / "tiny.yaml", tiny.tiny_recipe(home, folder / "ck"))
    start(recipe, work=run_export)
    return folder / "ck"


@pytest.fixture
def exported(exported_once, done):
    """Folder of a finished run with its graphs, in a copy that a test may damage."""
    shutil.copytree(exported_once, done.parent / "ck", dirs_exist_ok=True)
    return done.parent / "ck" / "tiny"


def test_both_graphs_come_with_what_int8_costs(capsys, done, start):
    exported = start(done, work=run_export).folder
    losses = GraphQuality.load(exported / "export" / "quality.json").losses
    assert set(losses) == {"float32", "int8"}
    assert abs(losses["float32"].value) <= 1e-3
    for loss in losses.values():
        assert loss.low <= loss.value <= loss.high
        assert loss.n == 12
    assert "int8 graph: smallest cosine with the model" in capsys.readouterr().out


def test_the_snippet_gives_the_students_own_vector(exported):
    code = graph_snippet(exported / "export")
    assert repr(tiny.PROMPT) in code
    found: dict[str, np.ndarray] = {}
    exec(code, found)  # the code is what is tested
    own = read_encoder(exported / "student")
    with torch.no_grad():
        expected = own.finish(own(own.tokenize(["how do I sort a list"], "query")))[0].numpy()
    assert np.allclose(found["vector"], expected, atol=1e-4)


def test_a_search_answers_through_the_graph_as_the_student_does(exported, monkeypatch):
    question = tiny.make_pairs()[3][0]
    monkeypatch.setattr(search_module, "_LARGEST_LOSS", -1.0)  # no int8 graph is good enough
    graph = load_pair(exported)
    assert isinstance(graph.embedder, OnnxGraphEmbedder)
    monkeypatch.setattr(search_module, "_open_graph", lambda *args: None)
    plain = load_pair(exported)
    assert isinstance(plain.embedder, TransformerEmbedder)
    ours, theirs = graph.search(question, 5), plain.search(question, 5)
    assert [hit.id for hit in ours] == [hit.id for hit in theirs]
    np.testing.assert_allclose([h.score for h in ours], [h.score for h in theirs], atol=1e-5)


def test_the_int8_graph_answers_where_its_loss_is_small(exported, monkeypatch):
    monkeypatch.setattr(search_module, "_LARGEST_LOSS", 1.0)
    assert "int8" in load_pair(exported).embedder._session._model_path


@pytest.mark.slow
def test_a_graph_of_an_earlier_student_is_not_used(exported, done, start, capsys):
    start(done, "student.optimizer.lr=3.0e-3")
    pair = load_pair(exported)
    assert isinstance(pair.embedder, TransformerEmbedder)
    assert "is of an earlier student and is not used" in " ".join(capsys.readouterr().out.split())


def test_without_onnxruntime_the_student_itself_answers(exported, monkeypatch):
    monkeypatch.setattr(search_module.importlib.util, "find_spec", lambda name: None)
    assert isinstance(load_pair(exported).embedder, TransformerEmbedder)


def test_a_damaged_graph_is_refused(exported):
    path = exported / "export" / "query.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(LeafkitError, match="does not have the sha256"):
        load_pair(exported)


@pytest.mark.slow
def test_a_static_student_goes_the_whole_road(home, tmp_path, start):
    """distill, bench, inherit, search and report of a table; its index is that of any other student
    of this teacher.
    """
    value = tiny.tiny_recipe(home, tmp_path / "ck")
    value["student"] |= {
        "kind": "static",
        "static": {"width": 16, "texts_per_batch": 16, "lr": 0.02, "query_lr": 0.01},
    }
    run = start(tiny.write_recipe(tmp_path / "tiny.yaml", value))
    bench = EvaluationResult.load(run.folder / "bench" / "results.json")
    assert {row.encoder for row in bench.latency} == {"teacher", "student"}
    pair = load_pair(run.folder)
    assert isinstance(pair.embedder, LookupTableEmbedder)
    assert len(pair.search(tiny.make_pairs()[3][0], 5)) == 5
    teacher = read_encoder(home / "big")
    assert (
        json.loads((run.folder / "index" / "space.json").read_text())["teacher"]
        == teacher.fingerprint
    )
    with pytest.raises(LeafkitError, match="is a table: it answers faster without a graph"):
        start(tmp_path / "tiny.yaml", work=run_export)


def test_a_finished_folder_is_exported_with_the_card_of_its_report(exported, tmp_path):
    card = "---\ntags:\n- leaf\n---\n\n# {}\n\nAs its report describes it.\n"
    written = card.format("the recipe's name")
    (exported / "README.md").write_text(written, encoding="utf-8")
    places = export(str(exported), tmp_path / "out", to=["hub"], license="mit")
    assert places["student"] == tmp_path / "out" / "hub" / "student"
    found = (places["student"] / "README.md").read_text(encoding="utf-8")
    card = card.format("tiny")  # titled by what is exported
    assert found.replace("license: mit\n", "").startswith(card)
    assert repr(tiny.PROMPT) in found.removeprefix(card)
    student, again = read_model(exported / "student"), read_model(places["student"])
    assert again.spec == student.spec
    assert read_space(places["student"])["teacher"] == read_space(exported / "student")["teacher"]
    # the teacher, as it embedded the documents of the index
    pair, teacher = load_pair(exported), read_model(places["teacher"])
    texts = [document.full_text for document in pair.documents[:5]]
    with torch.no_grad():
        vectors = teacher.finish(teacher(teacher.tokenize(texts, "document"))).numpy()
    np.testing.assert_allclose(vectors, pair.vectors[:5], atol=1e-3)  # float16
    assert teacher.spec.max_tokens == 48
    # a model folder alone is exported too, and gets a card
    more = export(places["student"], tmp_path / "again", name="mini")
    assert "# mini" in (more["student"] / "README.md").read_text(encoding="utf-8")
    assert set(more) == {"student"}


def test_the_teachers_folder_cuts_where_the_index_did(done, start, capsys):
    def teacher_of(*words: str, **options) -> int:
        run = start(done, *words, work=lambda run: export_folders(run, ["teacher"], **options))
        return read_model(run.folder / "hub" / "teacher").spec.max_tokens

    # as after leafkit distill ... data.max_document_tokens=48 of a recipe that says 20
    assert teacher_of("data.max_document_tokens=20") == 48
    said = " ".join(capsys.readouterr().out.split())
    assert "were cut at 48 tokens, not at the recipe's 20" in said
    with pytest.raises(UsageError, match=r"data\.max_document_tokens=20: the documents of .* 48"):
        teacher_of("data.max_document_tokens=20", is_cut_given=True)
    assert teacher_of("data.max_document_tokens=48", is_cut_given=True) == 48
    assert "not at the recipe's" not in capsys.readouterr().out
    for path in (done.parent / "ck").rglob("index/space.json"):
        path.unlink()  # no index decides
    assert teacher_of("data.max_document_tokens=20", is_cut_given=True) == 20


@pytest.mark.parametrize(
    ("start_model", "hub_id"),
    [
        ("model:owner/mini@" + "a" * 40, "owner/mini"),
        ("model:models/mini", ""),  # a folder, of another working folder perhaps
        ("model:models/mini@main", ""),
        ("tiny:bert", ""),
        ("builtin:minilm", "sentence-transformers/all-MiniLM-L6-v2"),
    ],
)
def test_a_start_model_is_named_where_it_came_from_the_hub(start_model, hub_id):
    assert hub_id_of_start({"student": {"init": start_model}}) == hub_id
    assert hub_id_of_start({"student": {"init": start_model, "kind": "static"}}) == ""


def test_a_pair_is_exported_into_the_space_of_its_documents(tmp_path):
    student = tiny.make_encoder().eval()
    space = Space("abc", student.dim, "", 64, "mean", normalized=True)
    pair = SimpleNamespace(
        student=student,
        space=space,
        reference="model:big",
        teacher_prompts={},
        prefix_of=0,
        teacher=SimpleNamespace(encoder=tiny.make_encoder(seed=1).eval()),
    )
    places = export(pair, tmp_path / "out", to=["hub"])
    assert read_model(places["teacher"]).spec.max_tokens == 64
    found = read_space(places["student"])
    assert (found["teacher"], found["teacher_reference"]) == ("abc", "model:big")


def test_an_export_needs_a_folder_and_a_license_that_is_one(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        export(tmp_path / "nowhere", tmp_path / "hub")
    with pytest.raises(UsageError, match="is not an identifier"):
        export(tmp_path, tmp_path / "hub", license="MIT\nevil: yes")
    assert not (tmp_path / "hub").exists()
