"""The plan: who writes what, the same whatever else is asked for, and what it may cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from leafkit.config import SYNTH_TASKS, SynthConfig
from leafkit.synth.personas import Persona, read_personas
from leafkit.synth.plan import (
    estimate,
    estimate_tokens,
    instruction_job,
    plan_slots,
    price,
    row_jobs,
)

PERSONAS = read_personas("builtin")
CONFIG = SynthConfig(model="m", num_instructions=48, rows_per_instruction=3)


def test_slots_are_dealt_evenly() -> None:
    slots = plan_slots(CONFIG, PERSONAS, 1)
    assert set(Counter((s.task.name, s.language) for s in slots).values()) == {2}
    assert len({s.key for s in slots}) == 48
    assert all(s.persona.language == s.language for s in slots)


def test_personas_are_used_up_before_one_returns() -> None:
    config = replace(CONFIG, languages=["pl", "en"], num_instructions=56 * 2)
    counts = Counter(s.persona.id for s in plan_slots(config, PERSONAS, 1))
    assert max(counts.values()) <= 2
    assert len(counts) >= 100


def test_a_larger_plan_begins_with_the_smaller_one() -> None:
    larger = replace(CONFIG, num_instructions=100, rows_per_instruction=5)
    small, large = plan_slots(CONFIG, PERSONAS, 1), plan_slots(larger, PERSONAS, 1)
    assert [s.key for s in large[:48]] == [s.key for s in small]
    for a, b in zip(small, large, strict=False):
        few, many = (row_jobs(s, "instruction", c, 1) for s, c in ((a, CONFIG), (b, larger)))
        assert [(r.job.key, r.job.messages) for r in few] == [
            (r.job.key, r.job.messages) for r in many[:3]
        ]


def test_the_seed_decides() -> None:
    first, again, other = (plan_slots(CONFIG, PERSONAS, seed) for seed in (1, 1, 2))
    assert [s.key for s in first] == [s.key for s in again] != [s.key for s in other]


def test_all_jobs_have_different_keys_and_prompts() -> None:
    jobs = [
        r.job
        for s in plan_slots(CONFIG, PERSONAS, 1)
        for r in row_jobs(s, f"instruction {s.key}", CONFIG, 1)
    ]
    assert len({job.key for job in jobs}) == len(jobs) == 48 * 3


@pytest.mark.parametrize("task", SYNTH_TASKS)
def test_one_or_two_steps(task: str) -> None:
    config = replace(CONFIG, tasks=[task], num_instructions=1)
    (slot,) = plan_slots(config, PERSONAS, 1)
    job, rows = instruction_job(slot), row_jobs(slot, "i", config, 1)
    roles = [m["role"] for m in rows[0].job.messages]
    if task in ("sts", "bitext"):
        assert job is None
        assert roles == ["system", "user"]
        assert len({r.persona.id for r in rows}) == 3
        assert all(r.persona.persona in r.job.messages[0]["content"] for r in rows)
    else:
        assert job is not None
        assert slot.persona.persona in job.messages[0]["content"]
        assert roles == ["user"]
        assert {r.persona.id for r in rows} == {slot.persona.id}


def test_bitext_goes_round_the_other_languages() -> None:
    config = replace(CONFIG, tasks=["bitext"], num_instructions=40)
    pairs = {
        r.languages for s in plan_slots(config, PERSONAS, 1) for r in row_jobs(s, "i", config, 1)
    }
    assert pairs == {(a, b) for a in config.languages for b in config.languages if a != b}


def test_one_persona_is_enough() -> None:
    slots = plan_slots(replace(CONFIG, languages=["en"]), [Persona("x", "en", "A cook.")], 1)
    assert {s.persona.id for s in slots} == {"x"}
    assert len({s.key for s in slots}) == 48


def test_tokens_by_the_rule() -> None:
    assert estimate_tokens("") == 0
    assert estimate_tokens("abcdefg") == 2
    assert estimate_tokens("abcdefgh") == 3
    assert estimate_tokens("你好ab") == 3


def test_the_estimate_adds_up() -> None:
    config = replace(CONFIG, max_output_tokens=10)
    jobs = [r.job for s in plan_slots(config, PERSONAS, 1) for r in row_jobs(s, "i", config, 1)]
    size = estimate(jobs, config)
    assert size.requests == 144
    # the usual answer is longer than it may be
    assert size.output_tokens == size.most_output_tokens == 1440
    assert size.input_tokens == sum(
        estimate_tokens(m["content"]) for job in jobs for m in job.messages
    )
    assert estimate(jobs, replace(config, max_output_tokens=100_000)).output_tokens > 1440
    assert estimate([], config).requests == 0


def test_price() -> None:
    config = replace(
        CONFIG, price_per_million_input_tokens=2.0, price_per_million_output_tokens=8.0
    )
    assert price(500_000, 250_000, config) == pytest.approx(3.0)
    assert price(500_000, 250_000, CONFIG) == 0
