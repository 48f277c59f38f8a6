"""Launches of several processes: what each launcher's variables say, and whole runs under them."""

from __future__ import annotations

import doctest
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
import torch

from leafkit.core.devices import KINDS
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.process.lock import exclusive
from leafkit.train import launch, world
from leafkit.train.launch import LaunchEnvironment, say_idle_devices
from leafkit.train.world import ENVIRONMENT, SRUN, TORCHRUN, World, meeting_place, read_world

# what srun sets for the tasks of a step, beside the rank's own
STEP = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NAME": "train.sh",
    "SLURM_STEP_ID": "0",
    "SLURM_NNODES": "1",
    "SLURM_STEP_NUM_NODES": "1",
}


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "MASTER_", "GROUP_", "LOCAL_", "TORCHELASTIC_")):
            monkeypatch.delenv(name)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def slurm(rank: int, size: int, **more: str) -> dict[str, str]:
    return STEP | {
        "SLURM_PROCID": f"{rank}",
        "SLURM_LOCALID": f"{rank}",
        "SLURM_NTASKS": f"{size}",
        "SLURM_STEP_NUM_TASKS": f"{size}",
        "SLURM_NODEID": "0",
        "SLURM_STEP_TASKS_PER_NODE": f"{size}",
        **more,
    }


def test_doctests():
    assert doctest.testmod(world).failed == 0


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, World(0, 1, 1)),
        # torchrun, two agents with 2 + 1 processes: the third process
        (
            {
                "RANK": "2",
                "WORLD_SIZE": "3",
                "LOCAL_RANK": "0",
                "LOCAL_WORLD_SIZE": "1",
                "GROUP_RANK": "1",
                "GROUP_WORLD_SIZE": "2",
                "TORCHELASTIC_RUN_ID": "none",
            },
            World(
                rank=2, size=3, num_local=1, local_rank=0, node=1, num_nodes=2, launcher=TORCHRUN
            ),
        ),
        # Kubeflow: a pod per process
        (
            {"RANK": "1", "WORLD_SIZE": "2"},
            World(
                rank=1,
                size=2,
                num_local=1,
                local_rank=0,
                node=1,
                num_nodes=2,
                launcher=ENVIRONMENT,
                is_placed=False,
            ),
        ),
        (
            {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"},
            World(
                rank=3, size=4, num_local=2, local_rank=1, node=1, num_nodes=2, launcher=ENVIRONMENT
            ),
        ),
        # under torchrun within a SLURM job, torchrun counts
        (
            {"RANK": "0", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x", **slurm(0, 1)},
            World(
                rank=0,
                size=2,
                num_local=1,
                local_rank=0,
                node=0,
                num_nodes=2,
                launcher=TORCHRUN,
                is_placed=False,
            ),
        ),
        (
            slurm(1, 2),
            World(rank=1, size=2, num_local=2, local_rank=1, node=0, num_nodes=1, launcher=SRUN),
        ),
        (
            slurm(
                5,
                8,
                SLURM_LOCALID="1",
                SLURM_NODEID="1",
                SLURM_NNODES="2",
                SLURM_STEP_NUM_NODES="2",
                SLURM_STEP_TASKS_PER_NODE="4(x2)",
            ),
            World(rank=5, size=8, num_local=4, local_rank=1, node=1, num_nodes=2, launcher=SRUN),
        ),
        # cyclic distribution: rank 5 of 8 on two nodes is the third of the second node
        (
            slurm(
                5,
                8,
                SLURM_LOCALID="2",
                SLURM_NODEID="1",
                SLURM_STEP_NUM_NODES="2",
                SLURM_STEP_TASKS_PER_NODE="4(x2)",
            ),
            World(rank=5, size=8, num_local=4, local_rank=2, node=1, num_nodes=2, launcher=SRUN),
        ),
        # a step of fewer tasks than the job
        ({**slurm(0, 1), "SLURM_NTASKS": "8", "SLURM_NNODES": "2"}, World(0, 1, 1)),
        ({**slurm(0, 8), "SLURM_JOB_NAME": "interactive"}, World(0, 1, 1)),
    ],
)
def test_the_world_is_read_from_the_launcher(monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert read_world() == expected
    told = LaunchEnvironment(expected)
    assert (told.global_rank(), told.world_size()) == (expected.rank, expected.size)
    assert (told.local_rank(), told.node_rank()) == (expected.local_rank, expected.node)


def test_a_batch_script_is_one_process_and_says_so(monkeypatch, caplog):
    world._say_batch_script.cache_clear()
    batch = {k: v for k, v in slurm(0, 4).items() if "STEP" not in k}
    for name, value in batch.items():
        monkeypatch.setenv(name, value)
    with caplog.at_level("WARNING", logger="leafkit"):
        assert read_world() == World(0, 1, 1)
    assert "SLURM gave this job 4 tasks" in caplog.text
    assert "srun leafkit" in caplog.text


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ("127.0.0.1", 15_000 + 4711)),
        ({"MASTER_ADDR": "head", "MASTER_PORT": "7"}, ("head", 7)),
        (
            {"SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NODELIST": "gpu[07-08]"},
            ("gpu07", 15_000 + 4711),
        ),
        ({"SLURM_STEP_ID": "3"}, ("127.0.0.1", 15_000 + 4711 + 39)),
    ],
)
def test_tasks_of_a_step_meet_where_slurm_says(monkeypatch, variables, expected):
    for name, value in (slurm(0, 2) | variables).items():
        monkeypatch.setenv(name, value)
    assert meeting_place(read_world()) == expected


