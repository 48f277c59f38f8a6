"""The student in OpenVINO's form against the model, where OpenVINO is installed."""

from __future__ import annotations

import builtins
import json
import re

import numpy as np
import pytest
import tiny
import torch

from leafkit.core.errors import LeafkitError, MissingExtra
from leafkit.exporters import openvino_export
from leafkit.exporters.openvino_export import OPENVINO_FILE, check_openvino, export_openvino
from leafkit.exporters.source import ExportSource
from leafkit.exporters.tool_snippets import openvino_snippet

SPACE = {"kind": "student", "teacher": "abc", "teacher_reference": "model:owner/teacher@1"}


def source() -> ExportSource:
    encoder = tiny.make_encoder(dim=24, prompts={"query": tiny.PROMPT}).eval()
    return ExportSource(encoder, SPACE, name="mini")


def test_without_the_package_the_way_to_it_is_named(monkeypatch):
    found = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "openvino":
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match="to=openvino needs the package 'openvino'") as err:
        check_openvino(source())
    assert "leafkit[openvino]" in err.value.hint


def test_the_cards_code_computes_in_float32_as_the_comparison_did():
    assert 'precise = {"INFERENCE_PRECISION_HINT": "f32"}' in openvino_snippet(source())
    assert '"CPU", precise)' in openvino_snippet(source())


@pytest.mark.slow
def test_openvino_gives_the_models_vectors(tmp_path):
    pytest.importorskip("openvino", reason='needs pip install "leafkit[openvino]"')
    given = source()
    check_openvino(given)
    found = export_openvino(given, tmp_path)
    assert found["openvino"] >= 1 - 1e-6
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {OPENVINO_FILE, "openvino_model.bin", "config.json", "tokenizer.json"}
    told = json.loads((tmp_path / "config_sentence_transformers.json").read_text())
    assert told["default_prompt_name"] == "query"
    # the card's own code
    card = (tmp_path / "README.md").read_text()
    code = re.search(r"```python\n(.*?)\n```", card, re.DOTALL)[1]
    seen: dict[str, np.ndarray] = {}
    exec(code.replace("FOLDER_OF_THIS_MODEL", str(tmp_path)), seen)
    encoder = given.encoder
    with torch.inference_mode():
        ids = encoder.tokenize(["how do I invert a sparse matrix?"], "query")
        expected = encoder.finish(encoder(ids))[0].numpy()
    assert float(seen["vector"] @ expected) >= 1 - 1e-6
    assert not [name for name in names if name.startswith("tmp")]


@pytest.mark.slow
def test_a_model_that_gives_other_vectors_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("openvino", reason='needs pip install "leafkit[openvino]"')
    monkeypatch.setattr(openvino_export, "LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(LeafkitError, match="OpenVINO's vectors differ"):
        export_openvino(source(), tmp_path)
