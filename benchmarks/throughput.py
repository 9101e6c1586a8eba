"""Training speed, against the time of the matrix products that no implementation can do without.

python -m benchmarks.throughput --data_dir=DIR --output=FILE.json
python -m benchmarks.throughput --items=1400000 --precision=bfloat16
"""

import collections
import dataclasses
import functools
import itertools
import math
import statistics
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import flags

from alterrec_jax.config import PRECISIONS, to_json
from alterrec_jax.contract import CatalogueInfo, Context, FrozenView, Params, System
from alterrec_jax.data.batches import TrainBatches, rows_of_batch
from alterrec_jax.data.dataset import Sessions, load_dataset
from alterrec_jax.errors import UserError
from alterrec_jax.hard_negatives import cache
from alterrec_jax.models.alterrec import RANDOM, WINDOW, AlterRecConfig
from alterrec_jax.models.unimodal import VectorNetworkConfig
from alterrec_jax.numerics import product
from alterrec_jax.runtime import command_line, files
from alterrec_jax.runtime.console import log
from alterrec_jax.runtime.host_memory import keep_freed_memory, steps_in_flight
from alterrec_jax.runtime.text_table import aligned
from alterrec_jax.scoring.frozen import freeze
from alterrec_jax.training import steps
from benchmarks import settings, synthetic
from benchmarks.programs import stage_of
from benchmarks.timing import seconds

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset folder written by data_tools.prepare.")
_ITEMS = flags.DEFINE_integer("items", None, "Without --data_dir: random sessions of so many items.", lower_bound=100)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the result; without it only the table is printed.")
settings.define(dim=300, layers=2, batch_prefixes=512, k2=6000)
_PRECISION = flags.DEFINE_enum("precision", "float32", PRECISIONS, "Of matrix products, the floor's among them.")
_KERNELS = flags.DEFINE_bool("gpu_kernels", False, "Whether blocks of items are left to our kernels for NVIDIA GPUs.")
_M_GAP = flags.DEFINE_integer(
    "m_gap", 2, "Epochs of a turn, of which the first mines and the others use its windows again.", lower_bound=1
)
_ROUNDS = flags.DEFINE_integer(
    "rounds", 5, "The floor and every phase are timed in turn so often; ratios are medians.", lower_bound=1
)
_STEPS = flags.DEFINE_integer(
    "steps", 8, "Steps of each phase in a round; at most as many as an epoch has.", lower_bound=1
)

FIRST, AGAIN = "_first", "_again"  # epochs of a turn

Product = tuple[tuple[int, ...], tuple[int, ...]]
"""The shapes of the two sides of a (batched) matrix product."""


def main() -> int:
    """Times, prints the table and writes the JSON."""
    keep_freed_memory()
    config = settings.config(precision=_PRECISION.value, gpu_kernels=_KERNELS.value)
    config = dataclasses.replace(config, turn_epochs=_M_GAP.value)
    sessions, vectors = _data(config)
    batches = TrainBatches(sessions, config.batch_prefixes, config.max_length)
    phases = make_phases(config, vectors, batches, len(sessions.items))
    floors = {name: floor_of(config, vectors.shape, batches.rows, name) for name in phases}
    rates: list[float] = []
    times: dict[str, list[float]] = collections.defaultdict(list)
    floor_times: dict[str, list[float]] = collections.defaultdict(list)
    for number in range(_ROUNDS.value + 1):
        rates.append(operations(_large_product()) / seconds_of_product(*_large_product()))
        of_product = {shape: seconds_of_product(*shape) for shape in set(itertools.chain(*floors.values()))}
        for phase, run in phases.items():
            spent = run(_STEPS.value)
            if number:  # the first round compiles
                for name, of_epoch in spent.items():
                    times[phase + name].append(of_epoch)
                    floor_times[phase + name].append(sum(of_product[shape] for shape in floors[phase]))
        log(f"round {number} of {_ROUNDS.value}" + (" (compiled)" if not number else ""))
    prefixes = batches.prefixes / batches.steps_per_epoch
    result = {
        name: {
            "prefixes_per_s": prefixes / statistics.median(times[name]),
            "step_ms": 1e3 * statistics.median(times[name]),
            "floor_ms": 1e3 * statistics.median(floor_times[name]),
            "floor_ratio": statistics.median(t / f for t, f in zip(times[name], floor_times[name], strict=True)),
            "rate_share": sum(map(operations, floor_of(config, vectors.shape, batches.rows, name)))
            / statistics.median(times[name])
            / statistics.median(rates),
        }
        for name in times
    }
    rows = [
        [
            name,
            f"{r['prefixes_per_s']:,.0f}",
            f"{r['step_ms']:.1f}",
            f"{r['floor_ms']:.1f}",
            f"{r['floor_ratio']:.2f}",
            f"{r['rate_share']:.0%}",
        ]
        for name, r in result.items()
    ]
    print(aligned([["phase", "prefixes/s", "step, ms", "floor, ms", "step / floor", "of the rate"], *rows]))
    device = jax.devices()[0]
    print(
        f"{len(vectors):,} items, dim {config.trained['id'].dim}, {batches.rows} x {config.max_length} positions a "
        f"step ({batches.fill:.1%} filled), ranks {config.mining.k1} to {config.mining.k2}, {device.platform} "
        f"({device.device_kind}), whose rate is that of a large {_PRECISION.value} product: "
        f"{statistics.median(rates) / 1e12:.3g} TFLOP/s"
    )
    if _OUTPUT.value:
        files.write_json(_OUTPUT.value, {"phases": result, "device": device.device_kind, "config": to_json(config)})
    return 0


