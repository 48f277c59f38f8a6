"""A library that is not installed: one error that says how to get it."""

from __future__ import annotations

import sys

import pytest

from leafkit.core.errors import MissingExtra


@pytest.mark.parametrize(
    ("method", "package", "extra"),
    [
        ("langchain", "langchain_core.embeddings", "langchain"),
        ("llama_index", "llama_index.core.base.embeddings.base", "llama-index"),
        ("haystack", "haystack", "haystack"),
    ],
)
def test_the_error_names_the_extra(pair, monkeypatch, method, package, extra):
    monkeypatch.delitem(sys.modules, f"leafkit.adapters.{method}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra) as error:
        getattr(pair, method)()
    assert error.value.hint == f'pip install "leafkit[{extra}]"'
