"""What transformers 4 and the servers that read its files look for in a model's folder, beside what
transformers 5 writes. They ignore keys that they do not know, and take a default in their place
without a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from leafkit.models.folder import read_object, write_json

_CONFIG_FILE, _TOKENIZER_FILE = "config.json", "tokenizer_config.json"
_FULL, _SLIDING = "full_attention", "sliding_attention"
# where transformers 4 has the base of each kind of layer, by the beginning of model_type
_BASES = {
    "modernbert": {_FULL: "global_rope_theta", _SLIDING: "local_rope_theta"},
    "gemma3": {_FULL: "rope_theta", _SLIDING: "rope_local_base_freq"},
}


def add_older_keys(folder: Path) -> None:
    """Add the older names to a folder that transformers 5 wrote; it reads the same from it.

    Args:
        folder: of the model; one without these files is left alone.
    """
    if (folder / _CONFIG_FILE).is_file():
        config = read_object(folder / _CONFIG_FILE)
        write_json(folder / _CONFIG_FILE, config | older_config_keys(config))
    if (folder / _TOKENIZER_FILE).is_file():
        told = read_object(folder / _TOKENIZER_FILE)
        if told.get("tokenizer_class") == "TokenizersBackend":
            told["tokenizer_class"] = "PreTrainedTokenizerFast"
        if isinstance(told.get("extra_special_tokens"), list):  # a dict there
            told["additional_special_tokens"] = told.pop("extra_special_tokens")
        write_json(folder / _TOKENIZER_FILE, told)


def older_config_keys(config: Mapping[str, object]) -> dict[str, object]:
    """Bases and scaling of rotary positions, and which layers see all tokens, under the names of
    transformers 4.

    >>> older_config_keys({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}})
    {'rope_theta': 1000000.0}

    Args:
        config: config.json as transformers 5 writes it.
    """
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict) or not rope:
        return {}
    kinds = {kind: value for kind, value in rope.items() if isinstance(value, dict)}
    if not kinds:
        return _flat_keys(rope)
    family = str(config.get("model_type", ""))
    names = next((names for start, names in _BASES.items() if family.startswith(start)), {})
    found: dict[str, object] = {}
    for kind, name in names.items():
        if "rope_theta" in kinds.get(kind, {}):
            found[name] = kinds[kind]["rope_theta"]
    if family.startswith("gemma3"):
        found |= _flat_keys(kinds.get(_FULL, {}))
    layers = config.get("layer_types")
    if family.startswith("modernbert") and isinstance(layers, list):
        found |= _every(layers)
    return found


def _flat_keys(rope: Mapping[str, object]) -> dict[str, object]:
    outside = ("rope_theta", "partial_rotary_factor")
    found = {key: rope[key] for key in outside if key in rope}
    if rope.get("rope_type", "default") != "default":
        found["rope_scaling"] = {key: rope[key] for key in rope if key not in outside}
    return found


def _every(layers: Sequence[object]) -> dict[str, object]:
    """Each n-th layer of ModernBERT sees all tokens, from the first on."""
    for n in range(1, len(layers) + 1):
        if list(layers) == [_SLIDING if i % n else _FULL for i in range(len(layers))]:
            return {"global_attn_every_n_layers": n}
    return {}