def _data(config: AlterRecConfig) -> tuple[Sessions, jax.Array]:
    """Training sessions, and the text vectors of their catalogue in the precision of products."""
    folder, items = _DATA_DIR.value, _ITEMS.value
    if folder is None and items is not None:
        of_batch = rows_of_batch(config.batch_prefixes, config.max_length) * config.max_length
        return synthetic.sessions(items, 4 * of_batch, config.max_length), synthetic.text_vectors(
            items, config.precision
        )
    if folder is None or items is not None:
        raise UserError("give either --data_dir, a dataset folder, or --items, for random sessions of so many items")
    dataset = load_dataset(folder)
    vectors = jnp.asarray(dataset.vectors["text"][: dataset.catalogue_size], config.precision)
    return dataset.splits["train"], vectors


def make_phases(
    config: AlterRecConfig, vectors: jax.Array, batches: TrainBatches, interactions: int
) -> dict[str, "_Phase"]:
    """All phases of both networks, for batches of so many interactions."""
    context, catalogue = Context({"text": vectors}, {}), CatalogueInfo(len(vectors))
    plain, augmented = (
        dataclasses.replace(config, mining=dataclasses.replace(config.mining, augment=augment)).build(catalogue)
        for augment in (False, True)
    )
    key = jax.random.key(1)
    peers = {name: steps.init_params(network, context, key) for name, network in plain.networks.items()}
    phases: dict[str, _Phase] = {}
    for name, peer in (("id", "text"), ("text", "id")):
        frozen = freeze(plain.components, {peer: 1.0}, peers, context)
        for phase, system, objective in (
            ("random", plain, RANDOM),
            ("window", plain, WINDOW),
            ("window_augmented", augmented, WINDOW),
        ):
            start = _Start(system, context, frozen if objective == WINDOW else None)
            phases[f"{name}_{phase}"] = _phase(start, name, objective, peer, batches, interactions)
    return phases


class _Start(NamedTuple):
    """What a step is given besides its state and batches."""

    system: System
    context: Context
    frozen: FrozenView | None


def _phase(start: _Start, name: str, objective: str, peer: str, batches: TrainBatches, interactions: int) -> "_Phase":
    """The steps of one network on one objective, from fresh parameters."""
    system = start.system
    stage = stage_of(name, objective, peer if start.frozen is not None else "")
    minimised = system.objectives[objective](stage)
    optimizer = steps.make_optimizer(system.optimizers[name], batches.steps_per_epoch)
    params: dict[str, Params] = {name: steps.init_params(system.networks[name], start.context, jax.random.key(0))}
    kept = minimised.cached_positives if _M_GAP.value > 1 else None
    windows = None if kept is None else cache.shapes(interactions, kept)
    opt_state = steps.init_opt_state(optimizer, system.networks, params)
    state = steps.StageState(params, opt_state, steps.Totals.zeros(), cache.zeros(windows))
    of_epochs = [
        steps.compiled(steps.in_chunks(steps.make_step(minimised, optimizer, reuse)))
        for reuse in ((False,) if windows is None else (False, True))
    ]
    return _Phase(of_epochs, state, start, batches)


