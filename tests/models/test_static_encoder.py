"""A table of token vectors: the mean by hand, the same vectors in sentence-transformers, and
folders that are refused.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoTokenizer

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.models import static_encoder
from leafkit.models.builtin.find import find_builtin
from leafkit.models.folder import read_space
from leafkit.models.static_encoder import (
    StaticEncoder,
    bare_tokenizer,
    check_size,
    is_static,
    read_static,
    token_texts,
    tokenize,
    write_static,
)

GIANT = "read the queue backwards and " * 5000
TEXTS = [
    "Compute the matrix",
    "",
    "read the queue backwards",
    "☃ ☃",
    "a",
    GIANT,
    " ",
    "the the the",
]
SPACE = {
    "kind": "student",
    "teacher": "0123456789abcdef",
    "teacher_reference": "model:big",
    "dim": 24,
    "normalized": True,
}


def make_static(width: int = 8, dim: int = 24, seed: int = 0, **settings) -> StaticEncoder:
    """Random weights over the tiny vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    tokenizer = bare_tokenizer(tiny.make_tokenizer())
    table = torch.randn(tokenizer.get_vocab_size(), width, generator=generator)
    projection = nn.Linear(width, dim)
    with torch.no_grad():
        projection.weight.copy_(torch.randn(dim, width, generator=generator))
        projection.bias.copy_(torch.randn(dim, generator=generator))
    return StaticEncoder(tokenizer, table, projection, **settings)


def vectors(encoder: StaticEncoder, texts: list[str]) -> torch.Tensor:
    with torch.no_grad():
        return encoder.finish(encoder(encoder.tokenize(texts)))


@pytest.fixture
def folder(tmp_path) -> Path:
    write_static(make_static(mrl_dims=(24, 8)), tmp_path / "m", SPACE)
    return tmp_path / "m"


def by_hand(rows: dict[str, list[float]]) -> StaticEncoder:
    """Two dimensions, W_out = [[0, 2], [1, 0]] and bias (0, 1); all other tokens at zero."""
    tokenizer = bare_tokenizer(tiny.make_tokenizer())
    table = torch.zeros(tokenizer.get_vocab_size(), 2)
    for token, row in rows.items():
        table[tokenizer.token_to_id(token)] = torch.tensor(row)
    projection = nn.Linear(2, 2)
    with torch.no_grad():
        projection.weight.copy_(torch.tensor([[0.0, 2.0], [1.0, 0.0]]))
        projection.bias.copy_(torch.tensor([0.0, 1.0]))
    return StaticEncoder(tokenizer, table, projection)


def test_mean_projection_and_length_by_hand():
    encoder = by_hand({"matrix": [4.0, 0.0], "graph": [0.0, 3.0], "the": [0.0, 0.0]})
    ids = encoder.tokenize(["the matrix graph", "", "matrix matrix"])
    assert [len(i) for i in ids] == [3, 0, 2]
    pooled = encoder.pool(ids).tolist()
    assert pooled[0] == pytest.approx([4 / 3, 1.0])
    assert pooled[1:] == [[0.0, 0.0], [4.0, 0.0]]
    assert encoder(ids).tolist()[0] == pytest.approx([2.0, 7 / 3])
    assert encoder(ids).tolist()[1:] == [[0.0, 1.0], [0.0, 5.0]]
    length = (4 + 49 / 9) ** 0.5
    assert vectors(encoder, ["the matrix graph"])[0].tolist() == pytest.approx(
        [2 / length, 7 / 3 / length]
    )
    assert vectors(encoder, [""])[0].tolist() == [0.0, 1.0]


def test_words_in_another_order_are_the_same_text_and_batches_do_not_matter():
    encoder = make_static()
    a, b = vectors(encoder, ["compute the matrix", "matrix compute the"])
    assert torch.allclose(a, b, atol=1e-6)
    whole, alone = vectors(encoder, TEXTS), torch.cat([vectors(encoder, [text]) for text in TEXTS])
    assert torch.allclose(whole, alone, atol=1e-6)
    assert torch.allclose(whole.norm(dim=1), torch.ones(len(TEXTS)), atol=1e-6)


def test_a_text_of_unknown_characters_is_the_unknown_token():
    encoder = make_static()
    assert encoder.tokenize(["☃ ☃"]) == [[encoder.tokenizer.token_to_id("[UNK]")] * 2]


