"""Changing the last token changes token 0 in bidirectional mode and never in causal mode, however
the model is run.
"""

from __future__ import annotations

import json

import pytest
import tiny
import torch
from transformers import BertConfig, BertModel

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.models.attention import (
    attention_mode,
    check_attention,
    sees_later_tokens,
    set_attention,
)
from leafkit.models.checkpoint import read_encoder, write_encoder
from leafkit.models.text_encoder import EncoderSpec, TextEncoder
from leafkit.models.tiny import tiny_encoder

DECODERS = ["qwen2", "qwen3", "mistral", "gemma3_text", "llama", "phi3"]
# what the probe found: the first in sdpa without padding, the second has no attention
REFUSED = [
    "stablelm",
    "mamba",
]


def make_backbone(architecture: str, attention: str, implementation: str = "sdpa"):
    backbone = tiny_encoder(
        architecture, tiny.make_tokenizer(), attention=attention, max_tokens=64
    ).backbone
    backbone.set_attn_implementation(implementation)
    return backbone


def changed_positions(backbone, length: int, position: int, num_padding: int = 0) -> list[int]:
    """Positions whose hidden state changes with the token at ``position``; computed without the
    code under test.
    """
    ids = torch.arange(5, 5 + length)
    other = ids.clone()
    other[position] = 40
    padding = torch.zeros(num_padding, dtype=torch.long)
    mask = torch.tensor([[1] * length + [0] * num_padding]) if num_padding else None
    with torch.no_grad():
        mine, theirs = (
            backbone(
                input_ids=torch.cat([row, padding])[None], attention_mask=mask
            ).last_hidden_state[0, :length]
            for row in (ids, other)
        )
    return [
        i for i, change in enumerate((mine - theirs).abs().amax(dim=1).tolist()) if change > 1e-5
    ]


@pytest.mark.parametrize("num_padding", [0, 3])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", DECODERS)
def test_the_last_token_reaches_token_0_only_without_the_causal_mask(
    architecture, implementation, num_padding
):
    backbone = make_backbone(architecture, "", implementation)
    assert attention_mode(backbone) == "causal"
    assert changed_positions(backbone, 9, 8, num_padding) == [8]
    set_attention(backbone, "bidirectional")
    assert attention_mode(backbone) == "bidirectional"
    assert changed_positions(backbone, 9, 8, num_padding) == list(range(9))
    set_attention(backbone, "causal")
    assert changed_positions(backbone, 9, 8, num_padding) == [8]


@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
@pytest.mark.parametrize("architecture", ["qwen2", "mistral", "gemma3_text", "bert"])
def test_it_survives_saving_and_loading(tmp_path, architecture, attention):
    mode = "" if architecture == "bert" else attention
    encoder = tiny_encoder(architecture, tiny.make_tokenizer(), attention=mode, max_tokens=64)
    write_encoder(encoder, tmp_path, {})
    found = read_encoder(tmp_path)
    assert found.spec.attention == mode
    assert json.loads((tmp_path / "config.json").read_text()).get("is_causal") == (
        None if not mode else mode == "causal"
    )
    for implementation in ("sdpa", "eager"):
        found.backbone.set_attn_implementation(implementation)
        for num_padding in (0, 3):
            assert changed_positions(found.backbone, 9, 8, num_padding) == (
                [8] if mode == "causal" else list(range(9))
            )


def test_the_mode_is_written_even_where_it_is_the_default(tmp_path):
    write_encoder(tiny_encoder("qwen2", tiny.make_tokenizer(), max_tokens=64), tmp_path, {})
    assert json.loads((tmp_path / "config.json").read_text())["is_causal"] is True


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", ["mistral", "gemma3_text"])
def test_windows_look_to_both_sides_in_bidirectional_mode(architecture, implementation):
    layers = {"layer_types": ["sliding_attention"]} if architecture == "gemma3_text" else {}
    encoder = tiny_encoder(
        architecture,
        tiny.make_tokenizer(),
        max_tokens=64,
        num_hidden_layers=1,
        sliding_window=3,
        **layers,
    )
    encoder.backbone.set_attn_implementation(implementation)
    assert changed_positions(encoder.backbone, 13, 6) == [6, 7, 8]
    set_attention(encoder.backbone, "bidirectional")
    assert changed_positions(encoder.backbone, 13, 6) == [3, 4, 5, 6, 7, 8, 9]
    assert changed_positions(encoder.backbone, 13, 6, num_padding=4) == [3, 4, 5, 6, 7, 8, 9]


