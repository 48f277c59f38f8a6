"""Half precision."""

from __future__ import annotations

import numpy as np

from leafkit.index.codecs.floats import Float16


def test_float16_saturates():
    codec = Float16(3)
    assert codec.decode(codec.encode(np.float32([[1e9, -1e9, 0.5]]))).tolist() == [
        [65504.0, -65504.0, 0.5]
    ]
