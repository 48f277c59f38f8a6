"""Identity of an encoder in memory, as a folder's is of one on disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

import torch

from leafkit.models.text_encoder import TextEncoder


def fingerprint_of_encoder(encoder: TextEncoder) -> str:
    """First 16 hex digits of a sha256 over weights, vocabulary, prompts, pooling and lengths.

    It is not the fingerprint that the model gets once it is saved, which is of the files.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        # through bytes: numpy has no bfloat16
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    told = {"spec": asdict(encoder.spec), "vocabulary": encoder.tokenizer.get_vocab()}
    digest.update(json.dumps(told, sort_keys=True).encode())
    return digest.hexdigest()[:16]
