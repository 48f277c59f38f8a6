"""How an exported graph is used without leafkit: code to copy, with the prompt of queries."""

from __future__ import annotations

import json
from pathlib import Path

from leafkit.core.checkpoint_layout import GRAPH_ABOUT_FILE, GRAPH_FILE, GRAPH_TOKENIZER_FILE


def graph_snippet(folder: Path) -> str:
    """Python that embeds a query with the graph in a folder; it needs onnxruntime and tokenizers.

    Args:
        folder: as ``leafkit export`` wrote it.
    """
    about = json.loads((folder / GRAPH_ABOUT_FILE).read_text(encoding="utf-8"))
    lines = [
        "import numpy as np",
        "import onnxruntime",
        "from tokenizers import Tokenizer",
        "",
        f"folder = {str(folder)!r}",
        f"prompt = {about['prompts'].get('query', '')!r}  # before every query",
        f'tokenizer = Tokenizer.from_file(f"{{folder}}/{GRAPH_TOKENIZER_FILE}")',
        f"tokenizer.enable_truncation({about['max_tokens']})",
        f'session = onnxruntime.InferenceSession(f"{{folder}}/{GRAPH_FILE}")',
        'ids = np.array([tokenizer.encode(prompt + "how do I sort a list").ids], dtype=np.int64)',
        'inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}',
        "vector = session.run(None, inputs)[0][0]",
    ]
    return "\n".join(lines)
