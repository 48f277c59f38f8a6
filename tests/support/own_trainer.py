"""Training in a user's own Trainer. Run by several processes (``python own_trainer.py FOLDER``),
each writes the losses that it saw.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import tiny
import torch

from leafkit.config import ContrastiveLossConfig, OptimizerConfig
from leafkit.train.contrastive_data import ContrastiveData
from leafkit.train.contrastive_module import ContrastiveModule
from leafkit.train.distillation_data import DistillationData
from leafkit.train.leaf_module import LeafModule
from leafkit.train.world import read_world

PAIRS = tiny.make_pairs(40)
DOCUMENTS = [document for _, document in PAIRS]
QUERIES = [query for query, _ in PAIRS[:12]]
OPTIMIZER = OptimizerConfig(
    lr=1e-3, warmup_ratio=0.2, final_lr_ratio=0.1, weight_decay=0.01, max_grad_norm=1.0
)
LOSS = ContrastiveLossConfig(
    temperature=0.1,
    false_negative_margin=0.2,
    anchor_weight=0.0,
    mrl_dims=[32, 16],
    mrl_weights=[1.0, 0.3],
)


def teacher_vectors(count: int, seed: int, dim: int = 48) -> np.ndarray:
    vectors = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(vectors, dim=1).numpy()


def distillation() -> tuple[LeafModule, DistillationData]:
    data = DistillationData(
        DOCUMENTS,
        teacher_vectors(len(DOCUMENTS), 0),
        queries=QUERIES,
        query_vectors=teacher_vectors(len(QUERIES), 1),
        tokens_per_batch=200,
        max_texts_per_batch=8,
    )
    return LeafModule(tiny.make_encoder(dim=48, seed=3), OPTIMIZER), data


def contrastive() -> tuple[ContrastiveModule, ContrastiveData]:
    rows = [
        {"query": query, "positives": [document], "negatives": [PAIRS[(i + 7) % 40][1]]}
        for i, (query, document) in enumerate(PAIRS)
    ]
    module = ContrastiveModule(tiny.make_encoder(seed=4), OPTIMIZER, LOSS)
    return module, ContrastiveData(rows, batch_size=8)


PARTS = {"distillation": distillation, "contrastive": contrastive}


def make_trainer(folder: Path, **settings: Any) -> lightning.Trainer:
    defaults = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lightning.Trainer(**defaults | settings)


if __name__ == "__main__":
    torch.set_num_threads(1)
    world, losses = read_world(), {}
    for name, parts in PARTS.items():
        module, data = parts()
        trainer = make_trainer(Path(sys.argv[1]), devices=world.size, strategy="ddp")
        trainer.fit(module, data)
        losses[name] = module.losses
    (Path(sys.argv[1]) / f"{world.rank}.json").write_text(json.dumps(losses))
