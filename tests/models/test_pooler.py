"""Model folders whose every weight sentence-transformers finds."""

from __future__ import annotations

import pytest
import tiny
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from leafkit.models.checkpoint import read_encoder, write_encoder
from leafkit.models.tiny import tiny_encoder


@pytest.mark.parametrize(
    ("architecture", "has_pooler"),
    [("bert", True), ("roberta", True), ("mpnet", True), ("distilbert", False), ("qwen2", False)],
)
def test_nothing_is_missing_where_others_load_the_folder(
    tmp_path, architecture: str, has_pooler: bool
) -> None:
    encoder = tiny_encoder(architecture, tiny.make_tokenizer())
    write_encoder(encoder, tmp_path, {"kind": "teacher", "dim": encoder.dim})
    _, loading = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    named = load_file(tmp_path / "model.safetensors")
    assert any(name.startswith("pooler.") for name in named) == has_pooler
    again = read_encoder(tmp_path)
    assert not hasattr(again.backbone, "pooler") or again.backbone.pooler is None
    texts = again.tokenize(["invert a matrix", "sort a table"], "query")
    with torch.no_grad():
        assert torch.equal(encoder(texts), again(texts))
    assert again.num_parameters() == encoder.num_parameters()
