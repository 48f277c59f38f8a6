"""Models of fewer layers: which are kept, what they compute, and that they read back."""

from __future__ import annotations

import copy

import packed_case
import pytest
import tiny
import torch
from torch import nn

from leafkit.core.errors import UsageError
from leafkit.models.checkpoint import read_encoder, write_encoder
from leafkit.models.foreign.backbone import load_backbone
from leafkit.models.prune_layers import choose_layers, find_layers, prune_layers
from leafkit.models.text_encoder import TextEncoder
from leafkit.models.tiny import tiny_encoder

IDS = packed_case.token_ids()


@torch.no_grad()
def vectors(encoder: TextEncoder) -> torch.Tensor:
    return encoder(IDS)


def by_hand(encoder: TextEncoder, kept: list[int]) -> TextEncoder:
    """The encoder with layers taken out of its list, each with its own kind of attention."""
    backbone = copy.deepcopy(encoder.backbone)
    place, _ = find_layers(backbone)
    parent, _, name = place.rpartition(".")
    layers = backbone.get_submodule(place)
    setattr(backbone.get_submodule(parent), name, nn.ModuleList(layers[i - 1] for i in kept))
    backbone.config.num_hidden_layers = len(kept)
    if getattr(backbone.config, "layer_types", None):
        backbone.config.layer_types = [backbone.config.layer_types[i - 1] for i in kept]
    return TextEncoder(backbone, encoder.tokenizer, encoder.spec).eval()


@pytest.mark.parametrize("kind", packed_case.KINDS)
@pytest.mark.parametrize("choice", ["1,3", "every:3"])
def test_every_architecture_keeps_its_layers_as_they_were(kind, choice, tmp_path):
    encoder = packed_case.make(kind)
    kept = choose_layers(choice, packed_case.NUM_LAYERS)
    before = vectors(encoder)
    if kind == "modernbert" and 1 not in kept:
        with pytest.raises(UsageError, match=r"attn_norm\.weight is of its first layer alone"):
            prune_layers(encoder, choice)
        return
    pruned = prune_layers(encoder, choice)
    found = vectors(pruned)
    assert torch.allclose(found, vectors(by_hand(encoder, kept)), atol=1e-6)
    assert torch.equal(vectors(encoder), before)
    assert not torch.allclose(found, before, atol=1e-3)
    assert encoder.backbone.config.num_hidden_layers == packed_case.NUM_LAYERS
    pruned.backbone.save_pretrained(tmp_path)
    again = load_backbone(tmp_path)
    assert again.config.num_hidden_layers == len(kept)
    reread = TextEncoder(again, encoder.tokenizer, encoder.spec).eval()
    assert torch.equal(vectors(reread), found)
    # nothing is shared: training one does not move the other
    with torch.no_grad():
        for weight in pruned.parameters():
            weight.add_(1.0)
    assert torch.equal(vectors(encoder), before)


@pytest.mark.parametrize("architecture", ["bert", "mpnet", "modernbert", "qwen3", "gemma3_text"])
def test_a_written_folder_holds_the_pruned_model(architecture, tmp_path):
    encoder = tiny_encoder(architecture, tiny.make_tokenizer(), max_tokens=64)
    encoder.projection = nn.Linear(encoder.hidden_size, 24)
    pruned = prune_layers(encoder, "1")
    write_encoder(pruned, tmp_path, {"kind": "teacher", "dim": 24, "mrl_dims": []})
    again = read_encoder(tmp_path)
    texts = ["sort the table", "how do i invert a matrix"]
    ids = pruned.tokenize(texts, "query")
    assert again.tokenize(texts, "query") == ids
    with torch.no_grad():
        assert torch.equal(again(ids), pruned(ids))
    assert again.num_parameters() == pruned.num_parameters() < encoder.num_parameters()


def test_the_older_field_of_modernbert_says_what_its_layer_types_say(caplog):
    encoder = packed_case.make("modernbert", num_hidden_layers=7, layer_types=None)
    encoder.backbone.config.global_attn_every_n_layers = 3  # global: layers 1, 4 and 7

    def pattern(choice: str) -> int | None:
        config = prune_layers(encoder, choice).backbone.config
        return getattr(config, "global_attn_every_n_layers", None)

    assert pattern("first:5") == 3
    assert pattern("1,2,4,5") == 2
    assert pattern("1,4,7") == 1
    assert pattern("1,2,3") == 3
    with caplog.at_level("WARNING", logger="leafkit"):
        assert pattern("1,4,5,6") is None
    assert "in no regular way" in caplog.text


def test_layers_are_numbered_from_1_in_the_order_of_the_model():
    assert choose_layers("1, 3,6", 6) == [1, 3, 6]
    assert choose_layers("first:2", 6) == [1, 2]
    assert choose_layers("last:2", 6) == [5, 6]
    assert choose_layers("every:2", 7) == [2, 4, 6]
    assert choose_layers("first:1,last:1", 12) == [1, 12]
    assert choose_layers("6", 6) == [6]


@pytest.mark.parametrize(
    ("choice", "complaint"),
    [
        ("7", "7 is beyond the 6 layers"),
        ("first:7", "first:7 is beyond the 6 layers"),
        ("every:7", "every:7 is beyond the 6 layers"),
        ("2,2", "names layer 2 twice"),
        ("first:4,last:3", "names layer 4 twice"),
        ("3,1", "is out of order"),
        ("0", "'0' names no layers"),
        ("", "'' names no layers"),
        (",", "'' names no layers"),
        ("1,", "'' names no layers"),
        ("-1", "'-1' names no layers"),
        ("half", "'half' names no layers"),
        ("first:", "'first:' names no layers"),
        ("middle:2", "'middle:2' names no layers"),
        ("[1,3]", "names no layers"),
    ],
)
def test_a_choice_that_keeps_no_such_layers_is_one_error(choice, complaint):
    with pytest.raises(UsageError, match=r"student\.init_layers") as error:
        choose_layers(choice, 6)
    assert complaint in str(error.value)
    assert error.value.hint


def test_an_architecture_that_shares_its_layers_cannot_be_pruned():
    encoder = tiny_encoder("albert", tiny.make_tokenizer())
    with pytest.raises(UsageError, match="albert does not keep its 2 layers in one list"):
        prune_layers(encoder, "1")
