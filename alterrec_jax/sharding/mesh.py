"""The mesh of devices: batches lie over its axis `data`, item tables and the scores' item axis over its axis `model`.

Code that works on tables and scores is written once, for the part of them that one device holds: its own rows, and its
share of the items. `shard_map` runs it on every device, and `psum`, `pmax`, `pmin` and `all_gather` combine what
the devices found. Where there is no mesh, or one of a single device, that part is all there is, and these do nothing.

The mesh in use is JAX's (`jax.set_mesh`); `make_mesh` makes it from the words of `--mesh`. Random numbers are drawn by
programs that know the whole arrays, so they do not depend on the mesh.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from alterrec_jax.errors import UserError

DATA, MODEL = "data", "model"
AXES = (DATA, MODEL)

BATCH, ITEMS, REPLICATED = PartitionSpec(DATA), PartitionSpec(MODEL), PartitionSpec()
BATCH_AND_ITEMS = PartitionSpec(DATA, MODEL)
"""Where arrays lie: the first dimension over `data`, or over `model`, both, or all of it on every device."""


def make_mesh(words: str = "", devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh that some words name.

    Args:
      words: like "data:4,model:2"; an axis that is not named has one device. "" puts all devices on `data`.
      devices: all of JAX's by default.

    Raises:
      UserError: the words name no mesh, or one of more or fewer devices than there are.
    """
    devices = jax.devices() if devices is None else devices
    sizes = dict.fromkeys(AXES, 1) | (named_sizes(words) if words else {DATA: len(devices)})
    if math.prod(sizes.values()) != len(devices):
        raise UserError(
            f"--mesh={words} takes {math.prod(sizes.values())} devices, but there are {len(devices)}; change it, or "
            "let the program see other devices (CUDA_VISIBLE_DEVICES on GPUs)"
        )
    return jax.make_mesh(tuple(sizes.values()), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def named_sizes(words: str) -> dict[str, int]:
    """How many devices some words want along each axis that they name; "data:4,model:2" wants 4 and 2.

    Raises:
      UserError: the words name no mesh.
    """
    sizes: dict[str, int] = {}
    for word in words.split(","):
        axis, _, size = word.strip().partition(":")
        if axis not in AXES or axis in sizes or not size.isdecimal() or not int(size):
            raise UserError(f"--mesh={words} is no mesh; write the devices along each axis, like data:4,model:2")
        sizes[axis] = int(size)
    return sizes


def used(mesh: Mesh) -> contextlib.AbstractContextManager[Any]:
    """Within it, arrays lie on the mesh. A single device needs none."""
    return jax.set_mesh(mesh) if mesh.size > 1 else contextlib.nullcontext()


def size(axis: str) -> int:
    """How many devices lie along an axis of the mesh in use; 1 without a mesh."""
    return int(jax.sharding.get_abstract_mesh().shape.get(axis, 1))


def devices() -> int:
    """How many devices the mesh in use has; 1 without a mesh."""
    return math.prod(size(axis) for axis in AXES)


def platform() -> str:
    """The kind of the mesh's devices, or without a mesh of JAX's own: "cpu", "gpu" or "tpu"."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else str(device.platform)


def padded(count: int, axis: str) -> int:
    """The next multiple of an axis' devices: that many rows or items divide among all of them."""
    return count + -count % size(axis)


def sharding(spec: PartitionSpec) -> Any:
    """Where arrays of a spec lie; None, which JAX takes for no wish, without a mesh."""
    return None if devices() == 1 else NamedSharding(jax.sharding.get_mesh(), spec)


def shardings(tree: Any) -> Any:
    """Where the arrays of a tree lie, or are to lie if they are shapes."""
    return jax.tree.map(lambda array: None if devices() == 1 else array.sharding, tree)


def put(arrays: Any, spec: PartitionSpec = REPLICATED) -> Any:
    """A tree of arrays on the devices; each process of several hands over only what its own devices hold."""
    if devices() == 1:
        return jax.tree.map(jnp.asarray, arrays)
    place = sharding(spec)

    def placed(array: Any) -> jax.Array:
        if isinstance(array, jax.Array):
            return jax.device_put(array, place)
        return jax.make_array_from_callback(array.shape, place, lambda index: array[index])

    return jax.tree.map(placed, arrays)


def part_here(count: int, axis: str) -> range:
    """Of so many rows or items that lie over an axis, a multiple of its devices, those that this process' devices hold.

    Where the devices of a process do not follow each other, what lies between is among them.
    """
    if devices() == 1:
        return range(count)
    held = sharding(PartitionSpec(axis)).addressable_devices_indices_map((count,)).values()
    parts = [range(*index[0].indices(count)) for index in held]
    return range(min(part.start for part in parts), max(part.stop for part in parts))


def put_part(array: np.ndarray, axis: str, dimension: int, part: range, count: int) -> jax.Array:
    """An array on the devices, a dimension of which lies over an axis.

    Args:
      array: this process' part of it.
      axis, dimension: of the mesh, and of the array.
      part, count: which of how many the dimension has here, as by `part_here`.
    """
    if devices() == 1:
        return jnp.asarray(array)

    def of_device(index: tuple[slice, ...] | None) -> np.ndarray:
        assert index is not None
        wanted = range(*index[dimension].indices(count))
        within = slice(wanted.start - part.start, wanted.stop - part.start)
        return array[(*index[:dimension], within, *index[dimension + 1 :])]

    shape = (*array.shape[:dimension], count, *array.shape[dimension + 1 :])
    place = sharding(PartitionSpec(*(None,) * dimension, axis))
    return jax.make_array_from_callback(shape, place, of_device)


def put_rows(array: np.ndarray, dtype: jax.typing.DTypeLike, axis: str = MODEL) -> jax.Array:
    """An array of that type, its rows over an axis, and behind them the rows of zeros that divide it evenly.

    Nobody reads more of it than the rows of its own devices.
    """
    rows = padded(len(array), axis)
    if devices() == 1:
        return jnp.asarray(array, dtype)

    def part(index: tuple[slice, ...] | None) -> np.ndarray:
        assert index is not None
        wanted = range(*index[0].indices(rows))
        there = np.asarray(array[wanted.start : wanted.stop], dtype)
        return np.pad(there, ((0, len(wanted) - len(there)), *((0, 0),) * (array.ndim - 1)))

    return jax.make_array_from_callback((rows, *array.shape[1:]), sharding(PartitionSpec(axis)), part)


@jax.jit
def replicated(arrays: Any) -> Any:
    """A tree of arrays, all of them on every device."""
    return jax.tree.map(lambda array: with_sharding_constraint(array, REPLICATED), arrays)


def with_sharding_constraint(array: jax.Array, spec: PartitionSpec) -> jax.Array:
    """The array, which within a program is to lie so."""
    return array if devices() == 1 else jax.lax.with_sharding_constraint(array, spec)


def shard_map(function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    """A function of what one device holds, as a function of the whole arrays. It is not to be differentiated.

    Args:
      function: may use `psum` and the like; what it returns by a spec that leaves out an axis must be equal along it.
      in_specs, out_specs: a spec for each argument and for what is returned, or trees of specs.
    """
    if devices() == 1:
        return function
    return jax.shard_map(function, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def psum(array: jax.Array, *axes: str) -> jax.Array:
    """The sum over the devices along some axes."""
    return _combined(jax.lax.psum, array, axes)


def pmax(array: jax.Array, *axes: str) -> jax.Array:
    """The maximum over the devices along some axes."""
    return _combined(jax.lax.pmax, array, axes)


def pmin(array: jax.Array, *axes: str) -> jax.Array:
    """The minimum over the devices along some axes."""
    return _combined(jax.lax.pmin, array, axes)


def _combined(combine: Callable[..., jax.Array], array: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    long = tuple(axis for axis in axes if size(axis) > 1)
    return combine(array, long) if long else array


def all_gather(array: jax.Array, axis: str, dimension: int = 0) -> jax.Array:
    """The devices' arrays one after another, in the order of the axis."""
    return jax.lax.all_gather(array, axis, axis=dimension, tiled=True) if size(axis) > 1 else array


def shard_offset(count: int, axis: str) -> jax.Array | int:
    """The number of a device's first row or item, of `count` that each device has."""
    return count * jax.lax.axis_index(axis) if size(axis) > 1 else 0
