"""``import leafkit``: cheap, silent, and every name it promises is there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import tiny

import leafkit

HEAVY = ("torch", "numpy", "rich", "transformers", "lightning", "omegaconf", "faiss")


def test_the_import_loads_nothing_heavy_and_takes_no_time() -> None:
    code = (
        "import sys, time, json; start = time.process_time(); import leafkit;"
        " print(json.dumps([time.process_time() - start, sorted(sys.modules)]))"
    )
    seconds = []
    # of the processor, the fastest of three: other programs share the machine
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=tiny.environment(),
        )
        taken_s, modules = json.loads(done.stdout)
        seconds.append(taken_s)
        assert not {name for name in modules if name.split(".")[0] in HEAVY}
        assert done.stderr == ""
    assert min(seconds) < 0.2


@pytest.mark.parametrize("name", leafkit.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    value = getattr(leafkit, name)
    assert value.__doc__
    assert name in dir(leafkit)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'leafkit' has no attribute 'encode'"):
        _ = leafkit.encode


def test_the_lazy_names_are_the_promised_ones() -> None:
    assert {*leafkit._MODULE_OF, "__version__"} == set(leafkit.__all__)
