"""A digest tells any two trees apart that differ in a bit, and no two that differ only in where they lie."""

import hashlib
import os
import pathlib
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.sharding.digests import tree_digest

ROOT = pathlib.Path(__file__).parents[2]
WORD = 2**32
LANES = (
    (0x6A09E667, 0xBB67AE85),
    (0x3C6EF372, 0xA54FF53A),
    (0x510E527F, 0x9B05688C),
    (0x1F83D9AB, 0x5BE0CD19),
)


def mix(word: int) -> int:
    word = (word ^ word >> 16) * 0x85EBCA6B % WORD
    word = (word ^ word >> 13) * 0xC2B2AE35 % WORD
    return word ^ word >> 16


def slow_digest(tree: dict[str, np.ndarray]) -> str:
    """The digest of a flat tree, an element at a time."""
    digest = hashlib.sha256()
    for name, array in sorted(tree.items()):
        sums = [0] * len(LANES)
        rows = array.reshape(1, 1) if array.ndim == 0 else array.reshape(len(array), int(np.prod(array.shape[1:])))
        for (row, column), bits in np.ndenumerate(np.ascontiguousarray(rows).view(np.uint32)):
            for lane, (row_word, column_word) in enumerate(LANES):
                place = (mix(row ^ row_word) + mix(column ^ column_word)) % WORD
                sums[lane] = (sums[lane] + (mix(int(bits) ^ place) if bits else 0)) % WORD
        trailing = array.shape[1:] if array.ndim else "scalar"
        digest.update(f"['{name}'] {array.dtype} {trailing} {sums}\n".encode())
    return digest.hexdigest()


def tree_of(seed: int) -> dict[str, np.ndarray]:
    """Arrays of every type and of odd sizes; odd bits included."""
    rng = np.random.default_rng(seed)
    odd = np.array([0.0, -0.0, 1e-40, -1e-45, np.inf, -np.inf, np.nan, 3.5], np.float32)
    return {
        "table": rng.normal(size=(17, 5)).astype(np.float32),
        "kernel": rng.normal(size=(2, 3, 7)).astype(np.float32),
        "odd": odd,
        "flat": rng.integers(-(2**31), 2**31, 31).astype(np.int32),
        "words": rng.integers(0, WORD, (3, 1), dtype=np.uint32),
        "empty": np.zeros((0, 3), np.float32),
        "count": np.asarray(seed, np.int32),
    }


def test_it_is_what_a_slow_twin_finds() -> None:
    for seed in range(3):
        tree = tree_of(seed)
        assert tree_digest(tree) == tree_digest(jax.tree.map(jnp.asarray, tree)) == slow_digest(tree)
    assert tree_digest({}) == slow_digest({})


def test_every_bit_counts() -> None:
    tree = {"table": tree_of(0)["table"][:5, :3], "odd": tree_of(0)["odd"], "count": np.asarray(7, np.int32)}
    found = {tree_digest(tree)}
    for name, array in tree.items():
        for place in np.ndindex(array.shape):
            for bit in range(32):
                changed = array.copy()
                changed.view(np.uint32)[place] ^= np.uint32(1) << np.uint32(bit)
                found.add(tree_digest({**tree, name: changed}))
    assert len(found) == 1 + 32 * sum(array.size for array in tree.values())


def test_order_names_types_and_trailing_dimensions_count() -> None:
    tree = tree_of(0)
    table = tree["table"]
    others: list[dict[str, Any]] = [
        {**tree, "table": table[[1, 0, *range(2, 17)]]},
        {**tree, "table": table[:, [1, 0, 2, 3, 4]]},
        {**tree, "table": np.roll(table, 1, axis=0)},
        {**tree, "table": -table},
        {**tree, "table": table.view(np.int32)},
        {**tree, "table": table[..., None]},
        {**tree, "kernel": tree["kernel"].swapaxes(1, 2)},
        {**tree, "kernel": tree["kernel"].reshape(2, 7, 3)},
        {**tree, "count": tree["count"][None]},
        {**tree, "empty": np.zeros((0, 4), np.float32)},
        {name: array for name, array in tree.items() if name != "empty"},
        {**{name: array for name, array in tree.items() if name != "flat"}, "float": tree["flat"]},
        {"one": {"two": table}},
        {"one": table, "two": table + 1},
        {"two": table, "one": table + 1},
        {"one": table[:4, :4], "two": np.zeros((4, 4), np.float32)},
        {"one": table[:4, :4].T, "two": np.zeros((4, 4), np.float32)},
    ]
    assert len({tree_digest(tree), *(tree_digest(other) for other in others)}) == 1 + len(others)


@pytest.mark.parametrize("rows", [1, 7])
def test_rows_of_zeros_at_the_end_do_not_count(rows: int) -> None:
    tree = tree_of(0)
    padded = {
        name: np.concatenate([array, np.zeros((rows, *array.shape[1:]), array.dtype)])
        for name, array in tree.items()
        if array.ndim
    }
    assert tree_digest({**padded, "count": tree["count"]}) == tree_digest(tree)
    assert tree_digest({**tree, "table": -0.0 * np.abs(padded["table"])}) != tree_digest(
        {**tree, "table": -0.0 * np.abs(tree["table"])}
    ), "a negative zero is no zero"


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros(3, np.int64), jnp.zeros(3, jnp.bfloat16), np.zeros(3, bool)])
def test_other_types_are_refused_by_name(array: Any) -> None:
    with pytest.raises(ValueError, match=rf"\['a'\] is of type {array.dtype}; a digest knows float32, int32, uint32"):
        tree_digest({"a": array})


SHARDED = """
import jax, numpy as np
from alterrec_jax.sharding.digests import tree_digest
rng = np.random.default_rng(0)
tree = {"table": rng.normal(size=(24, 6)).astype(np.float32), "flat": np.arange(16, dtype=np.int32)}
mesh = jax.make_mesh((4, 2), ("x", "y"))
for rows, columns in ((None, None), ("x", None), (("x", "y"), None), ("x", "y"), (None, "y")):
    specs = {"table": jax.P(rows, columns), "flat": jax.P(rows)}
    lying = {name: jax.device_put(tree[name], jax.NamedSharding(mesh, spec)) for name, spec in specs.items()}
    assert tree_digest(lying) == tree_digest(tree), (rows, columns)
print(jax.device_count())
"""


def test_it_does_not_depend_on_how_arrays_are_sharded() -> None:
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "8\n"), done.stderr
