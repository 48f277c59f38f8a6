"""Spaces made of a teacher's: what another teacher's might be like. Documents and queries change
alike.

Shapes: n texts, D dimensions of the teacher, E of the space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

AS_IT_IS = "as it is"
_WIDER, _NARROWER = 2, 4  # times the teacher's dimensions, and a part of them
_NOISE = 0.5  # length of what is added to vectors of length one
_OFFSET = 0.7  # likewise, the same for all texts


def _turn(dim: int, width: int, seed: int) -> np.ndarray:
    """(dim, width) orthonormal rows."""
    drawn = np.random.default_rng([seed, dim, width]).standard_normal((width, dim))
    found: np.ndarray = np.linalg.qr(drawn)[0].T
    return found.astype(np.float32)


def _as_it_is(vectors: np.ndarray, part: int, seed: int) -> np.ndarray:
    return vectors


def _rotated(vectors: np.ndarray, part: int, seed: int) -> np.ndarray:
    return vectors @ _turn(vectors.shape[1], vectors.shape[1], seed)


def _widened(vectors: np.ndarray, part: int, seed: int) -> np.ndarray:
    """Into twice the dimensions, the teacher's own subspace turned into them."""
    return vectors @ _turn(vectors.shape[1], _WIDER * vectors.shape[1], seed)


def _non_linear(vectors: np.ndarray, part: int, seed: int) -> np.ndarray:
    """Every turned coordinate becomes its square, with its sign."""
    turned = _rotated(vectors, part, seed)
    return np.sign(turned) * turned**2


def _truncated(vectors: np.ndarray, part: int, seed: int) -> np.ndarray:
    """A fourth of the turned coordinates."""
    return _rotated(vectors, part, seed)[:, : vectors.shape[1] // _NARROWER]


def _noisy(vectors: np.ndarray, part: int, seed: int) -> np.ndarray:
    """Each text's vector is moved by a random one of its own."""
    drawn = np.random.default_rng([seed, part]).standard_normal(vectors.shape).astype(np.float32)
    return vectors + _NOISE * drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def _anisotropic(vectors: np.ndarray, part: int, seed: int) -> np.ndarray:
    """Turned coordinates of falling size, and an offset that all texts share."""
    turned = _rotated(vectors, part, seed)
    sizes = (np.arange(turned.shape[1]) + 1) ** -0.5
    scaled = turned * (sizes / np.sqrt((sizes**2).mean()))
    offset = np.random.default_rng([seed, 99]).standard_normal(turned.shape[1])
    moved: np.ndarray = scaled + _OFFSET * offset / np.linalg.norm(offset)
    return moved


SPACES: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    AS_IT_IS: _as_it_is,
    "rotated": _rotated,
    "widened": _widened,
    "non-linear": _non_linear,
    "truncated": _truncated,
    "noisy": _noisy,
    "anisotropic": _anisotropic,
}


def change_space(name: str, parts: Sequence[np.ndarray], seed: int) -> list[np.ndarray]:
    """Vectors in another space.

    >>> turned = change_space("rotated", [np.eye(3, dtype=np.float32)], 0)[0]
    >>> np.allclose(turned @ turned.T, np.eye(3), atol=1e-6)
    True

    Args:
        name: of the space.
        parts: (n, D) each; what is random of each text differs between them.
        seed: of everything random.

    Returns:
        (n, E) float32 each, of any length.
    """
    return [
        SPACES[name](np.asarray(part, dtype=np.float32), number, seed).astype(np.float32)
        for number, part in enumerate(parts)
    ]
