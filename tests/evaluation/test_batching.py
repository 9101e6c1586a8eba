"""Static batches out of any."""

import numpy as np
import pytest

from alterrec_jax.evaluation.batching import default_batch_size, rebatch


def test_rebatch():
    pieces = [{"x": np.full((n, 2), i)} for i, n in enumerate([3, 0, 4, 1])]
    out = list(rebatch(pieces, ["x"], 5))
    assert [count for count, _ in out] == [5, 3]
    assert [batch["x"][:, 0].tolist() for _, batch in out] == [[0, 0, 0, 2, 2], [2, 2, 3, 0, 0]]


def test_default_batch_size_bounds_memory():
    assert [default_batch_size(n) for n in (1, 12_101, 46_000, 10**9)] == [1024, 256, 64, 8]


def test_components_of_one_batch_have_one_length():
    with pytest.raises(ValueError, match="differ in length"):
        list(rebatch([{"x": np.zeros((2, 1)), "y": np.zeros((3, 1))}], ["x", "y"], 5))
