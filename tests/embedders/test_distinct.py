"""Every encoder is asked for distinct vectors of distinct texts, and has room for a text behind
its prompt.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tiny
import torch

import leafkit
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.embedders.distinct import PROBES, check_distinct, probe_model
from leafkit.embedders.make_embedder import make_embedder
from leafkit.models.checkpoint import read_encoder
from leafkit.models.static_encoder import StaticEncoder, bare_tokenizer
from leafkit.models.tiny import tiny_encoder

LONG = "find the answer " * 4  # twelve tokens, fourteen with the special ones


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta", "mpnet", "qwen2"])
def test_a_folder_without_a_tokenizer_is_refused_by_name(tmp_path, architecture):
    encoder = tiny.make_encoder()
    tiny.write_model(tmp_path / "m")
    place = tmp_path / "m"
    (place / "tokenizer.json").unlink()
    if architecture != "bert":
        config = json.loads((place / "tokenizer_config.json").read_text())
        names = {
            "roberta": "Roberta",
            "xlm-roberta": "XLMRoberta",
            "mpnet": "MPNet",
            "qwen2": "Qwen2",
        }
        config["tokenizer_class"] = f"{names[architecture]}Tokenizer"
        (place / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(LeafkitError, match=str(place)) as err:
        read_encoder(place)
    assert err.value.hint
    del encoder


def test_a_tokenizer_of_other_files_is_read(tmp_path):
    place = tiny.write_model(tmp_path / "m")
    words = sorted(tiny.make_tokenizer().get_vocab().items(), key=lambda item: item[1])
    (place / "vocab.txt").write_text("".join(f"{word}\n" for word, _ in words))
    before = make_embedder(read_encoder(place)).encode_query(["sort the table"])
    (place / "tokenizer.json").unlink()
    after = make_embedder(read_encoder(place)).encode_query(["sort the table"])
    np.testing.assert_allclose(after, before, atol=1e-6)


def constant(kind):
    encoder = tiny.make_encoder(dim=24)
    if kind == "static":
        vocabulary = bare_tokenizer(encoder.tokenizer)
        table = torch.ones(vocabulary.get_vocab_size(), 8)
        return StaticEncoder(vocabulary, table, torch.nn.Linear(8, 24))
    with torch.no_grad():
        if kind == "zero":
            encoder.projection.weight.zero_()
            encoder.projection.bias.zero_()
        elif kind == "bias alone":
            encoder.projection.weight.zero_()
        else:
            encoder.projection.weight.fill_(float("nan"))
    return encoder


@pytest.mark.parametrize("kind", ["static", "zero", "bias alone", "nan"])
def test_a_model_that_gives_words_one_vector_is_refused(kind):
    with pytest.raises(LeafkitError, match=r"one and the same vector|not finite"):
        probe_model(make_embedder(constant(kind).eval()), "model:M")


@pytest.mark.parametrize("architecture", ["bert", "qwen2", "roberta", "modernbert"])
def test_models_of_every_architecture_pass(architecture):
    encoder = tiny_encoder(architecture, tiny.make_tokenizer())
    probe_model(make_embedder(encoder.eval()), architecture)


@pytest.mark.parametrize("constant", [np.ones((8, 4)), np.zeros((8, 4)), 3 * np.ones((8, 4))])
def test_vectors_of_an_endpoint_or_a_folder_that_are_all_equal_are_refused(constant):
    texts = [f"text {i}" for i in range(8)]
    with pytest.raises(LeafkitError, match="V of texts: 8 different texts have one and the same"):
        check_distinct(texts, constant.astype(np.float16), "V of texts")
    check_distinct(["same"] * 8, constant, "V of texts")  # equal texts have equal vectors
    other = constant.copy()
    other[5, 0] += 1
    check_distinct(texts, other, "V of texts")


@pytest.mark.parametrize("kind", ["vectors", "object"])
def test_distillation_refuses_a_teacher_whose_vectors_are_all_equal(tmp_path, kind):
    texts = [f"{verb} the {thing}" for verb in tiny.VERBS[:4] for thing in tiny.THINGS[:4]]
    if kind == "vectors":
        folder = tmp_path / "v"
        folder.mkdir()
        rows = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (folder / "documents.jsonl").write_text(rows)
        np.save(folder / "documents.npy", np.full((16, 8), 0.5, dtype=np.float32))
        teacher = f"vectors:{folder}"
    else:
        teacher = make_embedder(constant("bias alone"))
    with pytest.raises(LeafkitError, match="one and the same vector"):
        leafkit.distill(teacher, tiny.make_encoder(), texts=texts, num_pseudo_texts=16)


@pytest.mark.parametrize("role", ["query", "document"])
@pytest.mark.parametrize(("limit", "outcome"), [(14, "refused"), (15, "warned"), (22, "fine")])
def test_a_prompt_leaves_room_for_the_text_or_is_refused(caplog, role, limit, outcome):
    encoder = tiny.make_encoder(prompts={role: LONG})
    texts = ["sort the table", "draw a graph"]
    if outcome == "refused":
        with pytest.raises(UsageError, match=f"max_{role}_tokens: .* take 14 of the 14") as err:
            encoder.tokenize(texts, role, limit)
        assert "model's own limit" in err.value.hint
        return
    first, second = encoder.tokenize(texts, role, limit)
    assert first != second
    assert ("left of each" in caplog.text) == (outcome == "warned")


def test_zero_takes_the_models_own_limit():
    encoder = tiny.make_encoder(prompts={"query": tiny.PROMPT})
    text = "sort the table " * 100
    (ids,) = encoder.tokenize([text], "query", 0)
    assert len(ids) == encoder.spec.max_tokens == 128
    model = make_embedder(encoder)
    assert model.space("query", 0).max_tokens == 128
    np.testing.assert_array_equal(
        model.embed([text], "query", 0), model.embed([text], "query", 128)
    )
    np.testing.assert_allclose(
        model.embed_one(text, "query", 0), model.embed([text], "query", 0)[0], atol=1e-5
    )


def test_the_probes_are_single_words_that_differ():
    assert len(set(PROBES)) == len(PROBES)
    assert not any(" " in probe for probe in PROBES)


def test_a_copy_of_a_model_without_its_tokenizer_is_refused_by_every_opener(tmp_path):
    folder = tiny.write_model(tmp_path / "m")
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "tokenizer.json").unlink()
    for open_it in (
        lambda: leafkit.load_model(f"model:{tmp_path / 'copy'}"),
        lambda: leafkit.distill(f"model:{tmp_path / 'copy'}", texts=["sort the table"]),
        lambda: leafkit.distill(
            f"model:{folder}", f"model:{tmp_path / 'copy'}", texts=["sort the table"]
        ),
    ):
        with pytest.raises(LeafkitError, match="holds no tokenizer"):
            open_it()
