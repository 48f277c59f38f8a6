"""Children on the same cores with the same number of threads."""

from __future__ import annotations

import os


def thread_variables(num_threads: int) -> dict[str, str]:
    """Environment of a child whose libraries are to take so many threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return dict.fromkeys(names, str(num_threads)) | {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "true" if num_threads > 1 else "false",
        "RAYON_NUM_THREADS": str(num_threads),
    }


def pin(num_threads: int) -> None:
    """Keep this process on the first cores that it may use, as many as threads."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:num_threads])
    import torch

    torch.set_num_threads(num_threads)
