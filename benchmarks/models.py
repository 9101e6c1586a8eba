"""A training step of every registered system, at one width, length and batch, and of RecBole or of released code.

python -m benchmarks.models --data_dir=DIR --output=FILE.json
python -m benchmarks.models --data_dir=DIR --peers=FOLDER --released=FOLDER --output=FILE.json

A step is split into what the networks cost (item tables, session encoder, forwards and backwards), what the catalogue
costs (the softmax over all items and its gradients, against the three products that nobody can avoid) and Adam. All
times of a system are taken in turn, and ratios are medians. The others run in an environment of their own, on the same
sessions and cores; since they make other batches of them, what is compared is an epoch.
"""

import collections
import dataclasses
import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import flags

from alterrec_jax.config import RunConfig
from alterrec_jax.contract import Context, Network, Params, SessionBatch, Stage, System
from alterrec_jax.data.batches import TrainBatches
from alterrec_jax.data.dataset import Dataset, load_dataset
from alterrec_jax.data.features import catalogue_info, make_context
from alterrec_jax.errors import UserError
from alterrec_jax.hard_negatives.sets import WholeCatalogue
from alterrec_jax.losses.softmax import sampled_softmax_loss
from alterrec_jax.losses.streamed import log_sum_exp
from alterrec_jax.models.registry import TRAINED, families, family
from alterrec_jax.numerics import product
from alterrec_jax.runtime import command_line, files
from alterrec_jax.runtime.console import log
from alterrec_jax.runtime.host_memory import keep_freed_memory
from alterrec_jax.runtime.text_table import aligned
from alterrec_jax.scoring.frozen import freeze
from alterrec_jax.sharding.lookup import lookup
from alterrec_jax.training import steps
from alterrec_jax.training.start import fitted_params
from benchmarks import peer_steps
from benchmarks.timing import seconds

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset folder written by data_tools.prepare.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the result; without it only the table is printed.")
_MODELS = flags.DEFINE_list("models", [], "Families to time, with commas between; all that train by default.")
_DIM = flags.DEFINE_integer("dim", 80, "Width of all embeddings; 8 heads and 5 of twice the width divide it.")
_MAX_LENGTH = flags.DEFINE_integer("max_length", 50, "Items of a session that an encoder sees.", lower_bound=1)
_PREFIXES = flags.DEFINE_integer("batch_prefixes", 512, "Prefixes a step.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "How often everything is timed in turn.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 4, "Steps of each round; at most as many as an epoch has.", lower_bound=1)
_PEERS = flags.DEFINE_string(
    "peers",
    None,
    "Folder of an environment with RecBole and PyTorch, made where it is not there yet (1.8 GB, from the package "
    "index): RecBole's systems are timed too.",
)
_RELEASED = flags.DEFINE_string(
    "released",
    None,
    "Folder with clones of released code that is in no package, MSGAT and Atten-Mixer-torch, as their repositories are "
    "called: what is there is timed in the environment of --peers.",
)


class Timed(NamedTuple):
    """A step of a system.

    Attributes:
      parts: seconds of each part, by name.
      prefixes: of a step.
      steps: of an epoch.
      parameters: of the networks that train.
    """

    parts: dict[str, float]
    prefixes: float
    steps: int
    parameters: int


def main() -> int:
    """Times, prints the table and writes the JSON."""
    keep_freed_memory()
    if _RELEASED.value is not None and _PEERS.value is None:
        raise UserError("--released needs --peers, the environment in which released code runs")
    dataset = load_dataset(_DATA_DIR.value)
    known = {name: found for name, found in families().items() if found.kind == TRAINED}
    for name in _MODELS.value:
        if name not in known:
            raise UserError(f"--models: no family that trains is called '{name}'; there are {', '.join(known)}")
    timed: dict[str, Timed] = {}
    for name in _MODELS.value or known:
        try:
            timed |= time_system(name, resized(name), dataset)
        except UserError as error:  # a dataset without texts, or without users
            log(f"{name} is left out: {error}")
    peers = _time_peers(dataset, list(timed))
    result = {name: _result(one, peers.get(name)) for name, one in timed.items()}
    print(_table(result))
    device = jax.devices()[0]
    print(
        f"{dataset.catalogue_size:,} items, width {_DIM.value}, sessions of up to {_MAX_LENGTH.value} items, "
        f"{_PREFIXES.value} prefixes a step, {device.platform} ({device.device_kind})"
    )
    if _OUTPUT.value:
        files.write_json(_OUTPUT.value, {"systems": result, "device": device.device_kind})
    return 0


