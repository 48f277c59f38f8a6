"""Texts and models that the parts measure on: made for the purpose, the same on every machine.

Lengths are log-normal, as those of real passages are, and cut at the model's limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import MPNetConfig, MPNetModel, Qwen2Config, Qwen2Model

from gpu_parts.part import Setting
from leafkit.core.devices import kind_of
from leafkit.models.checkpoint import load_encoder
from leafkit.models.configure import configure
from leafkit.models.text_encoder import EncoderSpec, TextEncoder
from leafkit.models.tiny import tiny_encoder
from leafkit.models.tokenization import byte_tokenizer

TEACHER_DIM = 768
_NUM_WORDS = 4096
_TINY_WIDTH = 64
_TOP = 15  # operators of a profile


def make_lengths(count: int, median: float, longest: int, seed: int = 0) -> np.ndarray:
    """(count,) tokens of texts, special ones included."""
    drawn = np.random.default_rng(seed).lognormal(np.log(median), 0.6, count)
    return np.clip(drawn, 4, longest).astype(int)


def make_texts(tokenizer: Any, lengths: Sequence[int]) -> list[str]:
    """Texts of so many tokens: random whole words, or letters where the tokenizer knows bytes
    alone.
    """
    special = len(tokenizer("")["input_ids"])
    words = sorted(w for w in tokenizer.get_vocab() if w.isascii() and w.isalpha() and len(w) > 2)
    generator, joint = np.random.default_rng(1), " "
    if not words:
        words, joint = list("abcdefghijklmnopqrstuvwxyz"), ""
    count = min(_NUM_WORDS, len(words))
    return [
        joint.join(words[i] for i in generator.integers(0, count, max(1, int(n) - special)))
        for n in lengths
    ]


def make_ids(lengths: Sequence[int], low: int, high: int, seed: int = 2) -> list[np.ndarray]:
    """Random token ids of texts, as flat views."""
    generator = np.random.default_rng(seed)
    flat = generator.integers(low, high, int(np.sum(lengths))).astype(np.int32)
    return np.split(flat, np.cumsum(lengths)[:-1])


def fake_targets(count: int, dim: int = TEACHER_DIM) -> np.ndarray:
    """(count, dim) float32 unit vectors; what they are does not change the speed."""
    found = np.random.default_rng(3).standard_normal((count, dim), dtype=np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def make_student(setting: Setting) -> TextEncoder:
    """all-MiniLM-L6-v2 with a linear head onto ``TEACHER_DIM``."""
    start = load_encoder("builtin:minilm")
    if setting.is_tiny:
        start = tiny_encoder("bert", start.tokenizer, 0, hidden=_TINY_WIDTH, max_tokens=256)
    head = nn.Linear(start.hidden_size, TEACHER_DIM)
    return TextEncoder(start.backbone, start.tokenizer, start.spec, head)


def make_qwen2(setting: Setting, max_tokens: int = 512) -> TextEncoder:
    """Random weights of Qwen2-0.5B's shape, bidirectional, mean pooling; bytes for a tokenizer."""
    tokenizer = byte_tokenizer(max_tokens)
    if setting.is_tiny:
        return tiny_encoder("qwen2", tokenizer, 0, attention="bidirectional", hidden=_TINY_WIDTH)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=151_936,
        hidden_size=896,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        intermediate_size=4864,
        max_position_embeddings=32_768,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
    )
    encoder = TextEncoder(Qwen2Model(config).eval(), tokenizer, EncoderSpec(max_tokens=max_tokens))
    return configure(encoder, "bidirectional", "mean").eval()


def make_mpnet(setting: Setting) -> TextEncoder:
    """Random weights of all-mpnet-base-v2's shape with MiniLM's tokenizer."""
    tokenizer = load_encoder("builtin:minilm").tokenizer
    if setting.is_tiny:
        return tiny_encoder("mpnet", tokenizer, 0, hidden=_TINY_WIDTH)
    torch.manual_seed(0)
    config = MPNetConfig(vocab_size=30_527, max_position_embeddings=514)
    backbone = MPNetModel(config, add_pooling_layer=False).eval()
    return TextEncoder(backbone, tokenizer, EncoderSpec(max_tokens=384)).eval()


def device_of(setting: Setting) -> torch.device:
    """The torch device measured."""
    return torch.device(setting.device)


def peak_gib(device: torch.device) -> float | None:
    """Most memory that tensors have held on the device in this process; None on a processor."""
    if kind_of(device).is_host:
        return None
    return float(kind_of(device).module().max_memory_allocated()) / 2**30


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds that work takes until the device has done it."""
    kind_of(device).wait()
    started_s = time.perf_counter()
    work()
    kind_of(device).wait()
    return time.perf_counter() - started_s


def profile(work: Callable[[], Any], device: torch.device) -> str:
    """The operators that take most of the device's time, as torch's profiler tabulates them."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    is_host = kind_of(device).is_host
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (not is_host)
    with profiled(activities=activities) as found:
        work()
        kind_of(device).wait()
    by = "self_cpu_time_total" if is_host else "self_device_time_total"
    averages = found.key_averages()
    return str(averages.table(sort_by=by, row_limit=_TOP, max_name_column_width=60))
