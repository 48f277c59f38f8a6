"""mteb itself runs leafkit's models, and finds what leafkit's benchmark finds."""

from __future__ import annotations

import importlib
import json
import random
from pathlib import Path
from typing import Any

import mteb_task
import numpy as np
import pytest
import tiny
import torch

from leafkit.config import DataConfig
from leafkit.core.errors import LeafkitError, MissingExtra, UsageError
from leafkit.data.mteb_source import collect_task
from leafkit.data.prompts import KALM_TEMPLATE
from leafkit.data.records import Collection
from leafkit.data.sources import read_collection
from leafkit.embedders.lookup_table import LookupTableEmbedder
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.evaluation.benchmark import run_benchmark
from leafkit.evaluation.mteb_encoder import MtebEncoder, load_for_mteb, wrap_for_mteb
from leafkit.evaluation.tasks import run_task
from leafkit.models.checkpoint import load_encoder, read_encoder, write_encoder
from leafkit.models.folder import fingerprint_of_folder
from leafkit.models.precision import choose_precision
from leafkit.models.static_encoder import StaticEncoder, bare_tokenizer, read_static, write_static

CPU = torch.device("cpu")


class Memo:
    """An Embedder that embeds a text once; the same text of both harnesses is the same vector."""

    def __init__(self, embedder: TransformerEmbedder) -> None:
        self._embedder = embedder
        self._known: dict[tuple, np.ndarray] = {}

    def __getattr__(self, name):
        return getattr(self._embedder, name)

    def embed(self, texts, role, max_tokens, bar=None):
        limit = min(max_tokens, self._embedder.encoder.spec.max_tokens)
        new = list(dict.fromkeys(text for text in texts if (text, role, limit) not in self._known))
        vectors = self._embedder.embed(new, role, limit)
        self._known |= {
            (text, role, limit): vector for text, vector in zip(new, vectors, strict=True)
        }
        return np.stack([self._known[text, role, limit] for text in texts])


class Spy:
    """An Embedder that remembers what it embedded in which role."""

    def __init__(self, embedder: TransformerEmbedder) -> None:
        self._embedder = embedder
        self.seen: list[tuple[str, str]] = []

    def __getattr__(self, name):
        return getattr(self._embedder, name)

    def embed(self, texts, role, max_tokens, bar=None):
        self.seen += [(role, text) for text in texts]
        return self._embedder.embed(texts, role, max_tokens)


def make_embedder(**settings) -> TransformerEmbedder:
    return TransformerEmbedder(tiny.make_encoder(**settings), CPU, torch.float32)


def make_pair() -> tuple[Spy, Spy]:
    """A student and a teacher of one dimension; both know a prompt for queries."""
    student = make_embedder(hidden=32, dim=48, seed=2, prompts={"query": tiny.PROMPT})
    return Spy(student), Spy(make_embedder(hidden=48, seed=1, prompts={"query": tiny.PROMPT}))


def tiny_task() -> tuple[Any, Collection]:
    """A task of graded judgments and titles, and the collection it is."""
    rows = tiny.make_pairs(40)
    corpus = [
        {"id": f"d{i}", "title": f"title {i % 3}", "text": text} for i, (_, text) in enumerate(rows)
    ]
    queries = [{"id": f"q{i}", "text": text} for i, (text, _) in enumerate(rows[:12])]
    task = mteb_task.make_task(
        corpus,
        queries,
        {f"q{i}": {f"d{i}": 2, f"d{i + 12}": 1, f"d{i + 20}": 0} for i in range(12)},
    )
    task.load_data()
    return task, collect_task(task, "default", "test")


def run_mteb(model: MtebEncoder, task) -> float:
    """The task's main score."""
    mteb = pytest.importorskip("mteb", reason=mteb_task.MISSING)
    result = mteb.evaluate(
        model, task, cache=None, co2_tracker=False, encode_kwargs={"batch_size": 7}
    )
    (scores,) = result.task_results[0].scores["test"]
    return scores["main_score"]


def leafkit_score(
    collection: Collection, queries, documents, query_tokens: int, document_tokens: int
) -> float:
    vectors = (
        queries.embed([q.text for q in collection.judged("test")], "query", query_tokens),
        documents.embed([d.full_text for d in collection.documents], "document", document_tokens),
    )
    measured = run_benchmark(
        collection, "test", {"teacher": vectors}, kind="out-of-domain", num_resamples=10, seed=0
    )
    systems = {row.system: row for row in measured.result.systems}
    return systems["teacher"].metrics["ndcg@10"].value