def test_a_step_on_nodes_that_are_not_named_is_refused(monkeypatch):
    for name, value in slurm(0, 2, SLURM_STEP_NUM_NODES="2").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="SLURM_STEP_NODELIST is not set"):
        meeting_place(read_world())


def test_idle_gpus_are_named_once_there_are_some(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with caplog.at_level("INFO", logger="leafkit"):
        say_idle_devices("cpu", World(0, 1, 1))
        say_idle_devices("cuda", World(0, 4, 4))
        assert not caplog.text
        say_idle_devices("cuda", World(0, 1, 1))
    assert "1 of 4 GPUs is used: torchrun --nproc-per-node 4" in caplog.text


def test_a_process_takes_the_gpu_of_its_number_and_more_processes_than_gpus_are_refused(
    monkeypatch,
):
    taken = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    with pytest.raises(UsageError, match=r"number 2 of its node.*2 GPU\(s\) can be seen") as caught:
        launch._take_device(KINDS["cuda"], World(2, 3, 3, 2))
    assert "CUDA_VISIBLE_DEVICES" in caught.value.hint
    assert taken == []
    launch._take_device(KINDS["cuda"], World(1, 3, 3, 1))
    launch._take_device(KINDS["cpu"], World(7, 8, 8, 7))
    assert taken == [1]


def test_a_file_system_without_locks_is_named(monkeypatch, tmp_path):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    expected = r"locks no files \(No locks available\)"
    with pytest.raises(LeafkitError, match=expected), exclusive(tmp_path):
        pass


# --- whole runs


class Launched:
    """A tiny teacher, trained by one process, for the others to be compared with."""

    def __init__(self, root: Path) -> None:
        home = tiny.make_home(root / "home")
        stage = tiny.tiny_stage(home, num_steps=4, batch_size=12, anchor_batch_size=6)
        recipe = tiny.tiny_recipe(home, root / "unset") | {"stages": {"only": stage}}
        self.recipe = tiny.write_recipe(root / "teach.yaml", recipe)
        self.root = root
        done = self.start([{}], root / "one", root)
        assert [child.returncode for child in done] == [0], done[0].err
        self.losses = self.read(root / "one")

    def read(self, checkpoints: Path) -> list[float]:
        return json.loads((checkpoints / "teach" / "only" / "losses.json").read_text())

    def start(
        self, variables, checkpoints, cwd, *, wait: bool = True
    ) -> list[subprocess.Popen[str]]:
        """A process for each set of variables; ``checkpoints`` one folder, or one for each."""
        folders = checkpoints if isinstance(checkpoints, list) else [checkpoints] * len(variables)
        words = [sys.executable, "-m", "leafkit.cli", "teach", f"recipe={self.recipe}"]
        children = [
            subprocess.Popen(
                [*words, f"checkpoints={folder}"],
                env=tiny.environment(**changes),
                cwd=cwd,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for changes, folder in zip(variables, folders, strict=True)
        ]
        if wait:
            for child in children:
                child.err = child.communicate(timeout=200)[0]
        return children


@pytest.fixture(scope="module")
def launched(tmp_path_factory) -> Launched:
    return Launched(tmp_path_factory.mktemp("launched"))


def kubernetes(rank: int, size: int, port: str) -> dict[str, str]:
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return {"RANK": f"{rank}", "WORLD_SIZE": f"{size}"} | place


LAUNCHES = {
    "srun": lambda port: [slurm(r, 2, MASTER_PORT=port) for r in range(2)],
    "kubernetes": lambda port: [kubernetes(r, 2, port) for r in range(2)],
    # two nodes as torchrun's agents would tell them, with two processes and one
    "2 + 1": lambda port: [
        kubernetes(rank, 3, port)
        | {
            "LOCAL_RANK": f"{local}",
            "LOCAL_WORLD_SIZE": f"{2 - node}",
            "GROUP_RANK": f"{node}",
            "GROUP_WORLD_SIZE": "2",
        }
        for rank, (node, local) in enumerate([(0, 0), (0, 1), (1, 0)])
    ],
    "sbatch without srun": lambda port: [
        {k: v for k, v in slurm(0, 2).items() if "STEP" not in k},
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LAUNCHES)
def test_every_launcher_trains_what_one_process_does(kind, launched, tmp_path):
    """Beside a checkpoint that SLURM's queue is said to have left: nobody may read it."""
    torch.save({"state_dict": {}, "global_step": 2}, tmp_path / "hpc_ckpt_1.ckpt")
    variables = LAUNCHES[kind](tiny.free_port())
    done = launched.start(variables, tmp_path / "ck", tmp_path)
    assert [child.returncode for child in done] == [0] * len(variables), done[0].err
    assert launched.read(tmp_path / "ck") == pytest.approx(launched.losses, rel=1e-4)
    said = "".join(child.err for child in done)
    assert said.count(f"{len(variables)} process(es)") == 1
    assert ("SLURM gave this job 2 tasks" in said) == (kind == "sbatch without srun")


@pytest.mark.slow
def test_processes_that_share_no_folder_are_refused(launched, tmp_path):
    port = tiny.free_port()
    folders = [tmp_path / "node0", tmp_path / "node1"]
    done = launched.start([kubernetes(r, 2, port) for r in range(2)], folders, tmp_path)
    assert [child.returncode for child in done] == [1, 1]
    for child in done:
        assert "process(es) 1 on " in child.err
        assert "must lie on a file system that all nodes share" in child.err
        assert "Traceback" not in child.err
    assert not list(tmp_path.rglob("*.meeting"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["srun", "kubernetes"])
def test_sigterm_ends_all_processes_with_its_status(kind, launched, tmp_path):
    variables = LAUNCHES[kind](tiny.free_port())
    children = launched.start(variables, tmp_path / "ck", tmp_path, wait=False)
    first = children[0].stdout
    for line in first:
        if "only ..." in line:
            break
    time.sleep(1)
    for child in children:
        child.send_signal(signal.SIGTERM)
    started_s = time.monotonic()
    said = [child.communicate(timeout=60)[0] for child in children]
    assert time.monotonic() - started_s < 30
    assert [child.returncode for child in children] == [143, 143], said
    assert "Traceback" not in "".join(said)