def test_the_flag_of_the_layers_alone_is_a_trap():
    """sdpa follows it where there is no mask; padded batches and eager execution stay causal."""
    found = {}
    for implementation in ("sdpa", "eager"):
        backbone = make_backbone("qwen2", "", implementation)
        for layer in backbone.layers:
            layer.self_attn.is_causal = False
        for is_padded in (False, True):
            found[implementation, is_padded] = sees_later_tokens(backbone, is_padded)
            assert found[implementation, is_padded] == (
                len(changed_positions(backbone, 9, 8, 3 * is_padded)) == 9
            )
    assert found == {
        ("sdpa", False): True,
        ("sdpa", True): False,
        ("eager", False): False,
        ("eager", True): False,
    }


def test_a_computation_that_contradicts_the_config_is_found():
    backbone = make_backbone("qwen2", "")
    for layer in backbone.layers:
        layer.self_attn.is_causal = False
    with pytest.raises(LeafkitError, match="does not compute causal attention in unpadded batches"):
        check_attention(backbone)


@pytest.mark.parametrize("architecture", REFUSED)
def test_an_architecture_that_stays_causal_is_refused_and_left_as_it_was(architecture):
    backbone = make_backbone(architecture, "", "sdpa" if architecture == "stablelm" else "eager")
    with pytest.raises(
        LeafkitError, match=rf"\({architecture}\) does not compute bidirectional attention"
    ) as caught:
        set_attention(backbone, "bidirectional")
    assert caught.value.hint
    assert attention_mode(backbone) == "causal"
    check_attention(backbone)


def test_a_stored_model_that_stays_causal_is_refused(tmp_path):
    encoder = tiny_encoder("stablelm", tiny.make_tokenizer(), max_tokens=64)
    write_encoder(encoder, tmp_path, {})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"is_causal": False}))
    (tmp_path / "leafkit.json").unlink()
    with pytest.raises(LeafkitError, match="does not compute bidirectional attention"):
        read_encoder(tmp_path)


@pytest.mark.parametrize(
    "architecture",
    ["bert", "roberta", "distilbert", "modernbert", "electra", "mpnet", "nomic_bert"],
)
def test_encoders_have_no_choice(architecture):
    backbone = make_backbone(architecture, "", "eager")
    assert attention_mode(backbone) == ""
    set_attention(backbone, "bidirectional")
    assert attention_mode(backbone) == ""
    with pytest.raises(UsageError, match="was built to be bidirectional"):
        set_attention(backbone, "causal")


def test_an_encoder_that_its_config_calls_causal_is_refused(tmp_path):
    """transformers would run it causally in batches without padding and bidirectionally in all
    others.
    """
    tiny.write_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"is_causal": True}))
    with pytest.raises(LeafkitError, match="is an encoder and its config says is_causal=true"):
        read_encoder(tmp_path)


def test_a_bert_decoder_is_causal():
    config = BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        is_decoder=True,
    )
    backbone = BertModel(config, add_pooling_layer=False).eval()
    assert attention_mode(backbone) == "causal"
    assert changed_positions(backbone, 9, 8) == [8]


def test_gemmas_own_switch_is_known(tmp_path):
    """EmbeddingGemma is a gemma3_text with use_bidirectional_attention; its halved windows must
    survive a round trip.
    """
    encoder = tiny_encoder(
        "gemma3_text",
        tiny.make_tokenizer(),
        max_tokens=64,
        use_bidirectional_attention=True,
        sliding_window=8,
    )
    assert encoder.spec.attention == "bidirectional"
    assert changed_positions(encoder.backbone, 9, 8) == list(range(9))
    write_encoder(encoder, tmp_path, {})
    found = read_encoder(tmp_path)
    assert (found.spec.attention, found.backbone.config.sliding_window) == ("bidirectional", 5)
    ids = [list(range(5, 40))]
    with torch.no_grad():
        assert torch.equal(found(ids), encoder(ids))
    with pytest.raises(UsageError, match="was built to be bidirectional"):
        set_attention(found.backbone, "causal")


def test_unknown_modes_are_refused():
    with pytest.raises(UsageError, match="attention 'prefix' is not one of bidirectional, causal"):
        set_attention(make_backbone("qwen2", ""), "prefix")


def test_the_probe_leaves_the_model_as_it_was():
    backbone = make_backbone("qwen2", "").train()
    check_attention(backbone)
    assert backbone.training
    assert all(p.grad is None for p in backbone.parameters())


def test_a_spec_that_contradicts_the_backbone_is_refused():
    encoder = tiny_encoder("qwen2", tiny.make_tokenizer(), max_tokens=64)
    assert encoder.spec.attention == "causal"
    with pytest.raises(
        UsageError, match="attention 'bidirectional' is not what the backbone computes: causal"
    ):
        TextEncoder(encoder.backbone, encoder.tokenizer, EncoderSpec(attention="bidirectional"))
