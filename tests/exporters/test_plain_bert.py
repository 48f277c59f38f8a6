"""BERT for serving against transformers' own forward: texts padded and alone, and the model it is
made of.
"""

from __future__ import annotations

import pytest
import torch
from tiny import make_encoder

from leafkit.exporters.plain_bert import PlainBert


@pytest.fixture(scope="module")
def bert():
    return make_encoder(hidden=48).backbone


@pytest.mark.parametrize("lengths", [[1], [7], [5, 5], [9, 1, 4], [128, 3]])
def test_hidden_states_are_transformers_own(bert, lengths):
    torch.manual_seed(0)
    ids = torch.randint(0, bert.config.vocab_size, (len(lengths), max(lengths)))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    with torch.inference_mode():
        found, expected = (
            PlainBert(bert)(ids, mask),
            bert(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states,
        )
    assert len(found) == len(expected) == 3
    for one, other in zip(found, expected, strict=True):
        for row, length in enumerate(lengths):
            torch.testing.assert_close(one[row, :length], other[row, :length], atol=1e-5, rtol=1e-5)


def test_what_lies_in_the_padding_changes_nothing(bert):
    ids = torch.randint(
        0, bert.config.vocab_size, (2, 8), generator=torch.Generator().manual_seed(1)
    )
    mask = torch.tensor([[1] * 8, [1] * 3 + [0] * 5])
    other = ids.clone()
    other[1, 3:] = 0
    with torch.inference_mode():
        one, two = PlainBert(bert)(ids, mask)[-1], PlainBert(bert)(other, mask)[-1]
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1, :3], two[1, :3])


def test_the_model_it_is_made_of_stays_as_it_was(bert):
    before = {name: weight.clone() for name, weight in bert.state_dict().items()}
    PlainBert(bert)
    assert all(torch.equal(weight, before[name]) for name, weight in bert.state_dict().items())
