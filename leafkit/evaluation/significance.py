"""Is a difference more than chance (paired randomisation test), and what holds over collections
(hierarchical bootstrap).

Shapes: n queries, K comparisons, B sign patterns, C collections, R resamples, S systems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from leafkit.evaluation.bootstrap import Bootstrap, Draws, Name

_CHUNK_ENTRIES = 2**21  # signs held at a time, 16 MB as float64
# sums that differ by less than this share of sum |d| are the same sum, added in another order
_EQUAL = 1e-9


def randomisation_test(differences: np.ndarray, num_permutations: int, seed: int) -> np.ndarray:
    """Two-sided p of each mean difference under the paired randomisation (sign-flip) test.

    Under the hypothesis that two systems are alike, each query's two values might as well be
    swapped, so that its difference d_i has either sign. With T = |sum_i d_i| and T_b = |sum_i s_bi
    d_i| for random signs s_bi,

        p = (1 + #{b: T_b >= T}) / (1 + B),

    the 1 being the signs observed (Phipson & Smyth 2010; for retrieval Smucker, Allan & Carterette,
    CIKM 2007). Where all 2^m sign patterns of the m differences other than zero number at most B,
    they are enumerated: p = #{T_b >= T} / 2^m.

    Args:
        differences: (n, K), one column per comparison of two systems over the same queries.
        num_permutations: B; the columns share the signs.
        seed: of the signs.

    Returns:
        (K,) float64 in (0, 1]; 1 for systems that are equal on every query.

    Raises:
        ValueError: not two-dimensional, no query, a number is not finite, or B is below 1.
    """
    if (
        differences.ndim != 2
        or not len(differences)
        or num_permutations < 1
        or not np.isfinite(differences).all()
    ):
        raise ValueError(
            f"{num_permutations} permutations of differences of shape {differences.shape}: both "
            f"finite, not empty"
        )
    values = differences.astype(np.float64)
    out = np.ones(values.shape[1])
    sampled = []
    for column, d in enumerate(values.T):
        nonzero = d[d != 0]
        if len(nonzero) < num_permutations.bit_length():  # 2^m <= B
            out[column] = _enumerate(nonzero)
        else:
            sampled.append(column)
    if sampled:
        kept = values[:, sampled]
        out[sampled] = _sample(kept[(kept != 0).any(axis=1)], num_permutations, seed)
    return out


def _enumerate(d: np.ndarray) -> float:
    """Exact p of (m,) differences other than zero."""
    patterns = np.arange(2 ** len(d), dtype=np.int64)
    sums = np.zeros(len(patterns))
    for i, value in enumerate(d):
        sums += np.where(patterns >> i & 1, value, -value)
    return float((np.abs(sums) >= abs(d.sum()) - _EQUAL * np.abs(d).sum()).mean())


def _sample(d: np.ndarray, num_permutations: int, seed: int) -> np.ndarray:
    """(K,) p of (n, K) differences from random signs."""
    generator = np.random.default_rng(seed)
    total = d.sum(axis=0)
    threshold = np.abs(total) - _EQUAL * np.abs(d).sum(axis=0)
    reached = np.zeros(d.shape[1], dtype=np.int64)
    num_bytes = 4 * -(-len(d) // 32)  # whole words of the generator, so that chunks leave none out
    rows = max(1, _CHUNK_ENTRIES // len(d))
    for start in range(0, num_permutations, rows):
        count = min(rows, num_permutations - start)
        bits = np.frombuffer(generator.bytes(count * num_bytes), dtype=np.uint8).reshape(
            count, num_bytes
        )
        is_plus = np.unpackbits(bits, axis=1, count=len(d)).astype(np.float64)
        # sum s d = 2 sum_plus d - sum d
        reached += (np.abs(2 * (is_plus @ d) - total) >= threshold).sum(axis=0)
    share: np.ndarray = (1 + reached) / (1 + num_permutations)
    return share


class MacroBootstrap:
    """Resampled macro averages: C collections are drawn with replacement, then the queries within
    each of those drawn.

    The macro average gives every collection the same weight, M = (1/C) sum_c mean_i x_ci. In one
    resample

        M* = (1/C) sum_{j=1..C} mean_i x_{c_j, i_j}     c_1 ... c_C drawn from the collections, i_j
        from the queries of c_j,

    so that the spread of the collections and that of the queries both count (Davison & Hinkley,
    "Bootstrap Methods and their Application", 1997, section 3.8). A collection drawn twice has its
    queries drawn afresh each time. Systems share the draws. With few collections the outer level is
    coarse: of two, half of the resamples hold one of them alone.

    Args:
        sizes: queries of each of the C collections.
        num_resamples: R.
        seed: of all draws.

    Raises:
        ValueError: no collection, or one without queries.
    """

    def __init__(self, sizes: Sequence[int], num_resamples: int, seed: int) -> None:
        if not sizes or min(sizes) < 1 or num_resamples < 1:
            raise ValueError(f"{num_resamples} resamples of collections of {list(sizes)} queries")
        self._sizes, self._seed = list(sizes), seed
        # c_j, (R, C)
        self._chosen = np.random.default_rng(seed).integers(
            len(sizes), size=(num_resamples, len(sizes))
        )

    def means(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Resampled macro averages. ``values`` (n_c, S) of each collection -> (R, S)."""
        if [len(v) for v in values] != self._sizes:
            raise ValueError(
                f"values of {[len(v) for v in values]} queries for collections of {self._sizes}"
            )
        slots = np.empty((*self._chosen.shape, values[0].shape[1]))
        for number, of_collection in enumerate(values):
            is_chosen = self._chosen == number
            if count := int(is_chosen.sum()):
                seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
                slots[is_chosen] = Bootstrap(len(of_collection), count, seed).means(of_collection)
        means: np.ndarray = slots.mean(axis=1)
        return means

    def draws(self, values: Sequence[Mapping[Name, np.ndarray]]) -> Draws[Name]:
        """Macro averages of several systems; for each collection (n_c,) values by name, the same
        names in all.

        ``Draws.ratio`` is then the ratio of two macro averages, not the average of the collections'
        ratios.
        """
        names = list(values[0])
        stacked = [
            np.stack([of_collection[name] for name in names], axis=1) for of_collection in values
        ]
        estimates = np.mean([s.mean(axis=0) for s in stacked], axis=0)
        return Draws(
            dict(zip(names, estimates.tolist(), strict=True)),
            dict(zip(names, self.means(stacked).T, strict=True)),
            sum(self._sizes),
        )


def macro_differences(values: Sequence[np.ndarray]) -> np.ndarray:
    """What ``randomisation_test`` takes for a difference of macro averages: every query's share
    d_ci n / (C n_c) of it.

    Signs are flipped query by query; their mean over all n = sum_c n_c queries is the macro average
    of the differences.

    Args:
        values: (n_c, K) differences per query of each of the C collections.

    Returns:
        (n, K) float64.
    """
    num_queries = sum(len(v) for v in values)
    return np.concatenate([v * (num_queries / (len(values) * len(v))) for v in values])