class _Phase:
    """Makes steps as training does: of an epoch that mines, then on the same batches of those that use it again."""

    def __init__(self, of_epochs: list[steps.ChunkStep], state: steps.StageState, start: _Start, batches: TrainBatches):
        self._of_epochs, self._state, self._start = of_epochs, state, start
        self._key = jax.random.key(0)
        self._count, self._chunk = next(batches.device_chunks(jax.random.key(0)))
        self._first = 0

    def __call__(self, count: int) -> dict[str, float]:
        """Makes so many steps of each epoch.

        Returns:
          the seconds of a step, in the mean of a turn (""), and of its first and its other epochs if they differ.
        """
        count = min(count, self._count)
        self._first = self._first if self._first + count <= self._count else 0
        spent = []
        for step in self._of_epochs:
            totals = steps.Totals.zeros()._replace(steps=jnp.float32(self._first))
            self._state = self._state._replace(totals=totals)
            spent.append(seconds(functools.partial(self._steps, step, count)) / count)
        self._first += count
        if len(spent) == 1:
            return {"": spent[0]}
        first, again = spent
        return {"": (first + (_M_GAP.value - 1) * again) / _M_GAP.value, FIRST: first, AGAIN: again}

    def _steps(self, step: steps.ChunkStep, count: int) -> Any:
        for number in range(count):
            self._state = step(self._state, self._start.frozen, self._start.context, self._chunk, self._key)
            if number % steps_in_flight() == 0:
                jax.block_until_ready(self._state.totals)
        return self._state


def floor_of(config: AlterRecConfig, text: tuple[int, ...], rows: int, phase: str) -> list[Product]:
    """The products of a step, one for each: scores and their gradients, encoders, and the MLP of the text network.

    `text` is the shape of the text vectors.
    """
    name = phase.partition("_")[0]
    (items, width), positions, dim = text, rows * config.max_length, config.trained["id"].dim
    # One product forwards, and backwards one for each side.
    products = 3 * [((positions, dim), (dim, items))] + 3 * _encoder(config, rows)
    if "window" in phase:
        products += [((positions, dim), (dim, items)), *_encoder(config, rows)]
    if name == "text":
        of_text = config.networks["text"]
        assert isinstance(of_text, VectorNetworkConfig)
        widths = [width, *of_text.mlp_hidden, dim]
        for layer, (inner, outer) in enumerate(itertools.pairwise(widths)):
            products += (3 if layer else 2) * [((items, inner), (inner, outer))]  # the vectors need no gradient
    return products


def _encoder(config: AlterRecConfig, rows: int) -> list[Product]:
    length, network = config.max_length, config.trained["id"]
    dim, heads = network.dim, network.heads
    positions, of_head = rows * length, dim // heads
    one: list[Product] = [((positions, dim), (dim, dim))] * 4
    one += [((rows * heads, length, of_head), (rows * heads, of_head, length))]
    one += [((rows * heads, length, length), (rows * heads, length, of_head))]
    one += [((positions, dim), (dim, 4 * dim)), ((positions, 4 * dim), (4 * dim, dim))]
    return network.layers * one


def _large_product() -> Product:
    """One that takes a chip long enough for its rate to show."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    return (size, size), (size, size)


def operations(shapes: Product) -> int:
    """Multiplications and additions of a product."""
    left, right = shapes
    return 2 * math.prod(left) * right[-1]


def seconds_of_product(left: tuple[int, ...], right: tuple[int, ...]) -> float:
    """The best of several times of one product, of operands that have the precision already."""
    a, b = (jax.random.normal(jax.random.key(0), shape, _PRECISION.value) for shape in (left, right))
    jax.block_until_ready(_product(a, b))
    return min(seconds(lambda: _product(a, b)) for _ in range(5))


@jax.jit
def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return product(a, b, a.dtype)


if __name__ == "__main__":
    command_line.run(main)
