"""Peak memory of a training step of both networks on a large catalogue, against the tables that it must hold.

python -m benchmarks.memory --items=1000000 --output=FILE.json
"""

import pathlib
import re
import time

import jax
from absl import flags
from alterrec_jax.training.stages import WINDOW, Turn

from alterrec_jax.config import AlterRecConfig, MiningConfig, NetworkConfig, TextNetworkConfig
from alterrec_jax.data.batches import TrainBatches
from alterrec_jax.hard_negatives.cache import shapes_for, zeros
from alterrec_jax.models.alterrec import build_networks
from alterrec_jax.runtime import command_line, files
from alterrec_jax.runtime.console import log
from alterrec_jax.runtime.host_memory import keep_freed_memory
from alterrec_jax.runtime.text_table import aligned
from alterrec_jax.training import steps
from benchmarks import synthetic

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
        id=NetworkConfig(dim=_DIM.value, layers=1),
        text=TextNetworkConfig(dim=_DIM.value, layers=1),
        mining=MiningConfig(k1=20, k2=min(_K2.value, items)),
    ).check()
    sessions = synthetic.sessions(items, _BATCH.value, _LENGTH)
    batches = TrainBatches(sessions, config.batch_prefixes, _LENGTH)
    windows = zeros(shapes_for(config, len(sessions.items)))
    ((_, group),) = batches.groups(jax.random.key(0))
    networks = build_networks(config, items)
    vectors = synthetic.text_vectors(items)
    features = {"id": None, "text": vectors}
    optimizers = {name: steps.make_optimizer(part, 1) for name, part in (("id", config.id), ("text", config.text))}
    states = {
        name: steps.init_state(network, optimizers[name], features[name], jax.random.key(number))
        for number, (name, network) in enumerate(networks.items())
    }
    kept = {name: sum(leaf.nbytes for leaf in jax.tree.leaves(state)) for name, state in states.items()}
    gradients = max(sum(leaf.nbytes for leaf in jax.tree.leaves(state.params)) for state in states.values())
    tables_bytes = sum(kept.values()) + gradients + vectors.nbytes
    if not _on_device():
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    spent = {}
    for name, peer in (("id", "text"), ("text", "id")):
        frozen = steps.FrozenPeer.of(networks[peer], states[peer].params, features[peer])
        turn, window = Turn(name, WINDOW, peer), (20, config.mining.k2)
        train_step = steps.make_step(turn, networks, optimizers[name], config.mining, window)
        step = steps.compiled(steps.in_groups(train_step))
        for _ in range(2):  # the first one compiles
            started = time.perf_counter()
            state = steps.start_epoch(states[name])._replace(windows=windows)
            state = jax.block_until_ready(step(state, frozen, features[name], group, jax.random.key(0)))
            states[name], windows = state._replace(windows=None), state.windows
            spent[name] = time.perf_counter() - started
        log(f"{name}: {spent[name]:.1f} s a step, peak so far {_peak() / 1e9:.2f} GB")
        del frozen, state  # nothing of a turn outlives it
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
