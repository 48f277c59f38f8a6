"""Options of benchmarks that keep their cells, and that a cell of others is not taken back."""

from __future__ import annotations

from collections.abc import Callable, Sized

import pytest

USUAL = {
    "corpus": ["beir:some/scifact"],
    "teacher": "builtin:mpnet",
    "max_document_tokens": 256,
    "words": ["seed=1"],
    "threads": 2,
}
each_other_option = pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"teacher": "builtin:minilm"}, "teacher is 'builtin:mpnet' there"),
        ({"words": ["seed=2"]}, r"words is \['seed=1'\] there"),
        ({"threads": 1}, "threads is 2 there"),
        ({"max_document_tokens": 128}, "max_document_tokens is 256 there"),
        ({"corpus": ["beir:another/scifact"]}, "corpus is 'beir:some/scifact' there"),
    ],
)


def check_others_are_refused(
    measure: Callable[..., object], cells: Sized, others: dict[str, object], said: str
) -> None:
    """The cell of the usual options is refused under others, which make one of another label."""
    measure()
    with pytest.raises(SystemExit, match=said):
        measure(**others)
    measure(**others, label="others")
    assert len(cells) == 2