def resized(name: str) -> RunConfig:
    """A family's defaults at the widths, length and batch of the flags."""
    config = family(name).config()
    assert isinstance(config, RunConfig)

    def changed(record: Any) -> Any:
        if isinstance(record, Mapping):
            return {name: changed(part) for name, part in record.items()}
        if not dataclasses.is_dataclass(record) or isinstance(record, type):
            return record
        values = {field.name: changed(getattr(record, field.name)) for field in dataclasses.fields(record)}
        values |= {name: _DIM.value for name in ("dim", "state") if name in values}  # NARM's GRU has a width too
        return dataclasses.replace(record, **values)

    sized: RunConfig = dataclasses.replace(
        changed(config), max_length=_MAX_LENGTH.value, batch_prefixes=_PREFIXES.value
    )
    return sized.check()


def time_system(name: str, config: RunConfig, dataset: Dataset) -> dict[str, Timed]:
    """The steps of a system, by its name, and that of the stage where it has several kinds."""
    system = config.build(catalogue_info(dataset))
    train = dataset.splits["train"]
    context = make_context(dataset, system.reads, config.precision)
    batches = TrainBatches(train, config.batch_prefixes, config.max_length, system.layout, system.reads.users)
    params = {
        network_name: steps.init_params(network, context, jax.random.key(number))
        for number, (network_name, network) in enumerate(system.networks.items())
    }
    params |= fitted_params(system, train)
    kinds = list(dict.fromkeys(stage._replace(epochs=1, uncut=0) for stage in system.stages))
    found = {}
    for stage in kinds:
        title = name if len(kinds) == 1 else f"{name} {'+'.join(stage.trains)}:{stage.objective}"
        log(f"timing {title}")
        found[title] = _time_stage(system, stage, params, context, batches)
    return found


def _time_stage(
    system: System, stage: Stage, params: Mapping[str, Params], context: Context, batches: TrainBatches
) -> Timed:
    """A step, and each of its parts as a program of its own, in turn."""
    count, chunk = next(batches.device_chunks(jax.random.key(0)))
    count = min(count, _STEPS.value)
    batch = jax.tree.map(lambda column: column[0], chunk.batches)
    optimizer = steps.make_optimizer(system.optimizers[stage.optimizer], batches.steps_per_epoch)
    own = jax.tree.map(jnp.copy, {name: params[name] for name in stage.trains})  # a step takes its buffers over
    state = steps.StageState(
        own, steps.init_opt_state(optimizer, system.networks, own), steps.Totals.zeros(system.terms)
    )
    peer = freeze(system.components, dict(stage.peer), params, context) if stage.peer else None
    step = steps.compiled(steps.in_chunks(steps.make_step(system.objectives[stage.objective](stage), optimizer)))
    key = jax.random.key(1)
    prefixes = jnp.sum(chunk.batches.is_target[:count], dtype=jnp.float32)

    def whole() -> Any:
        nonlocal state
        state = state._replace(totals=steps.Totals.zeros(system.terms))
        with jax.transfer_guard("disallow"):  # a step that asked the host for anything would stop here
            for _ in range(count):
                state = jax.block_until_ready(step(state, peer, context, chunk, key))
        return state

    parts = {"step": (whole, count)}
    parts |= {part: (call, 1) for part, call in _parts(system, stage, params, context, batch, optimizer).items()}
    times: dict[str, list[float]] = collections.defaultdict(list)
    for number in range(_ROUNDS.value + 1):
        for part, (call, calls) in parts.items():
            spent = seconds(call) / calls
            if number:  # the first round compiles
                times[part].append(spent)
    medians = {part: statistics.median(values) for part, values in times.items()}
    parameters = sum(leaf.size for name in stage.trains for leaf in jax.tree.leaves(params[name]))
    return Timed(medians, float(prefixes) / count, batches.steps_per_epoch, parameters)


