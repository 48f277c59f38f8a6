"""Exported folders have what transformers 4 looks for, which takes defaults for what it does not
find, and the cards say what it cannot be told.
"""

from __future__ import annotations

import json

import pytest
import tiny
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

from leafkit.exporters.card_of_teacher import make_pair_card, make_teacher_card
from leafkit.exporters.hub import export_hub
from leafkit.exporters.source import ExportSource
from leafkit.models.attention import set_attention
from leafkit.models.foreign.older_transformers import add_older_keys, older_config_keys
from leafkit.models.text_encoder import EncoderSpec, TextEncoder
from leafkit.models.tokenization import byte_tokenizer

FULL, SLIDING = "full_attention", "sliding_attention"


def decoder(mode: str = "") -> TextEncoder:
    config = Qwen3Config(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        rope_theta=1e6,
    )
    backbone = Qwen3Model(config).eval()
    if mode:
        set_attention(backbone, mode)
    spec = EncoderSpec(max_tokens=64, attention=mode or "causal")
    return TextEncoder(backbone, byte_tokenizer(64), spec, fingerprint="x").eval()


# as transformers 5.24 writes them; transformers 4.57 gives the same vectors with what is added
@pytest.mark.parametrize(
    ("config", "added"),
    [
        ({"model_type": "bert"}, {}),
        ({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}, {"rope_theta": 1e6}),
        (
            {"rope_parameters": {"rope_theta": 3e5, "factor": 4.0, "rope_type": "yarn"}},
            {"rope_theta": 3e5, "rope_scaling": {"factor": 4.0, "rope_type": "yarn"}},
        ),
        (
            {"rope_parameters": {"rope_theta": 3e5, "partial_rotary_factor": 0.5}},
            {"rope_theta": 3e5, "partial_rotary_factor": 0.5},
        ),
        (
            {
                "model_type": "modernbert",
                "layer_types": [FULL, SLIDING, FULL, SLIDING, FULL],
                "rope_parameters": {FULL: {"rope_theta": 9e4}, SLIDING: {"rope_theta": 777.0}},
            },
            {"global_rope_theta": 9e4, "local_rope_theta": 777.0, "global_attn_every_n_layers": 2},
        ),
        (
            {
                "model_type": "gemma3_text",
                "layer_types": [SLIDING, FULL],
                "rope_parameters": {
                    FULL: {"rope_theta": 2e6, "factor": 8.0, "rope_type": "linear"},
                    SLIDING: {"rope_theta": 777.0, "rope_type": "default"},
                },
            },
            {
                "rope_theta": 2e6,
                "rope_local_base_freq": 777.0,
                "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            },
        ),
    ],
)
def test_rotary_positions_have_their_older_names(config, added):
    assert older_config_keys(config) == added


def test_a_tokenizer_is_named_as_transformers_4_knows_it(tmp_path):
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tiny.make_tokenizer().backend_tokenizer,
        pad_token="[PAD]",
        extra_special_tokens=["[A]", "[B]"],
    )
    tokenizer.save_pretrained(tmp_path)
    before = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert before["tokenizer_class"] == "TokenizersBackend"  # which transformers 4 has not
    add_older_keys(tmp_path)
    told = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert told["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "extra_special_tokens" not in told
    assert told["additional_special_tokens"] == ["[A]", "[B]"]
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "draw [A] the [B] matrix"
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert set(again.all_special_tokens) == set(tokenizer.all_special_tokens)


@pytest.mark.parametrize("mode", ["causal", "bidirectional"])
def test_a_decoder_goes_out_with_its_base_and_what_its_mask_needs(mode, tmp_path):
    encoder = decoder(mode)
    source = ExportSource(encoder, {"teacher": "x"}, name="mini", teacher=lambda: encoder)
    assert export_hub(source, tmp_path)["hub"] >= 1 - 1e-6
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 1e6
    cards = [
        (tmp_path / "README.md").read_text(),
        make_teacher_card(source, encoder),
        make_pair_card(source, encoder),
    ]
    for card in cards:
        assert ("transformers 5.4 or later" in card) == (mode == "bidirectional")
    assert ("text-embeddings-router" in cards[0]) == (mode == "causal")
