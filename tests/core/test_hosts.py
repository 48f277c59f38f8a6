"""A recipe cannot choose who gets the user's texts and keys."""

from __future__ import annotations

import pytest

from leafkit.config.endpoint import EndpointConfig
from leafkit.core.errors import UsageError
from leafkit.core.openai_client import check_consent, read_address

HERE = ["http://localhost:8000/v1", "http://127.0.0.1/v1", "http://127.9.9.9/v1", "http://[::1]:1"]
THERE = [
    "https://evil.org/v1",
    "http://evil.org/v1",
    "https://localhost.evil.org/v1",
    "https://127.0.0.1.evil.org/v1",
    "https://api.openai.com.evil.org/v1",
    "http://10.0.0.5:8000/v1",
    "http://0.0.0.0/v1",
    "http://[::2]/v1",
    "https://EVIL.org:8443/v1",
]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")


@pytest.mark.parametrize("url", [*HERE, "", "https://api.openai.com/v1", "https://API.openai.com"])
def test_this_machine_and_openai_need_no_word(url: str) -> None:
    check_consent(EndpointConfig(base_url=url), [], "s")


@pytest.mark.parametrize("url", THERE)
def test_another_host_needs_the_users_word(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = EndpointConfig(base_url=url)
    with pytest.raises(UsageError, match="stands in a recipe file") as caught:
        check_consent(config, ["other.org"], "s.endpoint")
    assert "s.endpoint.base_url" in str(caught.value)
    host = caught.value.hint.partition("allow_hosts=")[2].split()[0]
    assert host in url.lower()
    check_consent(config, [host], "s")  # what the hint says helps
    check_consent(config, [host.upper()], "s")
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    check_consent(config, [], "s")


@pytest.mark.parametrize("url", [url for url in THERE if url.startswith("http:")])
@pytest.mark.parametrize("through", ["recipe", "environment"])
def test_no_key_travels_in_the_clear(
    url: str, through: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if through == "environment":
        monkeypatch.setenv("OPENAI_BASE_URL", url)
    base_url = url if through == "recipe" else ""
    with pytest.raises(
        UsageError, match=r"in OPENAI_API_KEY would travel to .* over plain"
    ) as caught:
        read_address(EndpointConfig(base_url=base_url), "s.endpoint")
    assert "sk-0123" not in str(caught.value) + caught.value.hint
    word = caught.value.hint.rpartition("s.endpoint.api_key_env=")[2]
    without = EndpointConfig(base_url=base_url, api_key_env=word)
    assert not read_address(without, "s").has_key


@pytest.mark.parametrize("url", [*HERE, "https://evil.org/v1"])
def test_a_key_goes_where_nobody_reads_it_on_the_way(url: str) -> None:
    assert read_address(EndpointConfig(base_url=url), "s").key == "sk-0123456789"