def _parts(
    system: System, stage: Stage, params: Mapping[str, Params], context: Context, batch: SessionBatch, optimizer: Any
) -> dict[str, Callable[[], Any]]:
    """Of the networks that train: their forward and backward pass, the catalogue's, its products alone, and Adam."""
    networks = {name: system.networks[name] for name in stage.trains}
    own = {name: params[name] for name in stage.trains}
    count = len(batch.targets)
    wide = sum(network.dim for network in networks.values())
    items = next(iter(networks.values())).catalogue_size
    queries, table = (
        jax.random.normal(jax.random.key(2), shape, jnp.float32) / wide for shape in ((count, wide), (items, wide))
    )

    def embedded(params: Mapping[str, Params], key: jax.Array) -> jax.Array:
        made = [_embedded(network, params[name], context, batch, key) for name, network in networks.items()]
        return jnp.sum(jnp.stack(made))

    def of_catalogue(queries: jax.Array, table: jax.Array) -> jax.Array:
        losses = sampled_softmax_loss(
            jnp.einsum("pd,pd->p", queries, lookup(table, batch.targets)),
            log_sum_exp(queries, table, WholeCatalogue(batch.targets), items),
        )
        return jnp.sum(losses, where=batch.is_target)

    def products(queries: jax.Array, table: jax.Array, scores: jax.Array) -> tuple[jax.Array, ...]:
        return (
            product(queries, table.T, queries.dtype),
            product(scores, table, queries.dtype),
            product(scores.T, queries, queries.dtype),
        )

    def adam(params: Any, opt_state: Any) -> Any:
        updates, opt_state = optimizer.update(params, opt_state, params)  # a gradient like any other
        return jax.tree.map(jnp.add, params, updates), opt_state

    forwards_and_backwards = jax.jit(jax.value_and_grad(embedded))
    catalogue = jax.jit(jax.value_and_grad(of_catalogue, argnums=(0, 1)))
    unavoidable, update = jax.jit(products), jax.jit(adam)
    opt_state = steps.init_opt_state(optimizer, system.networks, own)
    scores = jnp.zeros((count, items)) + 1e-3
    return {
        "networks": lambda: forwards_and_backwards(own, jax.random.key(3)),
        "catalogue": lambda: catalogue(queries, table),
        "products": lambda: unavoidable(queries, table, scores),
        "adam": lambda: update(own, opt_state),
    }


def _embedded(network: Network, params: Params, context: Context, batch: SessionBatch, key: jax.Array) -> jax.Array:
    """A number whose gradient takes the same way as that of a loss: through session vectors and candidates."""
    table_key, session_key = jax.random.split(key)
    tables = network.item_tables(params, context, table_key)
    queries = network.session_embeddings(params, tables, batch, session_key)
    return jnp.sum(queries.astype(jnp.float32) * 1e-3) + jnp.sum(tables.candidates * 1e-3)


def _time_peers(dataset: Dataset, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """By the name of our system, the seconds of another's step and how many an epoch has."""
    if _PEERS.value is None:
        return {}
    sizes = peer_steps.Sizes(_DIM.value, _MAX_LENGTH.value, _PREFIXES.value, _ROUNDS.value * _STEPS.value)
    environment = pathlib.Path(_PEERS.value)
    found = peer_steps.time_recbole(environment, dataset, names, sizes)
    if _RELEASED.value is not None:
        found |= peer_steps.time_released(environment, pathlib.Path(_RELEASED.value), dataset, names, sizes)
    return found


def _result(timed: Timed, peer: Mapping[str, float] | None) -> dict[str, float]:
    parts = timed.parts
    found: dict[str, float] = {"parameters": timed.parameters}
    found |= {f"{name}_ms": 1e3 * spent for name, spent in parts.items()}
    found["catalogue_ratio"] = parts["catalogue"] / parts["products"]
    found["prefixes_per_s"] = timed.prefixes / parts["step"]
    found["epoch_s"] = timed.steps * parts["step"]
    if peer is not None:
        found["peer_epoch_s"] = peer["step_s"] * peer["steps_per_epoch"]
        found["times_peer"] = found["peer_epoch_s"] / found["epoch_s"]
    return found


def _table(result: Mapping[str, Mapping[str, float]]) -> str:
    head = [
        "system",
        "parameters",
        "step, ms",
        "networks",
        "catalogue",
        "Adam",
        "catalogue / products",
        "prefixes/s",
        "epoch, s",
    ]
    rows = [[*head, "peer's epoch, s", "times as fast"]]
    for name, one in result.items():
        milliseconds = [f"{one[part]:.1f}" for part in ("step_ms", "networks_ms", "catalogue_ms", "adam_ms")]
        rates = [f"{one['catalogue_ratio']:.2f}", f"{one['prefixes_per_s']:,.0f}", f"{one['epoch_s']:.1f}"]
        peer = [f"{one['peer_epoch_s']:.0f}", f"{one['times_peer']:.1f}"] if "times_peer" in one else ["-", "-"]
        rows.append([name, f"{one['parameters']:,}", *milliseconds, *rates, *peer])
    return aligned(rows)


if __name__ == "__main__":
    command_line.run(main)