def collection_of(corpus, queries, qrels, folder: Path) -> Collection:
    """The same rows through leafkit's own reader."""
    (folder / "qrels").mkdir(parents=True)
    for name, rows in (("corpus", corpus), ("queries", queries)):
        lines = [
            json.dumps({"_id": row["id"]} | {k: v for k, v in row.items() if k != "id"})
            for row in rows
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    lines = [f"{q}\t{d}\t{grade}" for q, grades in qrels.items() for d, grade in grades.items()]
    (folder / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "\n".join(lines), encoding="utf-8"
    )
    return read_collection(f"beir:{folder}", DataConfig())


def minilm(precision: str = "float32") -> TransformerEmbedder:
    return TransformerEmbedder(
        load_encoder("builtin:minilm"), CPU, choose_precision(precision, CPU)
    )


@pytest.mark.slow
def test_mteb_finds_leafkit_s_ndcg_on_a_part_of_scifact(shared_data: Path, tmp_path: Path):
    corpus, queries, qrels = mteb_task.read_beir_rows(shared_data / "scifact")
    chooser = random.Random(0)
    queries = chooser.sample(queries, 25)
    qrels = {row["id"]: qrels[row["id"]] for row in queries}
    needed = {document for grades in qrels.values() for document in grades}
    others = chooser.sample([row for row in corpus if row["id"] not in needed], 75)
    corpus = [row for row in corpus if row["id"] in needed] + others
    model = minilm()
    found = run_mteb(
        wrap_for_mteb(model, name="minilm", max_document_tokens=48),
        mteb_task.make_task(corpus, queries, qrels),
    )
    expected = leafkit_score(
        collection_of(corpus, queries, qrels, tmp_path / "scifact"), model, model, 256, 48
    )
    assert found == pytest.approx(expected, abs=1e-4)
    assert 0.5 < found < 0.99


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_mteb_finds_leafkit_s_ndcg_on_scifact(shared_data: Path):
    """.645 is published for all-MiniLM-L6-v2."""
    rows = mteb_task.read_beir_rows(shared_data / "scifact")
    model = Memo(minilm("auto"))  # bf16 where it is faster: 5,183 documents take minutes
    found = run_mteb(
        wrap_for_mteb(model, name="minilm", references=["builtin:minilm"]),
        mteb_task.make_task(*rows),
    )
    collection = read_collection(f"beir:{shared_data / 'scifact'}", DataConfig())
    assert found == pytest.approx(leafkit_score(collection, model, model, 256, 256), abs=1e-4)
    assert found == pytest.approx(0.645, abs=0.002)


def test_a_pair_s_queries_go_to_the_student_and_its_documents_to_the_teacher():
    student, teacher = make_pair()
    task, collection = tiny_task()
    found = run_mteb(wrap_for_mteb(student, teacher, name="pair"), task)
    rows = tiny.make_pairs(40)
    assert sorted(student.seen) == sorted(("query", text) for text, _ in rows[:12])
    assert sorted(teacher.seen) == sorted(
        ("document", f"title {i % 3} {text}") for i, (_, text) in enumerate(rows)
    )
    expected = leafkit_score(collection, student, teacher, 128, 128)
    # graded judgments, title and text, prompts before queries
    assert found == pytest.approx(expected, abs=1e-4)
    assert found != pytest.approx(run_mteb(wrap_for_mteb(student, name="single"), task), abs=1e-3)


def test_cuts_are_those_of_the_benchmark():
    student, teacher = make_pair()
    task, collection = tiny_task()
    found = run_mteb(
        wrap_for_mteb(student, teacher, name="pair", max_query_tokens=9, max_document_tokens=12),
        task,
    )
    assert found == pytest.approx(leafkit_score(collection, student, teacher, 9, 12), abs=1e-4)
    assert found != pytest.approx(leafkit_score(collection, student, teacher, 128, 128), abs=1e-4)


def encode(model: MtebEncoder, batches, prompt_type=None):
    about = type("Metadata", (), {"name": "Task"})
    return model.encode(
        batches,
        task_metadata=about,
        hf_split="test",
        hf_subset="default",
        prompt_type=prompt_type,
        batch_size=2,
    )


def test_texts_of_symmetric_tasks_go_to_the_student_as_queries():
    student, teacher = make_pair()
    model = MtebEncoder(student, teacher, meta=None)
    texts = [text for text, _ in tiny.make_pairs(5)]
    vectors = encode(model, [{"text": texts[:2]}, {"text": texts[2:]}])
    assert student.seen == [("query", text) for text in texts]
    assert teacher.seen == []
    np.testing.assert_allclose(vectors, student.embed(texts, "query", 128), atol=1e-6)
    assert vectors.dtype == np.float32
    types = pytest.importorskip("mteb.types", reason=mteb_task.MISSING)
    encode(model, [{"text": texts}], types.PromptType.document)
    assert teacher.seen == [("document", text) for text in texts]
    assert len(encode(model, [{"text": texts}], types.PromptType.query)) == 5
    assert student.seen[-1][0] == "query"


KALM = {"SciFact": "Find the paper.", "STS": "", "query": "Answer."}


@pytest.mark.parametrize("given", [{}, KALM], ids=["tasks' own", "given"])
@pytest.mark.parametrize(
    "name",
    [
        "SciFact",
        "ArguAna",
        "QuoraRetrieval",
        "STS12",
        "Banking77Classification",
        "SprintDuplicateQuestions",
    ],
)
def test_the_prompt_of_a_task_is_the_one_mteb_s_own_wrapper_makes(name: str, given: dict[str, str]):
    """KaLM-Embedding's figures are taken under these prompts."""
    mteb = pytest.importorskip("mteb", reason=mteb_task.MISSING)
    encoders = pytest.importorskip("mteb.models.abs_encoder")
    types = pytest.importorskip("mteb.types")
    about = mteb.get_task(name).metadata

    class Wrapper(encoders.AbsEncoder):
        instruction_template = KALM_TEMPLATE.removesuffix("{query}")
        prompts_dict = given

        def encode(self, *_, **__):
            raise NotImplementedError

    student, teacher = make_pair()
    told = Spy(
        TransformerEmbedder(
            tiny.with_spec(student.encoder, templates={"query": KALM_TEMPLATE}), CPU, torch.float32
        )
    )
    by_template = MtebEncoder(
        student, teacher, meta=None, template=KALM_TEMPLATE, instructions=given
    )
    by_folder = MtebEncoder(told, teacher, meta=None, instructions=given)
    is_search = "Retrieval" in about.type
    prompt_type = types.PromptType.query if is_search else None
    expected = Wrapper().get_task_instruction(about, prompt_type)
    if about.type == "STS" and given:
        expected = ""  # as KaLM-Embedding's own wrapper; the general one takes "" for no answer
    assert by_template.query_prompt(about, prompt_type) == expected
    assert by_folder.query_prompt(about, prompt_type) == expected
    settings = {"task_metadata": about, "hf_split": "test", "hf_subset": "default"}
    texts = [text for text, _ in tiny.make_pairs(3)]
    found = by_folder.encode([{"text": texts}], prompt_type=prompt_type, **settings)
    bare = tiny.with_spec(student.encoder, prompts={})
    written = [expected + text for text in texts]
    plain = TransformerEmbedder(bare, CPU, torch.float32).embed(written, "query", 128)
    np.testing.assert_array_equal(found, plain)
    by_folder.encode([{"text": texts}], prompt_type=types.PromptType.document, **settings)
    assert teacher.seen == [("document", text) for text in texts]


def test_instructions_that_nothing_takes_are_refused():
    student, teacher = make_pair()
    with pytest.raises(UsageError, match="no template with a place for one"):
        MtebEncoder(student, teacher, meta=None, instructions={"STS": "x"})
    with pytest.raises(UsageError, match="does not end with"):
        MtebEncoder(student, teacher, meta=None, template="{query} please")
    fixed = MtebEncoder(student, teacher, meta=None, template="query: {query}")
    about = type("Metadata", (), {"name": "Task"})
    assert fixed.query_prompt(about, "query") == "query: "


def labelled(count: int) -> list[dict]:
    """Texts labelled by the thing they are about; for mteb under its own column names too."""
    rows = tiny.make_pairs(count)
    return [
        {"text": text, "label": f"label {i % 4}", "split": "train" if i < count // 2 else "test"}
        | {"sentences": text, "labels": f"label {i % 4}"}
        for i, (text, _) in enumerate(rows)
    ]


def test_mteb_s_sts_is_leafkit_s(tmp_path: Path):
    """A pair on a symmetric task: the student alone, with its prompt before both texts."""
    student, teacher = make_pair()
    rows = [
        {"s1": a, "s2": b, "score": float(i % 6), "sentence1": a, "sentence2": b, "split": "test"}
        for i, ((a, _), (b, _)) in enumerate(
            zip(tiny.make_pairs(30), tiny.make_pairs(60)[30:], strict=True)
        )
    ]
    task = mteb_task.make_other_task("AbsTaskSTS", rows, "cosine_spearman", type="STS")
    task.min_score, task.max_score = 0, 5
    of_mteb = run_mteb(wrap_for_mteb(student, teacher, name="pair"), task)
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task_score = run_task(
        f"sts:{path}",
        ["student"],
        lambda encoder, texts, role: student.embed(texts, role, 128),
        num_resamples=50,
        seed=0,
    )
    assert of_mteb == pytest.approx(task_score.scores["student"].value, abs=1e-6)
    assert abs(of_mteb) > 1e-3
    assert teacher.seen == []


@pytest.mark.parametrize(
    ("base", "kind", "score"),
    [
        ("AbsTaskClassification", "Classification", "accuracy"),
        ("AbsTaskClustering", "Clustering", "v_measure"),
    ],
)
def test_mteb_runs_a_pair_on_labels_with_the_student(base, kind, score):
    student, teacher = make_pair()
    task = mteb_task.make_other_task(base, labelled(60), score, type=kind, category="t2c")
    if kind == "Clustering":
        task.max_fraction_of_documents_to_embed, task.max_documents_per_cluster = None, 20
    assert 0 <= run_mteb(wrap_for_mteb(student, teacher, name="pair"), task) < 1
    assert {role for role, _ in student.seen} == {"query"}
    assert teacher.seen == []


def test_mteb_takes_it_for_an_encoder_and_not_for_a_searcher():
    models = pytest.importorskip("mteb.models", reason=mteb_task.MISSING)
    model = wrap_for_mteb(make_embedder(), name="tiny")
    assert isinstance(model, models.EncoderProtocol)
    assert not isinstance(model, models.SearchProtocol | models.CrossEncoderProtocol)


@pytest.mark.parametrize("normalized", [True, False])
def test_similarity_is_what_leafkit_ranks_by(normalized):
    model = MtebEncoder(*[make_embedder(normalized=normalized)] * 2, meta=None)
    a, b = np.array([[3.0, 4.0], [0.0, 2.0]]), np.array([[6.0, 8.0], [5.0, 0.0]])
    expected = [[1.0, 0.6], [0.8, 0.0]] if normalized else [[50.0, 15.0], [16.0, 0.0]]
    np.testing.assert_allclose(model.similarity(a, b), expected, atol=1e-6)
    np.testing.assert_allclose(model.similarity_pairwise(a, b), np.diag(expected), atol=1e-6)
    np.testing.assert_allclose(
        model.similarity(torch.tensor(a[0]), torch.tensor(b)), expected[:1], atol=1e-6
    )


def test_models_that_share_no_dimension_are_refused():
    with pytest.raises(LeafkitError, match="have 32 dimensions and the teacher's 48"):
        MtebEncoder(make_embedder(hidden=32), make_embedder(hidden=48), meta=None)


def test_a_pair_is_loaded_by_reference_unless_it_is_no_pair(tmp_path: Path):
    pytest.importorskip("mteb", reason=mteb_task.MISSING)
    teacher = tiny.write_model(tmp_path / "teacher", hidden=48, seed=1)
    other = tiny.write_model(tmp_path / "other", hidden=48, seed=2)
    space = {
        "kind": "student",
        "teacher": fingerprint_of_folder(teacher),
        "teacher_reference": f"model:{teacher}",
    }
    write_encoder(tiny.make_encoder(hidden=32, dim=48), tmp_path / "student", space)
    settings = {"name": "pair", "device": "cpu", "precision": "float32"}
    pair = load_for_mteb(f"model:{tmp_path / 'student'}", f"model:{teacher}", **settings)
    texts = [text for text, _ in tiny.make_pairs(3)]
    for folder, prompt_type in ((tmp_path / "student", "query"), (teacher, "document")):
        expected = TransformerEmbedder(read_encoder(folder), CPU, torch.float32).embed(
            texts, prompt_type, 128
        )
        np.testing.assert_allclose(
            encode(pair, [{"text": texts}], prompt_type), expected, atol=1e-6
        )
    assert pair.mteb_model_meta.model_type == ["router"]
    assert load_for_mteb(f"model:{teacher}", **settings).mteb_model_meta.model_type == ["dense"]
    with pytest.raises(LeafkitError, match="student lives in the space of teacher") as caught:
        load_for_mteb(f"model:{tmp_path / 'student'}", f"model:{other}", **settings)
    assert str(teacher) in caught.value.hint


def test_two_models_that_merely_have_one_dimension_are_no_pair_unless_the_user_says_so(
    tmp_path: Path,
):
    pytest.importorskip("mteb", reason=mteb_task.MISSING)
    one, other = (
        f"model:{tiny.write_model(tmp_path / name, hidden=48, seed=i)}"
        for i, name in enumerate(("one", "other"))
    )
    settings = {"name": "pair", "device": "cpu", "precision": "float32"}
    with pytest.raises(
        LeafkitError, match=r"no telling whether .*one lives in the space of .*other"
    ) as caught:
        load_for_mteb(one, other, **settings)
    assert "same_space=True" in caught.value.hint
    assert load_for_mteb(one, other, same_space=True, **settings).mteb_model_meta.model_type == [
        "router"
    ]
    assert load_for_mteb(one, one, **settings).mteb_model_meta.embed_dim == 48


def test_a_static_student_is_loaded_with_its_teacher(tmp_path: Path):
    pytest.importorskip("mteb", reason=mteb_task.MISSING)
    teacher = tiny.write_model(tmp_path / "teacher", hidden=48, seed=1)
    tokenizer = bare_tokenizer(tiny.make_tokenizer())
    num_tokens = tokenizer.get_vocab_size()
    static = StaticEncoder(tokenizer, torch.randn(num_tokens, 8), torch.nn.Linear(8, 48))
    (tmp_path / "student").mkdir()
    space = {
        "kind": "student",
        "teacher": fingerprint_of_folder(teacher),
        "teacher_reference": f"model:{teacher}",
    }
    write_static(static, tmp_path / "student", space)
    pair = load_for_mteb(
        f"model:{tmp_path / 'student'}",
        f"model:{teacher}",
        name="pair",
        device="cpu",
        precision="float32",
    )
    texts = [text for text, _ in tiny.make_pairs(3)]
    expected = LookupTableEmbedder(read_static(tmp_path / "student")).embed(texts, "query", 128)
    np.testing.assert_allclose(encode(pair, [{"text": texts}], "query"), expected, atol=1e-6)
    big = read_encoder(teacher)
    meta = pair.mteb_model_meta
    assert meta.n_parameters == static.num_parameters() + big.num_parameters()
    assert (
        meta.n_embedding_parameters
        == num_tokens * 8 + big.backbone.get_input_embeddings().weight.numel()
    )


def test_bad_inputs_and_vectors_are_refused_by_name():
    student, teacher = make_pair()
    model = MtebEncoder(student, teacher, meta=None)
    with pytest.raises(LeafkitError, match="mteb task Task has inputs that are no texts: image"):
        encode(model, [{"image": [None]}])
    student.embed = lambda texts, *_: np.full((len(texts), 48), np.nan, dtype=np.float32)
    with pytest.raises(LeafkitError, match=r"the vector of 'sort' is not finite \(and 1 more\)"):
        encode(model, [{"text": ["sort", "merge"]}])


def test_without_mteb_the_install_command_is_shown(monkeypatch):
    def refuse(name, *args):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingExtra, match="'mteb'") as caught:
        wrap_for_mteb(make_embedder(), name="tiny")
    assert caught.value.hint == 'pip install "leafkit[bench]"'


@pytest.mark.slow
def test_neither_mteb_nor_scikit_learn_is_imported_with_the_modules(run_python):
    modules = "leafkit.data.mteb_source, leafkit.evaluation.mteb_encoder, leafkit.evaluation.tasks"
    code = (
        f"import sys, {modules}; sys.exit(any(n.split('.')[0] in {{'mteb', "
        f"'sklearn'}} for n in sys.modules))"
    )
    assert run_python(code).wait() == 0
