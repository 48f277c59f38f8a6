"""Prompts for a model whose files have none: they reach vectors, fingerprints, students and what is
served.
"""

from __future__ import annotations

import numpy as np
import pytest
import tiny

import leafkit
from leafkit.config.load import load_recipe
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.embedders.make_embedder import make_embedder
from leafkit.models.checkpoint import read_encoder
from leafkit.models.folder import read_space
from leafkit.models.static_encoder import StaticEncoder, bare_tokenizer
from leafkit.pipeline.load_pair import load_pair
from leafkit.pipeline.model_handle import load_student, load_teacher
from leafkit.pipeline.run import open_run

QUERY, DOCUMENT = "find the answer : ", "table : "
GIVEN = (f"teacher.query_prompt={QUERY}", f"teacher.document_prompt={DOCUMENT}")


def foreign(folder, **settings):
    """A model folder that leafkit did not write."""
    tiny.write_model(folder, hidden=48, seed=1, **settings)
    (folder / "leafkit.json").unlink()
    return folder


@pytest.fixture
def recipe(home, tmp_path):
    content = tiny.tiny_recipe(home, tmp_path / "ck")
    content["teacher"]["source"] = f"model:{foreign(tmp_path / 'e5')}"
    content["inherit"] = {"precisions": ["float32"]}
    return tiny.write_recipe(tmp_path / "tiny.yaml", content)


def expected_vectors(folder, texts, role):
    prompted = tiny.with_spec(read_encoder(folder), prompts={"query": QUERY, "document": DOCUMENT})
    return make_embedder(prompted).embed(texts, role, 64)


@pytest.mark.slow
def test_they_reach_teacher_student_pair_search_serve_and_bench(recipe, tmp_path, start):
    run = start(recipe, *GIVEN)
    student = read_encoder(run.folder / "student")
    assert student.spec.prompts == {"query": QUERY, "document": DOCUMENT}
    pair = load_pair(run.folder)
    text = "sort the table"
    np.testing.assert_allclose(
        pair.encode_document(text),
        expected_vectors(tmp_path / "e5", [text], "document")[0],
        atol=1e-5,
    )
    assert pair.teacher.prompt("query") == QUERY
    assert pair.search(text, k=1)
    pair.save(tmp_path / "saved")
    again = load_pair(tmp_path / "saved")
    np.testing.assert_array_equal(again.encode_document(text), pair.encode_document(text))
    hub = leafkit.export(again, tmp_path / "hub", to=["student"])["student"]
    assert read_space(hub)["teacher_prompts"] == {"query": QUERY, "document": DOCUMENT}
    # the finished student beside its teacher, named by hand: the prompts are asked for
    word = f"bench.student=model:{run.folder / 'student'}"
    with open_run(load_recipe(str(recipe), (word,))) as other:
        teacher = load_teacher(other)
        with pytest.raises(LeafkitError, match=r"distilled from .* under given prompts") as err:
            load_student(other, teacher)
    assert QUERY in err.value.hint
    with open_run(load_recipe(str(recipe), (word, *GIVEN))) as other:
        assert load_student(other, load_teacher(other)).teacher_prompts


def test_another_prompt_is_another_space_and_trains_again(recipe, start, tmp_path):
    names = []
    for words in ((), GIVEN[:1], GIVEN, (GIVEN[0] + "x ",)):
        with open_run(load_recipe(str(recipe), words)) as run:
            names.append(load_teacher(run).space_id)
    assert len(set(names)) == 4


@pytest.mark.parametrize("own", [{"query": "own : "}, {"query": "own : ", "document": "d : "}])
def test_a_users_word_counts_more_than_a_foreign_files_and_is_said(recipe, tmp_path, caplog, own):
    folder = foreign(tmp_path / "own", prompts=own)
    with open_run(load_recipe(str(recipe), (f"teacher.source=model:{folder}", *GIVEN))) as run:
        teacher = load_teacher(run)
    assert (teacher.model.prompt("query"), teacher.model.prompt("document")) == (QUERY, DOCUMENT)
    assert caplog.text.count("that was given, not 'own : '") == 1
    assert caplog.text.count("that was given, not 'd : '") == ("document" in own)


def test_a_prompt_that_the_files_have_already_changes_nothing(recipe, tmp_path, caplog):
    folder = foreign(tmp_path / "own", prompts={"query": QUERY})
    ids = []
    for words in ((), GIVEN[:1]):
        with open_run(load_recipe(str(recipe), (f"teacher.source=model:{folder}", *words))) as run:
            ids.append(load_teacher(run).space_id)
    assert ids[0] == ids[1]
    assert "that was given" not in caplog.text


@pytest.mark.parametrize("key", ["query", "document"])
def test_a_model_that_leafkit_trained_takes_no_other_prompt(recipe, home, key):
    words = (f"teacher.source=model:{home / 'big'}", f"teacher.{key}_prompt=other : ")
    with (
        open_run(load_recipe(str(recipe), words)) as run,
        pytest.raises(UsageError, match=f"teacher.{key}_prompt=.* was trained with"),
    ):
        load_teacher(run)


def test_students_in_bench_get_them_where_their_files_have_none(recipe, tmp_path):
    theirs = foreign(tmp_path / "theirs")
    words = (*GIVEN, f"bench.student=model:{theirs}", "bench.same_space=true")
    with open_run(load_recipe(str(recipe), words)) as run:
        student = load_student(run, load_teacher(run))
    assert student.model.prompt("query") == QUERY
    texts = ["draw a graph"]
    np.testing.assert_allclose(
        student.model.embed(texts, "query", 64), expected_vectors(theirs, texts, "query"), atol=1e-6
    )


def test_the_api_gives_them_to_references_alone(tmp_path):
    folder = foreign(tmp_path / "e5")
    pair = leafkit.distill(
        f"model:{folder}",
        tiny.make_encoder(),
        texts=["sort the table", "draw a graph", "merge a queue"],
        query_prompt=QUERY,
        num_pseudo_texts=60,
    )
    assert pair.embedder.prompt("query") == QUERY
    pair.save(tmp_path / "pair")
    assert load_pair(tmp_path / "pair").teacher.prompt("query") == QUERY
    with pytest.raises(UsageError, match="are for references"):
        leafkit.distill(read_encoder(folder), texts=["sort the table"], query_prompt=QUERY)
    with pytest.raises(UsageError, match=r"teacher\.query_prompt"):
        leafkit.distill("recipe:kalm-mini-lite", texts=["sort the table"], query_prompt=QUERY)


def test_a_static_students_teacher_is_found_again_with_them(tmp_path):
    folder = foreign(tmp_path / "e5")
    pair = leafkit.distill(
        f"model:{folder}",
        tiny.make_encoder(),
        texts=["sort the table", "draw a graph", "merge a queue"],
        config=leafkit.StudentConfig(kind="static"),
        document_prompt=DOCUMENT * 6,
        num_pseudo_texts=8,
    )
    pair.save(tmp_path / "pair")
    assert load_pair(tmp_path / "pair").teacher.prompt("document") == DOCUMENT * 6
    assert isinstance(pair.student, StaticEncoder)
    assert (
        bare_tokenizer(tiny.make_tokenizer()).get_vocab_size() == pair.student.table.num_embeddings
    )
