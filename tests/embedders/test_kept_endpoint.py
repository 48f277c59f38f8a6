"""What is written down of a teacher's endpoint: enough to ask it again, and nothing secret."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from leafkit.config import EmbeddingsConfig, EndpointConfig
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.embedders.kept_endpoint import (
    ENDPOINT_KEY,
    KeptEndpoint,
    keep_endpoint,
    read_endpoint,
)
from leafkit.embedders.openai_api import OpenAIEmbedder

URL = "https://api.example.org:8443/v1"
KEPT = KeptEndpoint(URL, 24, "OTHER_API_KEY")


def asked_at(url: str) -> OpenAIEmbedder:
    endpoint = EndpointConfig(base_url=url, api_key_env="OTHER_API_KEY")
    return OpenAIEmbedder("m", EmbeddingsConfig(endpoint=endpoint, dimensions=24), {"query": "q: "})


def test_it_leads_to_the_same_space_and_holds_no_secret(monkeypatch):
    monkeypatch.setenv("OTHER_API_KEY", "sk-secret")
    secret = "https://somebody:secret@api.example.org:8443/v1/?key=secret"
    for own, given in (("", URL), ("", secret), (secret, "")):
        monkeypatch.setenv("OPENAI_BASE_URL", own)
        model = asked_at(given)
        kept = keep_endpoint(model)
        assert kept == read_endpoint({ENDPOINT_KEY: asdict(KEPT)}) == KEPT
        monkeypatch.setenv("OPENAI_BASE_URL", "")
        again = OpenAIEmbedder("m", kept.settings(), {"query": "q: "})
        assert (again.fingerprint, again.config.dimensions) == (model.fingerprint, 24)
        assert again.config.endpoint.api_key_env == "OTHER_API_KEY"


def test_the_environment_may_say_what_is_not_kept_of_the_same_address(monkeypatch):
    for own in ("https://somebody:secret@api.example.org:8443/v1", f"{URL}/?version=2"):
        monkeypatch.setenv("OPENAI_BASE_URL", own)
        assert KEPT.settings().endpoint.base_url == ""
    for other in ("", "http://[", "https://api.example.org/v1", "https://api.example.org:8443/v2"):
        monkeypatch.setenv("OPENAI_BASE_URL", other)
        assert KEPT.settings().endpoint.base_url == URL


def test_a_host_that_only_the_file_names_is_not_asked(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(
        UsageError, match=r"to api\.example\.org: teacher_endpoint\.base_url"
    ) as one:
        KEPT.check_consent([])
    assert "allow_hosts=api.example.org" in one.value.hint
    KEPT.check_consent(["api.example.org"])
    KeptEndpoint("http://127.0.0.1:8000/v1", 0, "A_TOKEN").check_consent([])
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.example.org/v2")
    KEPT.check_consent([])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"base_url": "https://a:secret@b.org/v1"}, "may hold a password"),
        ({"base_url": ""}, "has no address"),
        ({"base_url": "http://["}, "has no address"),
        ({"base_url": "ftp://b.org"}, "is no http address"),
        ({"base_url": 7}, "is not base_url, dimensions, api_key_env alone"),
        ({"dimensions": -1}, "-1"),
        ({"dimensions": True}, "alone"),
        ({"api_key_env": "AWS_SECRET"}, "does not end in _API_KEY or _TOKEN"),
        ({"key": "secret"}, "alone"),
    ],
)
def test_what_no_recipe_may_say(change, says):
    told: dict[str, Any] = asdict(KEPT) | change
    with pytest.raises(LeafkitError, match=says) as refused:
        read_endpoint({ENDPOINT_KEY: told})
    assert "secret" not in str(refused.value)
    assert read_endpoint({}) is None
    with pytest.raises(LeafkitError, match="alone"):
        read_endpoint({ENDPOINT_KEY: [told]})
