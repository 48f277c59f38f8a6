"""Distinct texts must have distinct vectors: a tokenizer without its vocabulary, a prompt that
fills the limit or an endpoint that answers anything would else pass, and rank at random.

Shapes: n texts, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leafkit.core.errors import LeafkitError
from leafkit.core.truncate import truncate_then_normalize
from leafkit.embedders.protocol import Embedder
from leafkit.index.vectors import Vectors

# of one word each, which a vocabulary without words takes for the same; in several scripts, for a
# vocabulary may know one alone
PROBES = ("matrix", "bread", "7", "w", "żółw", "книга", "水", "كتاب")
_LEAST_DIFFERENCE = 1e-5  # between unit vectors of different texts; rounding moves them by less
_SAMPLE = 64  # texts whose vectors are compared
_FEWEST = 4  # texts; fewer may be equal after a cut


def probe_model(model: Embedder, what: str) -> None:
    """Refuse a model that gives words one vector, in any role.

    Args:
        model: loaded here.
        what: names it, its folder say.

    Raises:
        LeafkitError: all words get one vector, or one that is not finite.
    """
    for role in dict.fromkeys({model.prompt(r): r for r in ("query", "document")}.values()):
        vectors = model.embed(PROBES, role, model.max_tokens)
        _refuse_equal(vectors, f"{what}: {len(PROBES)} different words ({role})")


def check_distinct(
    texts: Sequence[str], vectors: Vectors, what: str, *, are_stored: bool = False
) -> None:
    """Refuse vectors that are one and the same for different texts; a sample is compared.

    Args:
        texts: n texts.
        vectors: (n, D).
        what: names model and texts.
        are_stored: they were found finite when they were written; one that is not has been damaged
            since, and whoever reads it names its text.

    Raises:
        LeafkitError: all of them are equal, or, where they are new, one is not finite.
    """
    first = {text: i for i, text in reversed(list(enumerate(texts[:_SAMPLE])))}
    rows = sorted(first.values())
    if len(rows) >= _FEWEST:
        sample = np.asarray(vectors[0 : rows[-1] + 1], dtype=np.float32)[rows]
        if are_stored:
            sample = sample[np.isfinite(sample).all(axis=1)]
        if len(sample) >= _FEWEST:
            _refuse_equal(sample, f"{what}: {len(sample)} different texts")


def _refuse_equal(vectors: np.ndarray, what: str) -> None:
    if not np.isfinite(vectors).all():
        raise LeafkitError(
            f"{what} have vectors that are not finite", "look at the weights; try precision=float32"
        )
    unit = truncate_then_normalize(vectors.astype(np.float64))
    if np.abs(unit - unit[0]).max() < _LEAST_DIFFERENCE:
        raise LeafkitError(
            f"{what} have one and the same vector: no search can tell them apart",
            "a tokenizer without its vocabulary, a prompt as long as the limit or another model "
            "than is meant would do that",
        )
