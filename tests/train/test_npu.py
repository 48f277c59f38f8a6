"""Training and the whole road on a fake Ascend NPU: a device of torch's extension interface that is
called "npu", behind a package that stands for torch_npu. Ascend's own arithmetic it cannot show.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from fake_npu.build import HERE, LIBRARY, build, why_not
from safetensors.torch import load_file

from leafkit.core.errors import UsageError
from leafkit.train.devices.npu import NpuAccelerator, NpuDDPStrategy, npu_precision

# by name: words of the recipe, processes
WAYS = {
    "cpu": (("device=cpu", "precision=float32"), 1),
    "float32": (("device=npu", "precision=float32"), 1),
    "one": (("device=npu", "precision=bf16"), 1),
    "two": (("device=npu", "precision=auto"), 2),
}
PARTS = ["teach/only", "tiny/student"]


@pytest.mark.parametrize(
    ("told", "found"),
    [(2, [0, 1]), ("2", [0, 1]), ("0,3", [0, 3]), ([1, 2], [1, 2]), (1, [0])],
)
def test_devices_are_numbers_or_how_many(told, found):
    assert NpuAccelerator.parse_devices(told) == found
    assert NpuAccelerator.name() == "npu"


def test_devices_that_are_none_are_refused():
    with pytest.raises(UsageError, match="devices='some' names no NPUs"):
        NpuAccelerator.parse_devices("some")
    with pytest.raises(UsageError, match="cpu is no NPU"):
        NpuAccelerator().setup_device(torch.device("cpu"))


def test_the_precision_and_the_groups_backend_are_the_npus():
    assert npu_precision(torch.bfloat16).device == "npu"
    assert npu_precision(torch.float32).precision == "32-true"
    assert NpuDDPStrategy().process_group_backend == "cpu:gloo,npu:hccl"
    assert NpuDDPStrategy(process_group_backend="gloo").process_group_backend == "gloo"


@pytest.fixture(scope="module")
def fake_npu(tmp_path_factory) -> dict[str, str]:
    """Environment of a process that finds the fake package, and two fake devices behind it."""
    if reason := why_not():
        pytest.skip(reason)
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # of all of the session's processes
    return {
        LIBRARY: str(build(base / "fake_npu_build")),
        "FAKE_NPUS": "2",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent), str(tiny.ROOT)]),
    }


class Outcome:
    """The same recipes through every way."""

    def __init__(self, root: Path, fake: dict[str, str]) -> None:
        home = tiny.make_home(root / "home")
        stage = tiny.tiny_stage(home, num_steps=6, chunk_tokens=40)
        stage["loss"] |= {"gor_weight": 0.9}  # of the queries of all processes too
        teach = tiny.tiny_recipe(home, root / "unset") | {"stages": {"only": stage}}
        self.recipe = tiny.write_recipe(root / "teach.yaml", teach)
        student = tiny.tiny_recipe(home, root / "unset") | {
            "teacher": {"source": f"recipe:{self.recipe}"}
        }
        student["student"] |= {"num_epochs": 2.0, "ema": 0.5}
        recipes = {"teach": self.recipe, "distill": tiny.write_recipe(root / "tiny.yaml", student)}
        self.root, self.calls = root, {name: root / f"calls-{name}" for name in WAYS}
        for name, (settings, processes) in WAYS.items():
            self.calls[name].mkdir()
            env = fake | {"FAKE_NPU_CALLS": str(self.calls[name])}
            for command, recipe in recipes.items():
                words = (command, f"recipe={recipe}", f"checkpoints={root / name}", *settings)
                done = tiny.run_cli(*words, processes=processes, timeout=900, env=env)
                assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]

    def losses(self, name: str, part: str) -> list[float]:
        return json.loads((self.root / name / part / "losses.json").read_text())

    def weights(self, name: str, part: str) -> torch.Tensor:
        found = load_file(self.root / name / part / "model.safetensors")
        return torch.cat([v.flatten() for k, v in found.items() if "key.bias" not in k])


def distances(losses: list[float]) -> list[float]:
    """Of losses that are squared distances; of others their roots serve as well."""
    return [loss**0.5 for loss in losses]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, fake_npu) -> Outcome:
    return Outcome(tmp_path_factory.mktemp("npu"), fake_npu)


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_in_float32_an_npu_trains_what_the_cpu_trains(outcome, part):
    expected = outcome.losses("cpu", part)
    assert len(expected) >= 6
    assert distances(outcome.losses("float32", part)) == pytest.approx(
        distances(expected), abs=1e-3
    )


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", ["one", "two"])
def test_one_and_two_npus_equal_the_cpu_within_the_noise_of_bf16(outcome, name, part):
    expected, found = outcome.losses("cpu", part), outcome.losses(name, part)
    assert found != pytest.approx(expected, rel=1e-5)  # bf16 was at work
    if part == "teach/only":
        assert found == pytest.approx(expected, rel=0.01)
    else:  # of unit vectors, each of which bf16 moves by 2^-8 at most
        assert distances(found) == pytest.approx(distances(expected), abs=2 * 2**-8)
    first, second = outcome.weights("cpu", part), outcome.weights(name, part)
    assert float((first - second).norm()) < 0.005 * float(first.norm())


@pytest.mark.slow
def test_each_process_takes_its_own_device_before_anything_else(outcome):
    by_rank: dict[str, list[list[str]]] = {}
    for path in outcome.calls["two"].iterdir():
        rank = path.name.split("-")[0]
        by_rank.setdefault(rank, []).append(path.read_text().splitlines())
    for rank in "01":
        # torchrun itself asks for nothing, and torch seeds all there is
        runs = [[c for c in calls if "seed" not in c] for calls in by_rank[rank]]
        runs = [calls for calls in runs if calls]
        assert len(runs) == 2
        for calls in runs:
            assert calls[0] == f"set_device {rank}"
            assert {c for c in calls if c.startswith("set_device")} == {calls[0]}
            assert "allreduce npu" in calls
            assert "broadcast cpu" in calls


@pytest.mark.slow
def test_on_the_cpu_no_device_is_asked_for(outcome):
    """The package is at hand, and transformers imports it; torch seeds all there is."""
    calls = [path.read_text().splitlines() for path in outcome.calls["cpu"].iterdir()]
    assert {call.split()[0] for one in calls for call in one} <= {"manual_seed_all"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "processes"), [("one", 1), ("two", 2)])
def test_the_report_names_the_npu(outcome, name, processes):
    report = json.loads((outcome.root / name / "tiny" / "report.json").read_text())
    machine = report["machine"]
    assert (machine["device"], machine["accelerator"]) == ("npu", "Fake910")
    assert (machine["precision"], machine["processes"]) == ("bfloat16", processes)


@pytest.mark.slow
def test_a_training_that_is_stopped_goes_on_in_the_same_bits(fake_npu, tmp_path):
    command = [sys.executable, str(HERE.parent / "npu_training.py"), str(tmp_path)]
    done = subprocess.run(
        command, env=tiny.environment(**fake_npu), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads((tmp_path / "outcome.json").read_text())
    assert found["num_batches"] == 4
    assert found["resumed"] == found["losses"]
    assert len(set(found["losses"])) == 6
    assert found["drawn_resumed"] == found["drawn"]
    assert len(set(found["drawn"])) == 6
    assert found["random"] == ["npu", "numpy", "python", "torch"]
    assert found["seen"] == ["NpuAccelerator", "npu", "npu:0", "torch.float32"]


@pytest.mark.slow
def test_more_processes_than_npus_are_refused(fake_npu, tmp_path):
    home = tiny.make_home(tmp_path / "home")
    recipe = tiny.write_recipe(tmp_path / "t.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    done = tiny.run_cli(
        "distill",
        f"recipe={recipe}",
        "device=npu",
        processes=2,
        env=fake_npu | {"FAKE_NPUS": "1"},
        timeout=600,
    )
    assert done.returncode != 0
    assert "1 NPU(s) can be seen there" in done.stderr
    assert "ASCEND_RT_VISIBLE_DEVICES" in done.stderr
