"""Folders that sentence-transformers wrote: the same vectors as its own, with and without every
stock module and prompt.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from leafkit.core.errors import LeafkitError
from leafkit.models.checkpoint import read_encoder, write_encoder

st = pytest.importorskip("sentence_transformers")
TEXTS = [
    "Compute the matrix",
    "",
    "read the queue backwards and split the string by the first value of a table column",
    "a",
]
Q, P, C = "find the answer : ", "table : ", "column of : "


def save(
    folder: Path,
    pooling: str = "mean",
    dense: bool = False,
    normalize: bool = True,
    activation: Any = None,
) -> Path:
    """A random model put together and saved by sentence-transformers itself."""
    from sentence_transformers.models import Dense, Normalize, Pooling, Transformer

    encoder = tiny.make_encoder(seed=4)
    encoder.backbone.save_pretrained(folder / "bare")
    encoder.tokenizer.save_pretrained(folder / "bare")
    torch.manual_seed(3)
    modules = [
        Transformer(str(folder / "bare"), max_seq_length=64),
        Pooling(32, pooling_mode=pooling),
    ]
    if dense:
        modules.append(Dense(32, 40, activation_function=activation or torch.nn.Identity()))
    if normalize:
        modules.append(Normalize())
    st.SentenceTransformer(modules=modules, device="cpu").save(str(folder / "model"))
    return folder / "model"


def set_prompts(folder: Path, prompts: dict[str, str | None], default: str | None = None) -> None:
    path = folder / "config_sentence_transformers.json"
    path.write_text(
        json.dumps(
            json.loads(path.read_text()) | {"prompts": prompts, "default_prompt_name": default}
        )
    )


def mine(folder: Path, role: str) -> np.ndarray:
    encoder = read_encoder(folder)
    with torch.no_grad():
        return encoder.finish(encoder(encoder.tokenize(TEXTS, role))).numpy()


def theirs(folder: Path, **settings: Any) -> np.ndarray:
    return st.SentenceTransformer(str(folder), device="cpu").encode(TEXTS, **settings)


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
@pytest.mark.parametrize(
    ("dense", "normalize"), [(False, False), (False, True), (True, False), (True, True)]
)
def test_vectors_are_theirs_with_every_stock_module(tmp_path, pooling, dense, normalize):
    folder = save(tmp_path, pooling, dense, normalize)
    set_prompts(folder, {"query": Q, "document": P})
    for role in ("query", "document"):
        found = mine(folder, role)
        assert found.shape == (4, 40 if dense else 32)
        # compared by cosine, with a Normalize module or without
        expected = theirs(folder, prompt_name=role, normalize_embeddings=True)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert not np.allclose(mine(folder, "query"), mine(folder, "document"), atol=1e-3)


@pytest.mark.parametrize(
    ("prompts", "default", "query", "document"),
    [
        ({"query": Q, "passage": P}, None, {"prompt_name": "query"}, {"prompt_name": "passage"}),
        ({"query": Q, "corpus": C}, None, {"prompt_name": "query"}, {"prompt_name": "corpus"}),
        (
            {"query": Q, "corpus": C, "passage": P},
            None,
            {"prompt_name": "query"},
            {"prompt_name": "passage"},
        ),
        (
            {"query": Q, "passage": P, "document": C},
            None,
            {"prompt_name": "query"},
            {"prompt_name": "document"},
        ),
        (
            {"query": Q, "passage": P, "document": ""},
            None,
            {"prompt_name": "query"},
            {"prompt_name": "document"},
        ),
        ({"query": Q}, None, {"prompt_name": "query"}, {}),
        ({"passage": P}, None, {}, {"prompt_name": "passage"}),
        ({"all": C}, "all", {}, {}),
        ({"query": Q, "all": C}, "all", {"prompt_name": "query"}, {}),
        ({"query": "", "all": C}, "all", {"prompt_name": "query"}, {}),
        ({"query": Q}, "query", {}, {"prompt": ""}),
        ({"passage": P}, "passage", {"prompt": ""}, {}),
        ({"query": Q, "document": None}, None, {"prompt_name": "query"}, {"prompt": ""}),
        ({}, None, {}, {}),
    ],
)
def test_prompts_are_theirs_whatever_their_names(tmp_path, prompts, default, query, document):
    folder = save(tmp_path)
    set_prompts(folder, prompts, default)
    for role, settings in (("query", query), ("document", document)):
        np.testing.assert_allclose(mine(folder, role), theirs(folder, **settings), atol=1e-5)
    again = tmp_path / "again"
    write_encoder(read_encoder(folder), again, {})
    for role in ("query", "document"):
        np.testing.assert_allclose(mine(again, role), theirs(again, prompt_name=role), atol=1e-5)
        np.testing.assert_allclose(mine(again, role), mine(folder, role), atol=1e-6)


@pytest.mark.parametrize(
    ("prompts", "default", "match"),
    [
        ({"query": 5}, None, "not text by name"),
        (["query"], None, "not text"),
        ({"query": Q}, "document", "is not one of its"),
    ],
)
def test_prompts_that_are_none_are_refused(tmp_path, prompts, default, match):
    folder = save(tmp_path)
    set_prompts(folder, prompts, default)
    with pytest.raises(LeafkitError, match=match):
        read_encoder(folder)


def test_texts_are_lower_cased_where_they_do_it(tmp_path):
    folder = save(tmp_path)
    path = folder / "tokenizer_config.json"
    # of a cased model
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_lower_case": False}))
    path = folder / "sentence_bert_config.json"
    found = []
    for lower in (False, True):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"do_lower_case": lower}))
        found.append(mine(folder, "query"))
        np.testing.assert_allclose(found[-1], theirs(folder), atol=1e-5)
    assert not np.allclose(found[0][0], found[1][0], atol=1e-3)  # its "C"
    # transformers would forget it
    with pytest.raises(LeafkitError, match="does not load again as what it was"):
        write_encoder(read_encoder(folder), tmp_path / "again", {})


@pytest.mark.parametrize("damage", ["tanh", "default"])
def test_a_dense_module_that_is_not_linear_is_refused(tmp_path, damage):
    folder = save(tmp_path, dense=True, activation=torch.nn.Tanh() if damage == "tanh" else None)
    path = folder / "2_Dense" / "config.json"
    config = json.loads(path.read_text())
    if damage == "default":
        del config["activation_function"]
    path.write_text(json.dumps(config))
    with pytest.raises(LeafkitError, match="activation Tanh is not linear"):
        read_encoder(folder)


@pytest.mark.parametrize("prompt", [Q, ""])
def test_the_roles_other_names_find_the_same_prompts(tmp_path, prompt):
    """What a server asks for by input_type is there, and sentence-transformers loads it equally."""
    encoder = tiny.make_encoder(seed=4, prompts={"query": prompt, "document": P})
    write_encoder(encoder, tmp_path / "model", {"kind": "student"})
    told = json.loads((tmp_path / "model" / "config_sentence_transformers.json").read_text())
    assert told["prompts"]["search_query"] == told["prompts"]["query"] == prompt
    assert told["prompts"]["search_document"] == told["prompts"]["document"] == P
    for role in ("query", "document"):
        expected = mine(tmp_path / "model", role)
        for name in (role, f"search_{role}"):
            found = theirs(tmp_path / "model", prompt_name=name, normalize_embeddings=True)
            np.testing.assert_allclose(found, expected, atol=1e-5)
    again = read_encoder(tmp_path / "model")
    assert {r: t for r, t in encoder.spec.prompts.items() if t} == again.spec.prompts


def test_an_own_prompt_of_such_a_name_stays(tmp_path):
    own = {"query": Q, "search_query": C}
    write_encoder(tiny.make_encoder(seed=4, prompts=own), tmp_path / "model", {"kind": "student"})
    assert read_encoder(tmp_path / "model").spec.prompts == own
