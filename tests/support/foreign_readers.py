"""What other tools demand of an exported folder, as their readers are written, for machines that
have none of them: text-embeddings-inference and FastEmbed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from tokenizers import AddedToken, Tokenizer

# the types that serde reads them as: router/src/lib.rs, backends/src/lib.rs,
# backends/candle/src/models/{bert,dense}.rs of text-embeddings-inference 1.9
_BERT_COUNTS = (
    "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size "
    "max_position_embeddings type_vocab_size pad_token_id"
).split()
_BERT_NUMBERS = "hidden_dropout_prob initializer_range layer_norm_eps".split()
_MODULES = {
    f"sentence_transformers.models.{name}"
    for name in ("Dense", "Normalize", "Pooling", "Transformer")
}
_ACTIVATIONS = (
    None,
    "torch.nn.modules.activation.Tanh",
    "torch.nn.modules.linear.Identity",
)


def tei_problems(folder: Path, *, with_weights: bool) -> list[str]:
    """What text-embeddings-inference would refuse, or leave out, of a folder with a BERT.

    Args:
        folder: of the model.
        with_weights: it is to run the weights; else the graph in onnx/.
    """
    problems: list[str] = []

    def read(name: str) -> Any:
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing")
            return {}
        return json.loads(path.read_text(encoding="utf-8"))

    def need(found: dict[str, Any], keys: list[str], kind: type, where: str) -> None:
        for key in keys:
            value = found.get(key)
            fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
            if not fits or (kind is not bool and isinstance(value, bool)):
                problems.append(f"{where}: {key} is {value!r}, not {kind.__name__}")

    config = read("config.json")
    need(config, ["architectures"], list, "config.json")
    need(config, ["model_type", "hidden_act"], str, "config.json")
    need(config, _BERT_COUNTS, int, "config.json")
    need(config, _BERT_NUMBERS, float, "config.json")
    pooling = read("1_Pooling/config.json")
    need(pooling, ["pooling_mode_cls_token", "pooling_mode_mean_tokens"], bool, "1_Pooling")
    need(read("sentence_bert_config.json"), ["max_seq_length"], int, "sentence_bert_config.json")
    prompts = read("config_sentence_transformers.json").get("prompts") or {}
    problems += [f"prompt {k} is {v!r}" for k, v in prompts.items() if not isinstance(v, str)]
    tokenizer = read("tokenizer.json")
    problems += [f"tokenizer.json keeps {k}" for k in ("truncation", "padding") if tokenizer[k]]
    for module in read("modules.json"):
        need(module, ["idx"], int, "modules.json")
        need(module, ["name", "path", "type"], str, "modules.json")
        if module["type"] not in _MODULES:
            problems.append(f"modules.json: {module['type']} is not known")
        if module["type"].endswith("Dense"):
            if not with_weights:
                problems.append("its ONNX backend leaves Dense out")
            dense = read(f"{module['path']}/config.json")
            need(dense, ["in_features", "out_features"], int, module["path"])
            need(dense, ["bias"], bool, module["path"])
            if dense.get("activation_function") not in _ACTIVATIONS:
                problems.append(f"Dense: activation {dense['activation_function']}")
    if with_weights:
        with safe_open(folder / "model.safetensors", "np") as weights:
            names = set(weights.keys())
        for name in (
            "embeddings.word_embeddings.weight",
            "encoder.layer.0.attention.self.query.weight",
            "embeddings.LayerNorm.weight",
        ):
            if not {name, f"bert.{name}"} & names:
                problems.append(f"weights lack {name}")
        return problems
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "onnx" / "model.onnx"))
    outputs = {output.name for output in session.get_outputs()}
    if not outputs & {"sentence_embedding", "last_hidden_state", "token_embeddings"}:
        problems.append(f"the graph's outputs are {outputs}")
    return problems


def fastembed_vectors(
    folder: Path, texts: list[str], *, pooling: str, model_file: str = "onnx/model.onnx"
) -> np.ndarray:
    """(n, D) what a custom model of FastEmbed gives for texts (common/preprocessor_utils.py,
    text/custom_text_embedding.py), normalized.

    Args:
        folder: of the model.
        texts: in one batch, with their prompts.
        pooling: mean or disabled.
        model_file: the graph, by its path in the folder.
    """
    import onnxruntime

    def read(name: str) -> dict[str, Any]:
        return json.loads((folder / name).read_text(encoding="utf-8"))

    config, about = read("config.json"), read("tokenizer_config.json")
    limits = [about[key] for key in ("model_max_length", "max_length") if key in about]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(max_length=min(limits))
    assert not tokenizer.padding
    tokenizer.enable_padding(pad_id=config.get("pad_token_id", 0), pad_token=about["pad_token"])
    for token in read("special_tokens_map.json").values():
        if isinstance(token, str):
            tokenizer.add_special_tokens([token])
        elif isinstance(token, dict):
            tokenizer.add_special_tokens([AddedToken(**token)])
    encoded = tokenizer.encode_batch(texts)
    mask = np.array([e.attention_mask for e in encoded], dtype=np.int64)
    given = {
        "input_ids": np.array([e.ids for e in encoded], dtype=np.int64),
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(mask),
    }
    session = onnxruntime.InferenceSession(str(folder / model_file))
    names = {node.name for node in session.get_inputs()}
    found = session.run(None, {k: v for k, v in given.items() if k in names})[0]
    if pooling == "mean":
        wide = mask[..., None].astype(np.float32)
        found = (found * wide).sum(1) / np.maximum(wide.sum(1), 1e-9)
    return found / np.linalg.norm(found, axis=1, keepdims=True)
