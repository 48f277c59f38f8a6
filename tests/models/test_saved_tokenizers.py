"""What is saved depends on the model alone, not on what was tokenized before, and all its files
agree about the length.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign_folders as ff
import numpy as np
import pytest
import tiny
import torch
from tokenizers import Tokenizer
from torch import nn

from leafkit.embedders.onnx_graph import write_query_folder
from leafkit.models.checkpoint import read_encoder, write_encoder
from leafkit.models.folder import fingerprint_of_folder
from leafkit.models.static_encoder import StaticEncoder, bare_tokenizer, write_static
from leafkit.models.tiny import tiny_encoder

LONG = "compute the matrix of the first column " * 40
CALLS: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda tokenizer: None,
    "one text": lambda tokenizer: tokenizer("a"),
    "cut at 9": lambda tokenizer: tokenizer([LONG], truncation=True, max_length=9),
    "padded to 64": lambda tokenizer: tokenizer(
        ["a"], padding="max_length", max_length=64, truncation=True
    ),
    "with a stride": lambda tokenizer: tokenizer(
        ["a", LONG], truncation=True, max_length=12, stride=3, padding=True
    ),
}


def write_bert(folder: Path, call: Callable[[Any], Any]) -> None:
    encoder = tiny.make_encoder(dim=24)
    call(encoder.tokenizer)
    write_encoder(encoder, folder, {})


def write_qwen2(folder: Path, call: Callable[[Any], Any]) -> None:
    encoder = tiny_encoder("qwen2", tiny.make_tokenizer(), pooling="last", max_tokens=128)
    call(encoder.tokenizer)
    write_encoder(encoder, folder, {})


def write_table(folder: Path, call: Callable[[Any], Any]) -> None:
    tokenizer = tiny.make_tokenizer()
    call(tokenizer)
    torch.manual_seed(1)
    bare = bare_tokenizer(tokenizer)
    table = torch.randn(bare.get_vocab_size(), 8)
    write_static(StaticEncoder(bare, table, nn.Linear(8, 24), (24, 8)), folder, {})


def write_graph(folder: Path, call: Callable[[Any], Any]) -> None:
    encoder = tiny.make_encoder(dim=24)
    call(encoder.tokenizer)
    folder.mkdir()
    write_query_folder(encoder, folder)


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("write", [write_bert, write_qwen2, write_table, write_graph])
def test_files_and_identity_do_not_depend_on_what_was_tokenized_before(tmp_path, write):
    found = {}
    for number, call in enumerate(CALLS.values()):
        folder = tmp_path / str(number)
        write(folder, call)
        found[number] = hashes(folder), fingerprint_of_folder(folder)
        for path in folder.rglob("tokenizer.json"):
            state = json.loads(path.read_text())
            assert (state["truncation"], state["padding"]) == (None, None)
    assert all(value == found[0] for value in found.values())


def test_identity_does_not_depend_on_how_the_model_was_loaded(tmp_path, monkeypatch):
    write_encoder(tiny.make_encoder(dim=24), tmp_path / "first", {})
    identity = fingerprint_of_folder(tmp_path / "first")
    for offline in ("0", "1"):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline == "1")
        encoder = read_encoder(tmp_path / "first")
        encoder.tokenizer.init_kwargs["local_files_only"] = offline == "1"
        write_encoder(encoder, tmp_path / offline, {})
        assert fingerprint_of_folder(tmp_path / offline) == identity


@pytest.mark.parametrize("max_tokens", [128, 12])
def test_all_files_agree_about_the_length(tmp_path, max_tokens):
    encoder = tiny.with_spec(tiny.make_encoder(), max_tokens=max_tokens)
    encoder.tokenizer([LONG], truncation=True, max_length=9, padding="max_length")
    encoder.tokenizer.init_kwargs |= {
        "max_length": 9,
        "stride": 2,
        "truncation_strategy": "longest_first",
    }
    write_encoder(encoder, tmp_path, {})
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["model_max_length"] == max_tokens
    assert not {"max_length", "stride", "truncation_strategy"} & config.keys()
    settings = json.loads((tmp_path / "sentence_bert_config.json").read_text())
    assert settings["max_seq_length"] == max_tokens
    assert read_encoder(tmp_path).spec.max_tokens == max_tokens


def test_a_long_text_has_one_vector_in_every_library(tmp_path):
    st = pytest.importorskip("sentence_transformers", reason="pip install sentence-transformers")
    encoder = tiny.make_encoder(dim=24)
    encoder.tokenizer([LONG], truncation=True, max_length=9, padding="max_length")
    write_encoder(encoder, tmp_path, {})
    ids = encoder.tokenize([LONG], "document")
    with torch.no_grad():
        expected = encoder.finish(encoder(ids))[0].numpy()
    theirs = st.SentenceTransformer(str(tmp_path), device="cpu").encode(LONG)
    np.testing.assert_allclose(theirs, expected, atol=1e-6)
    # the tokenizer alone, as FastEmbed takes it: cut at tokenizer_config's length
    bare = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    bare.enable_truncation(config["model_max_length"])
    assert bare.encode(LONG).ids == ids[0]


FILES = [
    "pytorch_model.bin",
    "model.safetensors",
    "2_Dense/pytorch_model.bin",
    "config.json",
    "1_Pooling/config.json",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "vocab.txt",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spm.vocab",
    "qwen.tiktoken",
    "chat_template.jinja",
    "modeling_own.py",
    "pytorch_model-00001-of-00002.bin",
    "adapter_model.bin",
    "embeddings.npy",
]


@pytest.mark.parametrize("name", FILES)
def test_every_file_that_decides_about_vectors_is_in_the_fingerprint(tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    found = {fingerprint_of_folder(tmp_path)}
    for content in (b"{}", b'{"a": 1}'):
        file.write_bytes(content)
        found.add(fingerprint_of_folder(tmp_path))
    shutil.move(file, tmp_path / f"other{file.suffix}")
    found.add(fingerprint_of_folder(tmp_path))
    assert len(found) == 4


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "figure.PNG",
        ".gitattributes",
        ".cache/huggingface/download/model.json",
        "__pycache__/modeling_own.cpython-311.pyc",
        "onnx/model.onnx",
        "tf_model.h5",
        "manifest.json",
        "losses.json",
        "logs/version_0/metrics.csv",
    ],
)
def test_what_stands_beside_a_model_is_not(tmp_path, name):
    before = fingerprint_of_folder(tmp_path)
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"{}")
    assert fingerprint_of_folder(tmp_path) == before


def test_two_models_of_torch_weights_are_two_spaces(tmp_path):
    found = set()
    for seed in (1, 2):
        folder = tiny.write_model(tmp_path / str(seed), seed=seed, dim=24)
        ff.to_bin(folder)
        found.add(read_encoder(folder).fingerprint)
    assert len(found) == 2
