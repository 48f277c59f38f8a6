"""truncate_then_normalize: by hand, numpy against torch, and the mistake it prevents."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from leafkit.core.truncate import truncate_then_normalize


def test_by_hand() -> None:
    found = truncate_then_normalize(np.array([[3.0, 4.0, 12.0]]), 2)
    np.testing.assert_allclose(found, [[0.6, 0.8]], rtol=1e-7)


@pytest.mark.parametrize("dim", [None, 1, 5, 8])
@pytest.mark.parametrize("shape", [(8,), (4, 8), (2, 3, 8)])
def test_numpy_equals_torch_and_lengths_are_one(shape: tuple[int, ...], dim: int | None) -> None:
    vectors = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = truncate_then_normalize(vectors, dim)
    expected = truncate_then_normalize(torch.from_numpy(vectors), dim)
    assert found.shape == (*shape[:-1], dim or 8)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1.0, atol=1e-6)


def test_cutting_a_normalized_vector_gives_the_same_as_cutting_the_raw_one() -> None:
    raw = np.random.default_rng(1).normal(size=(5, 8))
    twice = truncate_then_normalize(truncate_then_normalize(raw), 3)
    np.testing.assert_allclose(twice, truncate_then_normalize(raw, 3), rtol=1e-12)


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_zero_vector_stays_zero(kind: object) -> None:
    found = np.asarray(truncate_then_normalize(kind([[0.0, 0.0, 1.0]]), 2))
    np.testing.assert_array_equal(found, [[0.0, 0.0]])


@pytest.mark.parametrize("dim", [0, -1, 9])
@pytest.mark.parametrize(
    "vectors", [np.ones((2, 8), np.float32), torch.ones(2, 8)], ids=["numpy", "torch"]
)
def test_impossible_dim_is_refused(vectors: np.ndarray | torch.Tensor, dim: int) -> None:
    with pytest.raises(ValueError, match=rf"dim={dim} is not between 1 and the vectors' 8"):
        truncate_then_normalize(vectors, dim)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numpy_dtype_is_kept_and_the_input_untouched(dtype: type) -> None:
    vectors = np.array([[3.0, 4.0]], dtype=dtype)
    found = truncate_then_normalize(vectors)
    assert found.dtype == dtype
    np.testing.assert_array_equal(vectors, [[3.0, 4.0]])


def test_half_precision_does_not_overflow_in_the_norm() -> None:
    # 4 * 300**2 is above float16's 65504
    found = truncate_then_normalize(np.full((1, 4), 300.0, dtype=np.float16))
    np.testing.assert_allclose(found, 0.5, rtol=1e-3)


def test_gradients_pass_and_are_orthogonal_to_the_vector() -> None:
    vectors = torch.tensor([[3.0, 4.0, 12.0]], requires_grad=True)
    truncate_then_normalize(vectors, 2)[0, 0].backward()
    assert vectors.grad is not None
    # (1 - x^2) / 5 and -x y / 5
    torch.testing.assert_close(vectors.grad, torch.tensor([[0.128, -0.096, 0.0]]))
