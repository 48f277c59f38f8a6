"""Weights shared out among two processes (FSDP2 over gloo): what they train is what whole weights
train, what they leave is an encoder like any other, and a state of them is a state of any launch.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import sharded_training as case
import tiny
import torch

from leafkit.core.errors import UsageError
from leafkit.models.tiny import tiny_encoder
from leafkit.train.devices.sharded import shard

ROUNDING = 1e-6  # of losses below 8: two of float32's steps


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = str(tiny.ROOT / "tests" / "support" / "sharded_training.py")
    done = subprocess.run(
        [*launcher, "--nproc-per-node", "2", script, str(folder)],
        env=tiny.environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def found(folder) -> list[dict]:
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("name", case.CASES)
def test_sharded_weights_train_what_whole_ones_train(found, name):
    whole, sharded = (found[0][f"{name}: {strategy}"] for strategy in ("ddp", "fsdp"))
    assert len(set(sharded["losses"])) >= 4
    assert sharded["losses"] == pytest.approx(whole["losses"], abs=ROUNDING, rel=0)
    torch.testing.assert_close(sharded["weights"], whole["weights"], atol=1e-5, rtol=0)
    start = case.flat(case.make_encoder(case.CASES[name][1], recomputes=False))
    assert float((sharded["weights"] - start).abs().max()) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", case.CASES)
def test_each_process_holds_a_half_and_both_end_with_the_whole(found, name):
    for rank in range(2):
        held, num_weights = found[rank][f"{name}: fsdp"]["held"]
        assert held < 0.51 * num_weights
        assert len(set(found[rank][f"{name}: ddp"]["held"])) == 1
    ends = [found[rank][f"{name}: fsdp"]["weights"] for rank in range(2)]
    assert torch.equal(*ends)


@pytest.mark.slow
def test_lightnings_own_strategy_does_the_same(found):
    own, expected = found[0][case.OWN], found[0]["leaf, bert: fsdp"]
    assert (own["losses"], own["held"]) == (expected["losses"], expected["held"])
    assert torch.equal(own["weights"], expected["weights"])


@pytest.mark.slow
def test_checks_and_averages_are_of_the_gathered_weights(found):
    whole, sharded = (found[0][f"leaf, bert, checked: {x}"] for x in ("ddp", "fsdp"))
    assert [done for done, _ in sharded["checks"]] == [0, 2, 4, 6]
    assert max(sharded["checks"], key=lambda check: check[1])[0] == 4  # and kept
    for (_, level), (_, expected) in zip(sharded["checks"], whole["checks"], strict=True):
        assert level == pytest.approx(expected, abs=ROUNDING)
    torch.testing.assert_close(sharded["average"], whole["average"], atol=1e-6, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", case.STOPPED)
def test_a_stopped_training_goes_on_to_the_same_bits(found, name):
    undisturbed, again = (found[0][f"{name}: fsdp{x}"] for x in ("", ", again"))
    assert again["losses"] == undisturbed["losses"]
    assert again.get("checks") == undisturbed.get("checks")
    assert torch.equal(again["weights"], undisturbed["weights"])


@pytest.mark.slow
@pytest.mark.parametrize("name", case.STOPPED)
@pytest.mark.parametrize("launch", ["two processes with whole weights", "one process"])
def test_any_launch_goes_on_from_a_state_of_sharded_weights(folder, found, name, launch, caplog):
    undisturbed = found[0][f"{name}: fsdp"]
    if launch == "one process":
        with caplog.at_level("INFO", logger="leafkit"):
            again = case.train(name, "auto", folder / name)
        assert f"goes on after {case.STOP_AT + 1} of" in caplog.text
    else:
        again = found[0][f"{name}: ddp, again"]
    assert again["losses"] == pytest.approx(undisturbed["losses"], abs=1e-5, rel=0)
    torch.testing.assert_close(again["weights"], undisturbed["weights"], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [("electra", "leafkit knows no packed form of it")],
)
def test_what_is_not_packed_is_refused(architecture, reason):
    encoder = tiny_encoder(architecture, tiny.make_tokenizer(), seed=1, max_tokens=64)
    with pytest.raises(UsageError, match=f"fsdp does not shard ElectraModel: {reason}"):
        shard(encoder, None)


@pytest.mark.slow
def test_a_pair_is_distilled_and_a_table_of_vectors_too(tmp_path):
    """The whole road of a recipe: a teacher's stage and its student, then a static student."""
    home = tiny.make_home(tmp_path / "home")
    stages = {"only": tiny.tiny_stage(home, num_steps=4, wise_ft_alpha=0.5)}
    teach = tiny.tiny_recipe(home, tmp_path / "unset") | {"stages": stages}
    student = tiny.tiny_recipe(home, tmp_path / "unset")
    student["teacher"] = {"source": f"recipe:{tiny.write_recipe(tmp_path / 'teach.yaml', teach)}"}
    student["student"] |= {"ema": 0.5, "num_epochs": 0.5}
    recipe = tiny.write_recipe(tmp_path / "tiny.yaml", student)
    curves = {}
    for strategy in ("ddp", "fsdp"):
        words = (f"recipe={recipe}", f"checkpoints={tmp_path / strategy}", "precision=float32")
        for extra in ([], ["student.kind=static", "student.static.width=16"]):
            chosen = f"trainer.strategy={strategy}"
            done = tiny.run_cli("distill", *words, chosen, *extra, processes=2, timeout=300)
            assert done.returncode == 0, done.stderr[-3000:]
            assert ("ddp stands in" in done.stdout) == (strategy == "fsdp" and bool(extra))
            for step in ("teach/only", "tiny/student"):
                losses = (tmp_path / strategy / step / "losses.json").read_text()
                curves[strategy, step, bool(extra)] = json.loads(losses)
    for (strategy, *rest), losses in curves.items():
        if strategy == "fsdp":
            assert losses == pytest.approx(curves["ddp", *rest], abs=ROUNDING, rel=0), rest
    files = [
        sorted(p.name for p in (tmp_path / s / "teach" / "only").rglob("*"))
        for s in ("ddp", "fsdp")
    ]
    assert files[0] == files[1]