def test_texts_are_cut_where_asked_and_nowhere_else():
    encoder = make_static()
    assert len(encoder.tokenize([GIANT])[0]) == 5 * 5000
    assert encoder.tokenize([GIANT], "query", 3) == encoder.tokenize(["read the queue"])


def test_the_tokenizer_is_a_copy_without_special_tokens_padding_or_cut():
    theirs, texts = tiny.make_tokenizer(max_length=4), ["a", "compute the matrix of the graph"]
    theirs(texts, padding=True, truncation=True)  # leaves both switched on
    bare = bare_tokenizer(theirs)
    assert theirs.backend_tokenizer.truncation is not None
    assert (bare.truncation, bare.padding) == (None, None)
    ids = tokenize(bare, texts)
    assert [len(i) for i in ids] == [1, 6]
    assert ids == [
        theirs(t, add_special_tokens=False, truncation=False)["input_ids"] for t in texts
    ]
    with pytest.raises(UsageError, match="has no fast tokenizer"):
        bare_tokenizer(object())


def test_texts_of_tokens():
    tokenizer = bare_tokenizer(tiny.make_tokenizer())
    texts = token_texts(tokenizer)
    assert len(texts) == tokenizer.get_vocab_size()
    assert texts[tokenizer.token_to_id("matrix")] == "matrix"
    assert texts[tokenizer.token_to_id("##a")] == texts[tokenizer.token_to_id("a")] == "a"
    assert {texts[tokenizer.token_to_id(t)] for t in ("[PAD]", "[CLS]", "[UNK]")} == {""}


def test_a_table_larger_than_a_transformer_student_is_refused_with_the_width_that_fits():
    check_size(30_522, 384, 768)
    with pytest.raises(
        UsageError, match=r"width=740.*30,522 tokens x 740.*23,155,368 parameters.*23,000,000"
    ) as err:
        check_size(30_522, 740, 768)
    width = int(err.value.hint.partition("width=")[2].split()[0])
    check_size(30_522, width, 768)
    with pytest.raises(UsageError):
        check_size(30_522, width + 1, 768)


@pytest.mark.parametrize("change", ["rows", "width", "bias"])
def test_parts_that_do_not_fit_are_refused(change):
    tokenizer = bare_tokenizer(tiny.make_tokenizer())
    rows = tokenizer.get_vocab_size() - (change == "rows")
    projection = nn.Linear(8 + (change == "width"), 24, bias=change != "bias")
    with pytest.raises(LeafkitError, match="does not fit"):
        StaticEncoder(tokenizer, torch.zeros(rows, 8), projection)


# --- on disk


def test_a_written_encoder_comes_back_equal(folder):
    found, encoder = read_static(folder), make_static(mrl_dims=(24, 8))
    assert is_static(folder)
    assert torch.equal(vectors(found, TEXTS), vectors(encoder, TEXTS))
    assert (found.spec, found.num_parameters(), found.dim) == (
        encoder.spec,
        encoder.num_parameters(),
        24,
    )
    assert not found.training
    assert len(found.fingerprint) == 16
    space = read_space(folder)
    assert {key: space[key] for key in SPACE} == SPACE
    assert (space["prompts"], space["student_kind"], space["mrl_dims"]) == ({}, "static", [24, 8])
    assert "prompt" in space["about_prompts"]


def test_other_weights_have_another_fingerprint(folder, tmp_path):
    write_static(make_static(seed=1, mrl_dims=(24, 8)), tmp_path / "other", SPACE)
    write_static(make_static(mrl_dims=(24, 8)), tmp_path / "same", SPACE | {"teacher": "another"})
    assert read_static(tmp_path / "other").fingerprint != read_static(folder).fingerprint
    assert read_static(tmp_path / "same").fingerprint == read_static(folder).fingerprint


def test_sentence_transformers_gives_the_same_vectors(folder):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    ours = vectors(read_static(folder), TEXTS)
    for encode in (model.encode, model.encode_query, model.encode_document):
        theirs = torch.from_numpy(encode(TEXTS))
        assert float((ours * theirs).sum(dim=1).min()) > 1 - 1e-6
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_real_vocabulary_gives_the_same_vectors_there(tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    tokenizer = bare_tokenizer(AutoTokenizer.from_pretrained(find_builtin("builtin:minilm")))
    torch.manual_seed(0)
    encoder = StaticEncoder(tokenizer, torch.randn(tokenizer.get_vocab_size(), 8), nn.Linear(8, 24))
    write_static(encoder, tmp_path / "m", SPACE)
    texts = [
        "Register write pipe in event loop.",
        "naïve café  ÀÉÎ",
        "日本語 текст",
        "x" * 300,
        "",
        "[CLS] [MASK] ##ing",
        GIANT,
    ]
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "m"), device="cpu").encode(
        texts
    )
    assert torch.allclose(
        vectors(read_static(tmp_path / "m"), texts), torch.from_numpy(theirs), atol=1e-6
    )


