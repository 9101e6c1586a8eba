"""Peak memory of a training step of both networks on a large catalogue, against the tables that it must hold.

python -m benchmarks.memory --items=1000000 --output=FILE.json
"""

import pathlib
import re
import time
from typing import Any

import jax
from absl import flags

from alterrec_jax.contract import CatalogueInfo, Context
from alterrec_jax.data.batches import TrainBatches
from alterrec_jax.hard_negatives import cache
from alterrec_jax.models.alterrec import WINDOW, AlterRecConfig, MiningConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig
from alterrec_jax.runtime import command_line, files
from alterrec_jax.runtime.console import log
from alterrec_jax.runtime.host_memory import keep_freed_memory
from alterrec_jax.runtime.text_table import aligned
from alterrec_jax.scoring.frozen import freeze
from alterrec_jax.training import steps
from benchmarks import synthetic
from benchmarks.programs import stage_of

_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the result; without it only the table is printed.")
_ITEMS = flags.DEFINE_integer("items", 1_000_000, "Items of the catalogue.", lower_bound=100)
_DIM = flags.DEFINE_integer("dim", 64, "Width of both networks.", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch_prefixes", 1024, "Prefixes a step.", lower_bound=1)
_K2 = flags.DEFINE_integer("k2", 20_000, "One past the last rank of the window; its first is 20.", lower_bound=21)
_LENGTH = 50


def main() -> int:
    """Makes steps, prints the table and writes the JSON."""
    keep_freed_memory()
    process = _used()
    items = _ITEMS.value
    config = AlterRecConfig(
        batch_prefixes=_BATCH.value,
        networks={
            "id": IdNetworkConfig(dim=_DIM.value, layers=1),
            "text": VectorNetworkConfig(dim=_DIM.value, layers=1),
        },
        mining=MiningConfig(k1=20, k2=min(_K2.value, items)),
    ).check()
    sessions = synthetic.sessions(items, _BATCH.value, _LENGTH)
    batches = TrainBatches(sessions, config.batch_prefixes, _LENGTH)
    windows = cache.zeros(cache.shapes(len(sessions.items), config.mining.positives))
    ((_, chunk),) = batches.device_chunks(jax.random.key(0))
    system, vectors = config.build(CatalogueInfo(items)), synthetic.text_vectors(items)
    context = Context({"text": vectors}, {})
    optimizers = {name: steps.make_optimizer(part, 1) for name, part in system.optimizers.items()}
    params, opt_states = {}, {}
    for number, (name, network) in enumerate(system.networks.items()):
        params[name] = steps.init_params(network, context, jax.random.key(number))
        opt_states[name] = steps.init_opt_state(optimizers[name], system.networks, {name: params[name]})
    gradients = max(map(_bytes, params.values()))
    tables_bytes = _bytes(params) + _bytes(opt_states) + gradients + vectors.nbytes
    if not _on_device():
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    spent = {}
    for name, peer in (("id", "text"), ("text", "id")):
        stage = stage_of(name, WINDOW, peer)
        frozen = freeze(system.components, dict(stage.peer), params, context)
        train_step = steps.make_step(system.objectives[WINDOW](stage), optimizers[name])
        step = steps.compiled(steps.in_chunks(train_step))
        for _ in range(2):  # the first one compiles
            started = time.perf_counter()
            state = steps.StageState({name: params[name]}, opt_states[name], steps.Totals.zeros(), windows)
            state = jax.block_until_ready(step(state, frozen, context, chunk, jax.random.key(0)))
            params[name], opt_states[name], windows = state.params[name], state.opt_state, state.windows
            spent[name] = time.perf_counter() - started
        log(f"{name}: {spent[name]:.1f} s a step, peak so far {_peak() / 1e9:.2f} GB")
        del frozen, state  # nothing of a stage outlives it
    peak = _peak()
    outcome = {
        "items": items,
        "tables_bytes": tables_bytes,
        "peak_bytes": peak,
        "beyond_tables_bytes": peak - tables_bytes,
        "process_bytes": process,
        "step_s": spent,
    }
    head = ["items", "tables, GB", "peak, GB", "beyond tables, GB", "of it the bare process, GB", "ID step, s"]
    gigabytes = (f"{b / 1e9:.2f}" for b in (tables_bytes, peak, peak - tables_bytes, process))
    row = [f"{items:,}", *gigabytes, *(f"{s:.1f}" for s in spent.values())]
    print(aligned([[*head, "text step, s"], row]))
    if _OUTPUT.value:
        files.write_json(_OUTPUT.value, outcome)
    return 0


def _bytes(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def _on_device() -> dict[str, int]:
    """What the accelerator says of its memory; nothing where there is none."""
    return jax.devices()[0].memory_stats() or {}


def _used() -> int:
    """Bytes held now, by the arrays on the accelerator or else by the process."""
    return _on_device()["bytes_in_use"] if _on_device() else _status("VmRSS")


def _peak() -> int:
    """Bytes held at the most. An accelerator counts from the start of the process."""
    return _on_device()["peak_bytes_in_use"] if _on_device() else _status("VmHWM")


def _status(field: str) -> int:
    """Bytes that the system counts for this process: VmRSS now, VmHWM at the most."""
    (kilobytes,) = re.findall(rf"{field}:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text(encoding="utf-8"))
    return 1024 * int(kilobytes)


if __name__ == "__main__":
    command_line.run(main)
