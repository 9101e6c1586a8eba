"""Clusters of vectors by direction."""

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.nn.clusters import cluster_centres, nearest_centre

WIDTH, COUNT = 5, 4


def groups(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """float32 [37, 5], vectors of different lengths near four axes, one in nine of them zeros; and which axis."""
    rng = np.random.default_rng(seed)
    axis = rng.integers(0, COUNT, 37)
    vectors = (np.eye(WIDTH)[axis] + 0.05 * rng.normal(size=(37, WIDTH))) * rng.uniform(0.5, 2, (37, 1))
    vectors[::9] = 0
    return vectors.astype(np.float32), axis


def test_each_centre_is_the_direction_of_the_mean_of_its_vectors() -> None:
    vectors, axis = groups()
    centres = np.asarray(cluster_centres(jax.random.key(1), jnp.asarray(vectors), COUNT))
    found = np.asarray(nearest_centre(jnp.asarray(vectors), jnp.asarray(centres)))
    known = np.any(vectors != 0, axis=1)
    assert not found[~known].any() and set(found[known]) <= set(range(1, COUNT + 1))
    units = vectors[known] / np.linalg.norm(vectors[known], axis=1, keepdims=True)
    for number in set(found[known].tolist()):
        mean = units[found[known] == number].mean(axis=0)
        np.testing.assert_allclose(centres[number - 1], mean / np.linalg.norm(mean), rtol=1e-4, atol=1e-5)
    pairs = set(zip(found[known].tolist(), axis[known].tolist(), strict=True))
    assert len(pairs) == len({number for number, _ in pairs}) == COUNT, "each group is one cluster"


def test_rows_of_padding_change_nothing() -> None:
    vectors, _ = groups(2)
    padded = np.concatenate([vectors, np.zeros((3, WIDTH), np.float32)])
    one, other = (cluster_centres(jax.random.key(3), jnp.asarray(some), COUNT) for some in (vectors, padded))
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_more_centres_than_vectors_are_no_error() -> None:
    vectors = jnp.asarray(groups()[0][1:4])
    centres = cluster_centres(jax.random.key(0), vectors, 5)
    assert centres.shape == (5, WIDTH) and np.isfinite(centres).all()
    assert sorted(np.asarray(nearest_centre(vectors, centres)).tolist()) == [1, 2, 3]
