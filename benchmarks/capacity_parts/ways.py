"""What a head could read beside the start model's pooled states, each as numbers of a text, so that
one ridge solution weighs both: clusters, landmarks, random features, tokens.

Shapes: n texts, H hidden width, K numbers beside the states, V tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from leafkit.core.truncate import truncate_then_normalize

_KMEANS_STEPS = 20


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts as the start model reads them.

    Attributes:
        layers: (n, L, H) pooled states of all layers, the last one last.
        token_ids: of its tokenizer.
    """

    layers: np.ndarray
    token_ids: Sequence[np.ndarray]

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, rows: np.ndarray) -> Texts:
        return Texts(self.layers[rows], [self.token_ids[row] for row in rows])

    @property
    def last(self) -> np.ndarray:
        """(n, H) of the last layer."""
        return np.asarray(self.layers[:, -1], dtype=np.float32)

    @property
    def every(self) -> np.ndarray:
        """(n, L H) of all layers."""
        return np.asarray(self.layers, dtype=np.float32).reshape(len(self), -1)


Numbers = Callable[[Texts], np.ndarray]  # (n, K) of texts


@dataclass(frozen=True, slots=True)
class Way:
    """A map from texts to vectors that a closed form can solve.

    Attributes:
        family: what it is in words; of one family held-out documents choose one.
        name: with its setting.
        make: of texts to fit and a seed, what it reads beside the states; None reads nothing.
        of_all_layers: the states are those of all layers.
        is_local: the numbers are weights of clusters, and the map has another matrix in each.
        is_sparse: the numbers are a sparse matrix of more columns than there are texts.
        num_inner: parameters that make the numbers, of K and H.
    """

    family: str
    name: str
    make: Callable[[Texts, int], Numbers] | None = None
    of_all_layers: bool = False
    is_local: bool = False
    is_sparse: bool = False
    num_inner: Callable[[int, int], int] = lambda k, h: 0

    def states(self, texts: Texts) -> np.ndarray:
        """(n, H) that the map reads in any case."""
        return texts.every if self.of_all_layers else texts.last


def _unit(vectors: np.ndarray) -> np.ndarray:
    return truncate_then_normalize(vectors)


def make_clusters(count: int, temperature: float) -> Callable[[Texts, int], Numbers]:
    """Weights of k-means' clusters of the start's own vectors: the nearest one, or, with a
    temperature, a softmax of the cosines to all.
    """

    def make(texts: Texts, seed: int) -> Numbers:
        vectors = _unit(texts.last)
        centers = vectors[np.random.default_rng(seed).choice(len(vectors), count, replace=False)]
        for _ in range(_KMEANS_STEPS):
            near = (vectors @ centers.T).argmax(axis=1)
            sums = np.zeros_like(centers)
            np.add.at(sums, near, vectors)
            is_used = np.bincount(near, minlength=count) > 0
            centers[is_used] = _unit(sums[is_used])

        def weights(asked: Texts) -> np.ndarray:
            cosines = _unit(asked.last) @ centers.T
            if not temperature:
                return np.eye(count, dtype=np.float32)[cosines.argmax(axis=1)]
            powers = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / temperature)
            return np.asarray(powers / powers.sum(axis=1, keepdims=True))

        return weights

    return make


def make_landmarks(count: int, sharpness: float) -> Callable[[Texts, int], Numbers]:
    """Nystroem features of exp(sharpness (cosine - 1)) to some of the documents (Williams & Seeger
    2000), the start's own vectors compared.
    """

    def make(texts: Texts, seed: int) -> Numbers:
        chooser = np.random.default_rng(seed)
        chosen = chooser.permutation(len(texts))[:count]
        landmarks = _unit(texts.last[chosen])

        def similar(vectors: np.ndarray) -> np.ndarray:
            return np.asarray(np.exp(sharpness * (vectors @ landmarks.T - 1)))

        values, directions = np.linalg.eigh(similar(landmarks).astype(np.float64))
        kept = values > 1e-6 * values.max()
        root = (directions[:, kept] / np.sqrt(values[kept])).astype(np.float32)
        return lambda asked: similar(_unit(asked.last)) @ root

    return make


