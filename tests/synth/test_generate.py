"""Against a real server that misbehaves: what is retried, what stops the run, what is counted, what
is kept.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from synth_server import MODEL, ChatServer, Request, chat_server, completion

from leafkit.config import EndpointConfig, SynthConfig
from leafkit.core.checkpoint_layout import SYNTH_JOURNAL_FILE
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.openai_client import retry_after, shown_url
from leafkit.synth import chat_endpoint as endpoint_module
from leafkit.synth.chat_endpoint import Endpoint, base_url_of, read_address
from leafkit.synth.generate import OUTAGE_JOBS, generate
from leafkit.synth.journal import Journal, count_entries
from leafkit.synth.personas import read_personas
from leafkit.synth.plan import plan_slots
from leafkit.synth.rows import collect_instructions, collect_rows

pytest.importorskip("openai")
KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def _environment(monkeypatch) -> None:
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


@dataclass
class Result:
    rows: list[dict[str, Any]]
    instructions: list[dict[str, Any]]
    duplicates: int
    duplicate_instructions: int
    counts: dict[str, Any]


@pytest.fixture
def ask(server: ChatServer, tmp_path: Path):
    """Run a small generation against the server: two retrieval instructions with two rows each."""

    def run(**changes: Any) -> Result:
        endpoint = EndpointConfig(
            base_url=server.url, max_concurrency=2, max_retries=2, backoff_s=0.001, timeout_s=60.0
        )
        of_endpoint = {f.name: changes.pop(f.name) for f in fields(endpoint) if f.name in changes}
        config = SynthConfig(
            endpoint=replace(endpoint, **of_endpoint),
            model=MODEL,
            languages=["en"],
            tasks=["short_long"],
            num_instructions=2,
            rows_per_instruction=2,
        )
        config = replace(config, **changes)
        slots = plan_slots(config, read_personas("builtin"), 7)
        journal = Journal(tmp_path / "work", {})
        try:
            outcome = generate(
                slots, Endpoint(read_address(config), config), journal, config, seed=7
            )
        finally:
            journal.close()
        rows, duplicates = collect_rows(
            outcome, journal, config.model, shown_url(config.endpoint.base_url)
        )
        counts = count_entries(journal.entries)
        return Result(
            rows, collect_instructions(outcome), duplicates, outcome.duplicate_instructions, counts
        )

    return run


def test_everything_works(server: ChatServer, ask) -> None:
    result = ask()
    assert [len(result.rows), len(result.instructions), len(server.requests)] == [4, 2, 6]
    assert result.counts == {
        "requests": 6,
        "accepted": 6,
        "failed": {},
        "refused": {},
        "input_tokens": 600,
        "output_tokens": 60,
        "answers_without_usage": 0,
    }
    body = server.requests[0].body
    assert (body["model"], body["temperature"], body["max_tokens"]) == (MODEL, 1.0, 1024)
    assert body["response_format"] == {"type": "json_object"}
    assert server.requests[0].path == "/v1/chat/completions"
    assert {r.headers["authorization"] for r in server.requests} == {f"Bearer {KEY}"}
    steps = [r.body["messages"][0]["role"] for r in server.requests]
    assert steps == ["system"] * 2 + ["user"] * 4
    row = result.rows[0]
    assert set(row) == {
        "query",
        "positive",
        "negatives",
        "instruction",
        "task",
        "language",
        "split",
        "provenance",
    }
    assert (row["task"], row["language"], row["split"]) == ("retrieval", "en", "train")
    assert {r["instruction"] for r in result.rows} == {
        i["instruction"] for i in result.instructions
    }
    assert row["provenance"]["persona"] == result.instructions[0]["persona"]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("429", "status 429"),
        ("wait:0.01", "status 429"),
        ("wait:soon", "status 429"),
        ("wait:-5", "status 429"),
        ("wait:nan", "status 429"),
        ("500", "status 500"),
        ("503", "status 503"),
        ("599", "status 599"),
        ("408", "status 408"),
        ("drop", "connection lost"),
        ("half", "connection lost"),
        ("raw:<html>busy</html>", "no chat completion"),
        ("raw:", "no chat completion"),
        ("raw:{}", "no chat completion"),
        ('raw:{"choices": []}', "no chat completion"),
        ("raw:[]", "no chat completion"),
        ("nothing", "not JSON"),
        ("broken", "not JSON"),
        ("prose", "not JSON"),
        ("list", "not a JSON object"),
        ("cut", "cut at synth.max_output_tokens"),
    ],
)
def test_one_bad_answer_costs_one_more_request(
    server: ChatServer, ask, behaviour: str, reason: str
) -> None:
    server.script = lambda request: behaviour if request.number == 3 else "good"
    result = ask()
    assert len(result.rows) == 4
    assert result.counts["refused"] == {reason: 1}
    assert len(server.requests) == result.counts["requests"] == 7


@pytest.mark.parametrize(
    ("behaviour", "instruction_reason", "row_reason"),
    [
        ("missing", "'instruction' is missing or not text", "'positive' is missing or not text"),
        ("number", "'instruction' is missing or not text", "'positive' is missing or not text"),
        ("empty", "'instruction' is empty", "'positive' is empty"),
        ("tiny", "'instruction' is empty", "'positive' is empty"),
        ("huge", "'instruction' is too long", "'positive' is too long"),
        ("russian", "wrong language", "wrong language"),
        ("same", "", "a negative repeats the positive"),
        ("few", "", "wrong number of negatives"),
    ],
)
def test_an_answer_that_is_no_row_is_asked_for_again(
    server: ChatServer, ask, behaviour: str, instruction_reason: str, row_reason: str
) -> None:
    server.script = lambda request: "good" if request.attempt else behaviour
    result = ask()
    assert len(result.rows) == 4
    expected = (
        {instruction_reason: 2, row_reason: 4}
        if instruction_reason != row_reason
        else {row_reason: 6}
    )
    assert result.counts["refused"] == {reason: n for reason, n in expected.items() if reason}


@pytest.mark.parametrize("behaviour", ["fenced", "thinking"])
def test_wrapped_answers_are_taken(server: ChatServer, ask, behaviour: str) -> None:
    server.script = lambda request: behaviour
    assert [len(ask().rows), len(server.requests)] == [4, 6]


@pytest.mark.parametrize("behaviour", ["hang", "dribble", "slow:9"])
def test_a_late_answer_is_a_timeout_however_it_is_late(
    server: ChatServer, ask, behaviour: str
) -> None:
    server.script = lambda request: behaviour if request.number == 3 else "good"
    started_s = time.perf_counter()
    result = ask(timeout_s=0.5)
    assert time.perf_counter() - started_s < 4
    assert (len(result.rows), result.counts["refused"]) == (4, {"timeout": 1})


def test_an_endless_answer_is_cut_off(server: ChatServer, ask, monkeypatch) -> None:
    monkeypatch.setattr(endpoint_module, "MAX_ANSWER_BYTES", 300_000)
    server.script = lambda request: "endless" if request.number == 3 else "good"
    result = ask(timeout_s=30.0)
    assert (len(result.rows), result.counts["refused"]) == (4, {"endless answer": 1})


def test_retry_after_is_obeyed(server: ChatServer, ask) -> None:
    times: list[float] = []

    def script(request: Request) -> str:
        times.append(time.perf_counter())
        return "wait:0.4" if request.number == 0 else "good"

    server.script = script
    ask(max_concurrency=1)
    assert times[1] - times[0] >= 0.4
    assert max(b - a for a, b in itertools.pairwise(times[1:])) < 0.4


def test_retry_after_may_be_a_date_and_is_bounded() -> None:
    read = retry_after
    assert 50 < read(formatdate(time.time() + 60, usegmt=True)) < 61
    assert read(formatdate(time.time() - 60, usegmt=True)) == 0
    assert [read("1e9"), read("inf"), read("-3"), read("1.5")] == [600, 600, 0, 1.5]
    assert [read(None), read(""), read("nan"), read("tomorrow"), read("Mon, 99 Foo 2020")] == [
        None
    ] * 5


def test_the_wait_doubles(server: ChatServer, ask) -> None:
    times: list[float] = []

    def script(request: Request) -> str:
        times.append(time.perf_counter())
        return "500" if request.number < 4 else "good"

    server.script = script
    ask(max_concurrency=1, max_retries=4, backoff_s=0.05)
    gaps = [b - a for a, b in itertools.pairwise(times)][:4]
    for attempt, gap in enumerate(gaps):
        assert 0.5 * 0.05 * 2**attempt <= gap < 0.05 * 2**attempt + 0.15


def test_what_fails_for_good_is_counted_and_the_rest_is_kept(server: ChatServer, ask) -> None:
    bad: set[str] = set()

    def script(request: Request) -> str:
        if not request.is_instruction and len(bad) < 2:
            bad.add(request.prompt)
        return "broken" if request.prompt in bad else "good"

    server.script = script
    result = ask()
    assert len(result.rows) == 2
    assert result.counts["failed"] == {"not JSON": 2}
    assert result.counts["refused"] == {"not JSON": 6}
    assert len(server.requests) == 2 + 2 + 2 * 3


def test_a_lost_instruction_loses_its_rows_alone(server: ChatServer, ask) -> None:
    lost: list[str] = []

    def script(request: Request) -> str:
        lost.extend([request.prompt] if not lost else [])
        return "prose" if request.prompt == lost[0] else "good"

    server.script = script
    result = ask()
    assert (len(result.rows), len(result.instructions)) == (2, 1)
    assert result.counts["failed"] == {"not JSON": 1}


@pytest.mark.parametrize("behaviour", ["prose", "500", "drop", "raw:garbage"])
def test_nothing_but_garbage_ends(server: ChatServer, ask, behaviour: str) -> None:
    server.script = lambda request: behaviour
    result = ask()
    assert (result.rows, result.counts["accepted"], len(server.requests)) == ([], 0, 6)


def test_no_retries(server: ChatServer, ask) -> None:
    server.script = lambda request: "500" if request.number == 5 else "good"
    result = ask(max_retries=0)
    assert (len(result.rows), len(server.requests), result.counts["failed"]) == (
        3,
        6,
        {"status 500": 1},
    )


def test_an_endpoint_that_is_gone_stops_the_run_and_the_answers_stay(
    server: ChatServer, ask
) -> None:
    server.script = lambda request: "good" if request.number < 20 else "503"
    with pytest.raises(LeafkitError, match=r"no answer to 10 jobs in a row .*status 503") as caught:
        ask(num_instructions=40, max_retries=0)
    assert "continues" in caught.value.hint
    assert 20 + OUTAGE_JOBS <= len(server.requests) <= 20 + OUTAGE_JOBS + 2
    server.script = lambda request: "good"
    result = ask(num_instructions=40, max_retries=0)
    assert len(result.rows) == 80
    answered = {r.prompt for r in server.requests[:20]}
    assert not answered & {r.prompt for r in server.requests[20 + OUTAGE_JOBS + 2 :]}


def test_a_port_where_nobody_listens(ask) -> None:
    result = ask(base_url="http://127.0.0.1:9/v1")
    assert result.counts["failed"] == {"connection lost": 2}


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (400, "own words"),
        (401, "OPENAI_API_KEY"),
        (403, "OPENAI_API_KEY"),
        (404, "synth.endpoint.base_url"),
        (422, "own words"),
        (418, "own words"),
    ],
)
def test_a_refusal_stops_everything_at_once(
    server: ChatServer, ask, status: int, hint: str
) -> None:
    server.script = lambda request: f"{status}:you may not, {KEY}\nin two lines"
    with pytest.raises(LeafkitError) as caught:
        ask(num_instructions=30, max_concurrency=3)
    message = str(caught.value)
    assert all(part in message for part in (server.url, MODEL, str(status), "you may not, ***"))
    assert KEY not in message
    assert "\n" not in message
    assert hint in caught.value.hint
    # those in flight, and for 400 and 422 once more without response_format
    assert len(server.requests) <= 6
    assert caught.value.exit_status == 1


def test_an_account_without_credit_is_no_rate_limit(server: ChatServer, ask) -> None:
    server.script = lambda request: (
        '429:{"error": {"message": "you exceeded your quota", "code": "insufficient_quota"}}'
    )
    with pytest.raises(LeafkitError, match=r"status 429: .*exceeded your quota") as caught:
        ask()
    assert "credit" in caught.value.hint
    assert len(server.requests) <= 2


def test_response_format_is_given_up_once(server: ChatServer, ask) -> None:
    server.script = lambda request: (
        "400:response_format is not supported" if "response_format" in request.body else "good"
    )
    result = ask(num_instructions=6, max_concurrency=1)
    assert len(result.rows) == 12
    assert result.counts["refused"] == {}
    assert len(server.requests) == 6 + 12 + 1
    assert sum("response_format" in r.body for r in server.requests) == 1


def test_requests_in_flight_learn_it_each_once(server: ChatServer, ask) -> None:
    server.script = lambda request: "400" if "response_format" in request.body else "good"
    assert len(ask(num_instructions=6, max_concurrency=4).rows) == 12
    assert sum("response_format" in r.body for r in server.requests) <= 4


def test_the_output_limit_has_two_names(server: ChatServer, ask) -> None:
    server.script = lambda request: (
        "400:use max_completion_tokens instead" if "max_tokens" in request.body else "good"
    )
    result = ask(max_concurrency=1, max_output_tokens=77)
    assert len(result.rows) == 4
    assert {r.body["max_completion_tokens"] for r in server.requests[1:]} == {77}
    assert all("response_format" in r.body for r in server.requests)


def test_no_more_requests_at_once_than_allowed(server: ChatServer, ask) -> None:
    server.script = lambda request: "slow:0.03"
    ask(num_instructions=8, max_concurrency=3)
    assert server.max_at_once == 3


def test_one_at_a_time_gives_the_same_rows_as_many(server: ChatServer, ask, tmp_path: Path) -> None:
    delays = iter([0.09, 0.01, 0.05, 0.02] * 20)
    server.script = lambda request: f"slow:{next(delays)}"
    many = ask(num_instructions=4, max_concurrency=8)
    (tmp_path / "work" / SYNTH_JOURNAL_FILE).unlink()
    server.script = lambda request: "good"
    one = ask(num_instructions=4, max_concurrency=1)
    assert [undated(r) for r in many.rows] == [undated(r) for r in one.rows]


def test_duplicates_are_dropped_and_counted(server: ChatServer, ask) -> None:
    server.script = lambda request: "twin"
    result = ask(num_instructions=3, rows_per_instruction=3)
    assert (len(result.rows), result.duplicates, result.counts["accepted"]) == (1, 8, 12)


def test_a_repeated_instruction_is_not_asked_for_rows(server: ChatServer, ask) -> None:
    server.script = lambda request: "instruction-twin"
    result = ask(num_instructions=3, rows_per_instruction=2)
    assert (len(result.instructions), result.duplicate_instructions, len(result.rows)) == (1, 2, 2)
    assert len(server.requests) == 3 + 2


def test_a_pair_turned_round_is_a_duplicate(server: ChatServer, ask) -> None:
    pair = (
        "The keeper of the harbour notes the weather.",
        "In the harbour, somebody writes down the weather.",
    )

    def script(request: Request) -> str:
        query, positive = pair if request.number % 2 else pair[::-1]
        content = json.dumps({"query": query, "positive": positive, "negatives": []})
        return f"raw:{completion(content)}"

    server.script = script
    result = ask(tasks=["sts"], num_instructions=1, num_negatives=0, max_concurrency=1)
    assert (len(result.rows), result.duplicates) == (1, 1)


@pytest.mark.parametrize(
    "usage",
    [
        "[]",
        "{}",
        '{"prompt_tokens": -5, "completion_tokens": -5}',
        '{"prompt_tokens": "many", "completion_tokens": null}',
        '{"prompt_tokens": 1e30, "completion_tokens": true}',
        f'{{"prompt_tokens": {10**40}, "completion_tokens": 1.5}}',
    ],
)
def test_usage_that_lies_is_estimated_and_counted(server: ChatServer, ask, usage: str) -> None:
    server.script = lambda request: f"usage:{usage}"
    counts = ask().counts
    assert counts["answers_without_usage"] == 6
    assert 6 * 50 < counts["input_tokens"] < 6 * 1000
    assert 6 * 10 < counts["output_tokens"] < 6 * 2000


def test_refused_answers_cost_tokens_too(server: ChatServer, ask) -> None:
    server.script = lambda request: "good" if request.attempt else "prose"
    counts = ask().counts
    assert (counts["input_tokens"], counts["output_tokens"]) == (12 * 100, 12 * 10)


def test_the_run_stops_at_its_cost_and_goes_on_when_it_may(server: ChatServer, ask) -> None:
    prices = {"price_per_million_input_tokens": 1e4, "max_concurrency": 1}  # a request costs 1
    with pytest.raises(LeafkitError, match=r"max_cost=4\.0 is reached"):
        ask(max_cost=4.0, **prices)
    assert len(server.requests) == 4
    assert len(ask(max_cost=100.0, **prices).rows) == 4
    assert len(server.requests) == 6


def test_all_six_task_types_in_all_languages(server: ChatServer, ask) -> None:
    tasks = ["short_long", "long_short", "short_short", "long_long", "sts", "bitext"]
    result = ask(
        tasks=tasks,
        languages=["en", "zh", "fr", "pl"],
        num_instructions=24,
        num_negatives=3,
        max_concurrency=8,
    )
    assert len(result.rows) == 48
    assert result.counts["refused"] == {}
    assert len({(r["provenance"]["task_type"], r["language"][:2]) for r in result.rows}) == 24
    assert all(len(r["negatives"]) == 3 for r in result.rows)
    assert {r["task"] for r in result.rows} == {"retrieval", "classification", "sts", "bitext"}
    assert len(result.instructions) == 16
    assert all("-" in r["language"] for r in result.rows if r["task"] == "bitext")


# --- address and key


def config_for(url: str, **changes: Any) -> SynthConfig:
    return SynthConfig(endpoint=EndpointConfig(base_url=url, **changes), model=MODEL)


def test_openai_needs_a_key_before_anything_is_sent(monkeypatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    for url in ("", "https://api.openai.com/v1", "https://API.OpenAI.com/v1"):
        with pytest.raises(UsageError, match="OPENAI_API_KEY is not set"):
            read_address(config_for(url))
    with pytest.raises(UsageError, match="MY_KEY is not set"):
        read_address(config_for("", api_key_env="MY_KEY"))
    monkeypatch.setenv("OPENAI_API_KEY", "  ")
    with pytest.raises(UsageError, match="OPENAI_API_KEY is not set"):
        read_address(config_for(""))


def test_a_local_endpoint_needs_none(server: ChatServer, ask, monkeypatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    ask()
    assert {r.headers["authorization"] for r in server.requests} == {"Bearer none"}


def test_the_address_comes_from_the_recipe_then_the_environment(monkeypatch) -> None:
    assert base_url_of(config_for("")) == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://there:1/v1")
    assert base_url_of(config_for("")) == "http://there:1/v1"
    assert base_url_of(config_for("http://here/v1")) == "http://here/v1"


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000/v1",
        "ftp://x/v1",
        "http://",
        "http://[::1/v1",
        "http://u:pw@x:port/v1",
        "/v1",
    ],
)
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(UsageError, match="is no http address") as caught:
        read_address(config_for(url))
    assert "pw" not in str(caught.value)


def test_a_model_must_be_named() -> None:
    with pytest.raises(UsageError, match=r"synth\.model is missing"):
        read_address(SynthConfig(endpoint=EndpointConfig(base_url="http://x/v1")))


@pytest.mark.parametrize("key", ["ключ-0123", "two\nlines"])
def test_a_key_that_is_none_is_not_shown(monkeypatch, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UsageError, match="holds no key") as caught:
        read_address(config_for("http://x/v1"))
    assert key not in str(caught.value) + caught.value.hint


def test_a_password_in_the_address_is_used_and_never_shown(
    server: ChatServer, ask, tmp_path: Path
) -> None:
    url = server.url.replace("http://", "http://ann:pass-word-1@")
    server.script = lambda request: (
        "good" if request.number < 5 else f"403:not you, pass-word-1 of {url} with {KEY}"
    )
    with pytest.raises(LeafkitError) as caught:
        ask(base_url=url, max_concurrency=1)
    assert "pass-word-1" not in str(caught.value) + caught.value.hint
    assert KEY not in str(caught.value)
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert len(written) > 1000
    assert b"pass-word-1" not in written
    assert KEY.encode() not in written
    assert shown_url("https://ann:pw@host:8/v1/?key=1#x") == "https://host:8/v1"


def undated(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"provenance": {k: v for k, v in row["provenance"].items() if k != "created"}}
