"""leafkit.json repeats what decides about vectors, and a folder whose other files say something
else is refused.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny

from leafkit.core.errors import LeafkitError
from leafkit.models.checkpoint import read_encoder, write_encoder
from leafkit.models.configure import configure
from leafkit.models.folder import read_space, with_aliases
from leafkit.models.tiny import tiny_encoder

PROMPTS = {"query": "Instruct: Find it \n Query: ", "document": "table : ", "sts": "first : "}
TEMPLATES = {"query": "Instruct: {instruction} \n Query: {query}"}
SPACE = {"kind": "teacher", "dim": 64, "mrl_dims": [64]}


@pytest.fixture
def folder(tmp_path) -> Path:
    encoder = tiny_encoder("qwen2", tiny.make_tokenizer(), attention="bidirectional", max_tokens=64)
    write_encoder(configure(encoder, prompts=PROMPTS, templates=TEMPLATES), tmp_path, SPACE)
    return tmp_path


def refused(folder: Path, match: str) -> None:
    with pytest.raises(LeafkitError, match=match) as caught:
        read_encoder(folder)
    assert caught.value.hint


def test_everything_is_stored_and_comes_back(folder):
    assert read_space(folder) == SPACE | {
        "pooling": "mean",
        "attention": "bidirectional",
        "similarity": "cosine",
        "prompts": PROMPTS,
        "templates": TEMPLATES,
    }
    spec = read_encoder(folder).spec
    assert (spec.pooling, spec.attention, spec.prompts, spec.templates) == (
        "mean",
        "bidirectional",
        PROMPTS,
        TEMPLATES,
    )


def test_every_role_stands_in_the_sentence_transformers_file(folder):
    assert json.loads((folder / "config_sentence_transformers.json").read_text())[
        "prompts"
    ] == with_aliases(PROMPTS)


def test_query_and_document_stand_there_without_a_prompt_too(tmp_path):
    tiny.write_model(tmp_path)
    prompts = json.loads((tmp_path / "config_sentence_transformers.json").read_text())["prompts"]
    assert prompts == dict.fromkeys(("query", "document", "search_query", "search_document"), "")
    assert read_encoder(tmp_path).spec.prompts == {}


@pytest.mark.parametrize("value", [..., True])
def test_attention_that_changed_is_refused(folder, value):
    tiny.edit_json(folder / "config.json", is_causal=value)
    refused(
        folder,
        r"attention is causal in config\.json \(is_causal\) and bidirectional in leafkit\.json",
    )


def test_attention_that_was_taken_away_is_refused(tmp_path):
    write_encoder(tiny_encoder("mistral", tiny.make_tokenizer(), max_tokens=64), tmp_path, {})
    tiny.edit_json(tmp_path / "config.json", is_causal=False)
    refused(
        tmp_path,
        r"attention is bidirectional in config\.json \(is_causal\) and causal in leafkit\.json",
    )


def test_pooling_that_changed_is_refused(folder):
    tiny.edit_json(
        folder / "1_Pooling" / "config.json",
        pooling_mode_mean_tokens=False,
        pooling_mode_lasttoken=True,
    )
    refused(folder, r"pooling is last in 1_Pooling/config\.json and mean in leafkit\.json")


@pytest.mark.parametrize(
    "prompts",
    [{}, PROMPTS | {"query": "find "}, PROMPTS | {"more": "x"}, {"query": PROMPTS["query"]}],
)
def test_prompts_that_changed_are_refused(folder, prompts):
    tiny.edit_json(folder / "config_sentence_transformers.json", prompts=prompts)
    refused(
        folder,
        r"prompts is .* in config_sentence_transformers\.json and .*Instruct: Find it.* in "
        r"leafkit\.json",
    )


def test_prompts_that_were_added_are_refused(tmp_path):
    tiny.write_model(tmp_path)
    tiny.edit_json(tmp_path / "config_sentence_transformers.json", prompts={"query": "find "})
    refused(tmp_path, r"prompts is \{'query': 'find '\} in .* and none in leafkit\.json")


@pytest.mark.parametrize(
    "older",
    [
        {},
        {"kind": "student", "teacher": "abc"},
        {"prompts": PROMPTS},
        {"kind": "teacher", "dim": 64},
    ],
)
def test_what_an_older_leafkit_did_not_write_is_not_compared(folder, older):
    (folder / "leafkit.json").write_text(json.dumps(older))
    assert read_encoder(folder).spec.templates == {}


def test_without_the_file_the_other_files_are_believed(folder):
    (folder / "leafkit.json").unlink()
    tiny.edit_json(folder / "config.json", is_causal=True)
    assert read_encoder(folder).spec.attention == "causal"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"nan,", b'{"pooling": "mean"'])
def test_a_corrupt_file_is_named(folder, content):
    (folder / "leafkit.json").write_bytes(content)
    refused(folder, r"leafkit\.json is corrupt")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ([], "a list, not an object"),
        (None, "not an object"),
        ("text", "not an object"),
        (3, "not an object"),
        ({"pooling": 3}, "pooling 3 is not one of mean, cls, last"),
        ({"pooling": ""}, "pooling '' is not one of"),
        ({"pooling": ["mean"]}, "pooling .* is not one of"),
        ({"pooling": None}, "pooling None is not one of"),
        ({"attention": False}, "attention False is not one of"),
        ({"attention": {}}, "attention {} is not one of"),
        ({"prompts": []}, r"prompts \[\] is not text by role"),
        ({"prompts": {"query": 1}}, "prompts .* is not text by role"),
        ({"prompts": None}, "prompts None is not text by role"),
        ({"templates": "x"}, "templates 'x' is not text by role"),
        ({"templates": {"query": None}}, "templates .* is not text by role"),
    ],
)
def test_values_of_the_wrong_type_are_refused(folder, content, match):
    (folder / "leafkit.json").write_text(json.dumps(content))
    refused(folder, rf"leafkit\.json.*{match}")