RECIPES = {"kalm-v2": 3, "lg-anna": 1}  # how many of their stages train


def dry_run_losses(folder: Path, *words: str, **options: object) -> list[dict[str, list[float]]]:
    """Losses of a recipe's stages, with whole weights and with shares of them."""
    curves = []
    for strategy in ("ddp", "fsdp"):
        done = tiny.run_cli(
            *words,
            "dry_run=true",
            "precision=float32",
            f"trainer.strategy={strategy}",
            f"checkpoints={folder / strategy}",
            processes=2,
            timeout=600,
            # gathered weights lie elsewhere in memory, by which Intel's library rounds
            env={"MKL_CBWR": "AVX2,STRICT"},
            **options,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        written = sorted((folder / strategy).rglob("losses.json"))
        curves.append({path.parent.name: json.loads(path.read_text()) for path in written})
    assert curves[0].keys() == curves[1].keys()
    return curves


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_dry_runs_of_recipes_have_the_losses_of_whole_weights(tmp_path, recipe):
    whole, sharded = dry_run_losses(tmp_path, "teach", f"recipe={recipe}")
    assert sum(map(bool, whole.values())) == RECIPES[recipe]
    # a temperature of a hundredth makes 1e-5 of the last bit of a cosine, and each stage starts
    # from the last one's weights
    for stage, losses in whole.items():
        assert sharded[stage] == pytest.approx(losses, rel=2e-6), stage
    first = {"kalm-v2": "weak", "lg-anna": "tune"}[recipe]
    assert sharded[first] == pytest.approx(whole[first], abs=ROUNDING, rel=0)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_what_they_differ_by_is_rounding_in_float64_six_decimals_are_equal(tmp_path, recipe):
    program = [str(tiny.ROOT / "tests" / "support" / "double_teach.py")]
    whole, sharded = dry_run_losses(tmp_path, f"recipe={recipe}", program=program)
    assert sum(map(bool, whole.values())) == RECIPES[recipe]
    for stage, losses in whole.items():
        assert len(set(losses)) == len(losses), stage
        assert sharded[stage] == pytest.approx(losses, abs=5e-7, rel=0), stage
