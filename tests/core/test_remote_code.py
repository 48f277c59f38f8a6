"""A pinned model runs no code that its pin does not hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from leafkit.core.errors import LeafkitError
from leafkit.core.remote_code import refuse_foreign_code
from leafkit.models.checkpoint import read_encoder

FOREIGN = "other/repo--modeling_x"
CASES: dict[str, Any] = {
    "config.json": {"auto_map": {"AutoModel": f"{FOREIGN}.X", "AutoConfig": "configuration.C"}},
    "tokenizer_config.json": {"auto_map": {"AutoTokenizer": [None, f"{FOREIGN}.T"]}},
    "preprocessor_config.json": {"auto_map": {"AutoProcessor": f"{FOREIGN}.P"}},
    "modules.json": [{"idx": 0, "name": "0", "path": "", "type": f"{FOREIGN}.Module"}],
    "1_Custom/config.json": {"nested": [{"auto_map": {"AutoModel": f"{FOREIGN}.X"}}]},
    "0_Transformer/config.json": {"text_config": {"auto_map": {"AutoConfig": f"{FOREIGN}.C"}}},
    "generation_config.json": {"custom_generate": f"{FOREIGN}.generate"},
}


def write(folder: Path, name: str, content: Any) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize("name", CASES)
def test_code_of_another_repository_is_refused_by_file(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, CASES[name])
    with pytest.raises(LeafkitError, match=r"names code of another repository, 'other/repo--") as c:
        refuse_foreign_code(tmp_path)
    assert str(tmp_path / name) in str(c.value)
    assert "other/repo" in c.value.hint


@pytest.mark.parametrize("name", CASES)
def test_code_of_the_model_itself_is_not(tmp_path: Path, name: str) -> None:
    own = json.loads(json.dumps(CASES[name]).replace("other/repo--", ""))
    write(tmp_path, name, own)
    write(tmp_path, "damaged.json", own)
    (tmp_path / "damaged.json").write_text("{")
    refuse_foreign_code(tmp_path)


def test_a_trusted_model_with_foreign_code_is_refused_before_any_is_fetched(tmp_path: Path) -> None:
    write(tmp_path, "config.json", {"model_type": "x"} | CASES["config.json"])
    with pytest.raises(LeafkitError, match="names code of another repository"):
        read_encoder(tmp_path, trust_remote_code=True)
