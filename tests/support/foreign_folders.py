"""Tiny model folders of every kind that sentence-transformers reads, saved by it or written as hub
models are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedTokenizerBase

from leafkit.models.tiny import tiny_encoder
from leafkit.models.tokenization import with_eos

WIDTH, LIMIT = 32, 40
OWN_CODE = """from transformers import Qwen2Model


class TwoWayQwen2Model(Qwen2Model):
    def __init__(self, config):
        super().__init__(config)
        self.config.is_causal = False
        for layer in self.layers:
            layer.self_attn.is_causal = False
"""


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON object; ... removes one. A file that is not there is made."""
    value = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({k: v for k, v in (value | changes).items() if v is not ...}))


def edit_modules(folder: Path, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Change the list in modules.json, in place."""
    path = folder / "modules.json"
    modules = json.loads(path.read_text())
    change(modules)
    path.write_text(json.dumps(modules))


def to_bin(folder: Path) -> None:
    """Weights of a folder as torch.save writes them, in place of safetensors."""
    for path in list(folder.rglob("model.safetensors")):
        torch.save(load_file(path), path.with_name("pytorch_model.bin"))
        path.unlink()


def write_bare(folder: Path, architecture: str = "bert", **config: Any) -> Path:
    """Backbone and tokenizer alone; of most architectures the tokenizer reads bytes."""
    encoder = tiny_encoder(
        architecture, tiny.make_tokenizer(), hidden=WIDTH, max_tokens=LIMIT + 20, **config
    )
    encoder.tokenizer.model_max_length = 10**30
    encoder.backbone.save_pretrained(folder)
    encoder.tokenizer.save_pretrained(folder)
    return folder


def write_t5(folder: Path) -> Path:
    """An encoder and a decoder, of which the encoder alone gives vectors."""
    from transformers import T5Config, T5Model

    tokenizer = _bytes()
    torch.manual_seed(2)
    T5Model(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=WIDTH,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            decoder_start_token_id=0,
        )
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_gemma3(folder: Path) -> Path:
    """A model of text and images whose text model stands in ``text_config``."""
    from transformers import Gemma3Config, Gemma3Model

    tokenizer = _bytes()
    torch.manual_seed(2)
    text = {
        "vocab_size": len(tokenizer) + 8,
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "layer_types": ["sliding_attention", "full_attention"],
        "max_position_embeddings": 128,
        "sliding_window": 16,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    config.image_token_id = len(tokenizer) + 1
    Gemma3Model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_lora(folder: Path, base: Path) -> Path:
    """What sentence-transformers saves of a model with an adapter: the adapter, not its base."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel, AutoTokenizer

    torch.manual_seed(5)
    model = get_peft_model(
        AutoModel.from_pretrained(base, dtype=torch.float32),
        LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"], init_lora_weights=False),
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def save(
    folder: Path,
    bare: Path,
    *after: Any,
    pooling: str | tuple[str, ...] = "mean",
    limit: int | None = LIMIT,
    modules: list[Any] | None = None,
    **settings: Any,
) -> Path:
    """A model put together and saved by sentence-transformers.

    Args:
        folder: where to.
        bare: backbone and tokenizer.
        after: modules behind the pooling.
        pooling: its mode, or several.
        limit: max_seq_length; None leaves what the files say.
        modules: all modules behind the transformer, in place of pooling and ``after``.
        settings: of SentenceTransformer.
    """
    import sentence_transformers as st
    from sentence_transformers.models import Pooling, Transformer

    torch.manual_seed(3)
    first = Transformer(str(bare), max_seq_length=limit)
    rest = [Pooling(WIDTH, pooling_mode=pooling), *after] if modules is None else modules
    model = st.SentenceTransformer(modules=[first, *rest], device="cpu", **settings)
    model.save(str(folder))
    return folder


def dense(width: int, dim: int, activation: nn.Module | None = None, **settings: Any) -> Any:
    """A Dense module, linear unless an activation is given."""
    from sentence_transformers.models import Dense

    torch.manual_seed(width + dim)
    return Dense(width, dim, activation_function=activation or nn.Identity(), **settings)


def normalize(**settings: Any) -> Any:
    """A Normalize module."""
    from sentence_transformers.models import Normalize

    return Normalize(**settings)


def _bytes() -> PreTrainedTokenizerBase:
    from leafkit.models.tokenization import byte_tokenizer

    return with_eos(byte_tokenizer(10**30))


def write_own_code(folder: Path, bare: Path) -> Path:
    """A Qwen2 whose folder brings a model class of its own, as gte-Qwen2's does."""
    save(folder, bare, normalize())
    (folder / "modeling_own.py").write_text(OWN_CODE)
    edit(folder / "config.json", auto_map={"AutoModel": "modeling_own.TwoWayQwen2Model"})
    return folder


def shard(folder: Path) -> None:
    """Weights of a backbone in several files with an index, in place of one."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder / "shards", max_shard_size="20KB")
    for path in (folder / "shards").glob("model*"):
        shutil.move(path, folder / path.name)
    shutil.rmtree(folder / "shards")
