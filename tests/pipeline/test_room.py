"""A prompt that leaves no room for the text is refused in every command before any work."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import tiny

import leafkit
from leafkit.core.errors import UsageError
from leafkit.embedders.make_embedder import make_embedder
from leafkit.evaluation.mteb_encoder import MtebEncoder
from leafkit.models.checkpoint import read_encoder
from leafkit.pipeline.distill import run_distill
from leafkit.pipeline.document_index import run_embed
from leafkit.pipeline.evaluate.bench import run_bench
from leafkit.pipeline.evaluate.diagnose import run_diagnose
from leafkit.pipeline.evaluate.inherit import run_inherit
from leafkit.pipeline.export import run_export

COMMANDS = [run_distill, run_bench, run_inherit, run_embed, run_diagnose, run_export]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "setting", ["data.max_query_tokens=6", "data.max_document_tokens=2", "data.max_query_tokens=1"]
)
def test_every_command_that_embeds_such_texts_refuses_it(done, start, command, setting):
    key = setting.partition("=")[0].removeprefix("data.")
    if command is run_embed and key == "max_query_tokens":
        start(done, setting, work=command)  # it embeds no query
        return
    vectors = sorted((done.parent / "ck" / "vectors").iterdir())
    with pytest.raises(UsageError, match=f"{key}: .* nothing of the text is left"):
        start(done, setting, work=command)
    assert sorted((done.parent / "ck" / "vectors").iterdir()) == vectors


def test_the_api_and_mteb_refuse_it(home):
    with pytest.raises(UsageError, match="max_query_tokens"):
        leafkit.distill(
            f"model:{home / 'big'}",
            f"model:{home / 'small'}",
            texts=["sort the table", "draw a graph"],
            queries=["how to sort"],
            max_query_tokens=5,
            num_pseudo_texts=60,
        )
    model = make_embedder(read_encoder(home / "big"))
    wrapped = MtebEncoder(model, model, meta=None, max_query_tokens=6)
    with pytest.raises(UsageError, match="max_query_tokens"):
        wrapped.encode(
            [{"text": ["sort"]}],
            task_metadata=SimpleNamespace(name="Tiny", type="Retrieval", prompt=None),
            hf_split="",
            hf_subset="",
            prompt_type="query",
        )


def test_a_prompt_that_is_longer_in_the_students_tokens_is_refused_before_the_teacher_works(
    home, tmp_path, start
):
    # the teacher knows the prompt's word, the student has a token a letter
    recipe = tiny.tiny_recipe(home, tmp_path / "ck")
    encoder = read_encoder(home / "big")
    word = "supercalifragilistic"
    encoder.tokenizer.add_tokens([word])
    encoder.backbone.resize_token_embeddings(len(encoder.tokenizer))
    encoder = tiny.with_spec(encoder, prompts={"query": f"{word} "})
    leafkit.save_model(encoder, tmp_path / "teacher", {"kind": "teacher"})
    recipe["teacher"]["source"] = f"model:{tmp_path / 'teacher'}"
    path = tiny.write_recipe(tmp_path / "tiny.yaml", recipe)
    with pytest.raises(UsageError, match="max_query_tokens: the prompt 'supercali"):
        start(path, "data.max_query_tokens=16")
    assert not (tmp_path / "ck" / "vectors").exists()