def make_random_features(count: int, sharpness: float) -> Callable[[Texts, int], Numbers]:
    """cos(W x + b) of the start's own vectors, whose products approach the same similarity on unit
    vectors (Rahimi & Recht 2007).
    """

    def make(texts: Texts, seed: int) -> Numbers:
        chooser = np.random.default_rng(seed)
        width = texts.last.shape[1]
        weight = (chooser.normal(size=(width, count)) * sharpness**0.5).astype(np.float32)
        shift = chooser.uniform(0, 2 * np.pi, count).astype(np.float32)
        return lambda asked: np.asarray(np.cos(_unit(asked.last) @ weight + shift))

    return make


def make_gelus(count: int) -> Callable[[Texts, int], Numbers]:
    """Random GELUs of the states, as ``student.head=two_layer`` has."""

    def make(texts: Texts, seed: int) -> Numbers:
        import torch

        from leafkit.models.heads.two_layer import TwoLayerHead

        torch.manual_seed(seed)
        head = TwoLayerHead(texts.last.shape[1], count, 1)
        head.spread(torch.from_numpy(texts.last))

        def activate(asked: Texts) -> np.ndarray:
            with torch.no_grad():
                return head.activate(torch.from_numpy(asked.last)).numpy()

        return activate

    return make


def make_tokens(
    min_count: int, weighting: str = "shares"
) -> Callable[[Texts, int], Callable[[Texts], csr_matrix]]:
    """The share that each token has of a text: a table of token vectors beside the head, averaged,
    is a linear map of these. Tokens of fewer texts than ``min_count`` have none. Or "tf-idf", rare
    tokens weighed more, of length one.
    """

    def make(texts: Texts, seed: int) -> Callable[[Texts], csr_matrix]:
        counted = count_tokens(texts.token_ids)
        in_texts = counted.getnnz(axis=0)
        known = np.flatnonzero(in_texts >= min_count)
        rarity = np.log(1 + len(texts) / in_texts[known])

        def shares(asked: Texts) -> csr_matrix:
            counts = count_tokens(asked.token_ids, counted.shape[1])
            if weighting == "shares":
                lengths = np.maximum(counts.sum(axis=1), 1)
                return csr_matrix(counts.multiply(1 / lengths))[:, known]
            weighed = csr_matrix(counts[:, known].minimum(1).multiply(rarity))
            lengths = np.sqrt(weighed.power(2).sum(axis=1))
            return csr_matrix(weighed.multiply(1 / np.maximum(lengths, 1e-9)))

        return shares

    return make


def count_tokens(token_ids: Sequence[np.ndarray], num_tokens: int = 0) -> csr_matrix:
    """(n, V) how often each text has each token; ids from ``num_tokens`` on are dropped."""
    owners = np.repeat(np.arange(len(token_ids)), [len(ids) for ids in token_ids])
    ids = np.concatenate(token_ids)
    width = num_tokens or int(ids.max()) + 1
    is_known = ids < width
    ones = np.ones(int(is_known.sum()), dtype=np.float32)
    return csr_matrix((ones, (owners[is_known], ids[is_known])), shape=(len(token_ids), width))


BASELINE = Way("linear, last layer", "linear, last layer")


def list_ways() -> list[Way]:
    """All that are compared, the shipped one first."""

    def dense(k: int, h: int) -> int:
        return k * h

    ways = [BASELINE, Way("linear, all layers", "linear, all layers", of_all_layers=True)]
    for count in (512, 2048):
        ways.append(Way("two layers", f"{count} GELUs", make_gelus(count), num_inner=dense))
    for temperature in (0.0, 0.05):
        kind = f"softmax at {temperature:g}" if temperature else "nearest alone"
        ways += [
            Way(
                f"clusters, {kind}",
                f"{count} clusters, {kind}",
                make_clusters(count, temperature),
                is_local=True,
                num_inner=dense,
            )
            for count in (4, 16, 64)
        ]
    for count in (1000, 2000, 4000):
        ways += [
            Way(
                "kernel on documents",
                f"{count:,} documents, sharpness {sharpness:g}",
                make_landmarks(count, sharpness),
                num_inner=dense,
            )
            for sharpness in (2.0, 8.0)
        ]
    ways += [
        Way(
            "random Fourier features",
            f"{count:,}, sharpness 2",
            make_random_features(count, 2.0),
            num_inner=dense,
        )
        for count in (2048,)
    ]
    for least, weighting in ((2, "shares"), (10, "shares"), (50, "shares"), (2, "tf-idf")):
        ways.append(
            Way(
                f"token table, {weighting}",
                f"tokens of {least} texts, {weighting}",
                make_tokens(least, weighting),
                is_sparse=True,
            )
        )
    return ways