def test_a_transformer_and_an_empty_folder_are_not_static(tmp_path):
    assert not is_static(tiny.write_model(tmp_path / "model"))
    assert not is_static(tmp_path)
    with pytest.raises(
        LeafkitError,
        match="Transformer, Pooling, Normalize instead of StaticEmbedding, Dense, Normalize",
    ):
        read_static(tmp_path / "model")
    with pytest.raises(LeafkitError, match=r"modules\.json is missing"):
        read_static(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["{", '[{"type": "x"}]', "[3]", "3"])
def test_a_corrupt_list_of_modules_is_named(folder, content):
    (folder / "modules.json").write_text(content)
    for read in (is_static, read_static):
        with pytest.raises(LeafkitError, match=r"modules\.json is corrupt"):
            read(folder)


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("0_StaticEmbedding/model.safetensors", "is missing"),
        ("0_StaticEmbedding/tokenizer.json", "is missing"),
        ("1_Dense/model.safetensors", "cannot be loaded"),
        ("1_Dense/config.json", "is missing"),
    ],
)
def test_missing_and_cut_files_are_named(folder, path, what):
    whole = (folder / path).read_bytes()
    (folder / path).unlink()
    with pytest.raises(LeafkitError, match=what) as err:
        read_static(folder)
    assert path.rpartition("/")[0] in str(err.value)
    (folder / path).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LeafkitError, match=r"cannot be|is corrupt") as err:
        read_static(folder)
    assert path.rpartition("/")[0] in str(err.value)


@pytest.mark.parametrize(
    ("place", "key"),
    [
        ("0_StaticEmbedding", "embedding.weight"),
        ("1_Dense", "linear.weight"),
        ("1_Dense", "linear.bias"),
    ],
)
def test_numbers_that_are_not_finite_are_refused(folder, place, key):
    weights = load_file(folder / place / "model.safetensors")
    weights[key].view(-1)[3] = float("nan")
    save_file(weights, folder / place / "model.safetensors")
    with pytest.raises(
        LeafkitError, match=f"{place}/model.safetensors holds numbers that are not finite"
    ):
        read_static(folder)


def test_a_table_for_another_vocabulary_is_refused(folder):
    path = folder / "0_StaticEmbedding" / "model.safetensors"
    save_file({"embedding.weight": load_file(path)["embedding.weight"][:-1].contiguous()}, path)
    with pytest.raises(LeafkitError, match="does not fit a vocabulary"):
        read_static(folder)
    save_file({"something": torch.zeros(2, 2)}, path)
    with pytest.raises(LeafkitError, match=r"model\.safetensors cannot be read: KeyError"):
        read_static(folder)


def test_prompts_that_somebody_added_are_refused(folder):
    path = folder / "config_sentence_transformers.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prompts": {"query": "find : "}}))
    with pytest.raises(LeafkitError, match="a table of token vectors has no prompt"):
        read_static(folder)


@pytest.mark.parametrize(
    "changes",
    [{"prompts": {"query": "find : "}}, {"mrl_dims": "8"}, {"mrl_dims": [48]}, {"pooling": "cls"}],
)
def test_a_leafkit_json_that_contradicts_the_files_is_refused(folder, changes):
    path = folder / "leafkit.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(LeafkitError, match=r"leafkit\.json"):
        read_static(folder)


def test_a_folder_without_leafkit_json_is_a_model_of_no_known_space(folder):
    (folder / "leafkit.json").unlink()
    assert read_static(folder).spec.mrl_dims == ()


def test_it_loads_from_a_copy(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    assert read_static(tmp_path / "copy").fingerprint == read_static(folder).fingerprint


def test_a_saved_tokenizer_neither_pads_nor_cuts(folder):
    saved = Tokenizer.from_file(
        str(folder / static_encoder._MODULES["StaticEmbedding"] / "tokenizer.json")
    )
    assert (saved.padding, saved.truncation) == (None, None)
