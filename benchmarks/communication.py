"""What the devices of a mesh send one another in a train step: read from compiled programs, beside a formula.

python -m benchmarks.communication --mesh=data:4,model:2 --items=100000 --output=FILE.json

Times are predictions from the rates that the flags state. They know collectives and matrix products, nothing else.
"""

import dataclasses
import math
from typing import Any

import jax
from absl import flags

from alterrec_jax.config import AlterRecConfig
from alterrec_jax.errors import UserError
from alterrec_jax.runtime import command_line, files
from alterrec_jax.runtime.console import progress
from alterrec_jax.runtime.text_table import aligned
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.mesh import AXES
from alterrec_jax.training.stages import Turn
from benchmarks import collectives, settings
from benchmarks.programs import TURNS, compiled_step
from benchmarks.traffic import Traffic, formula, operations, sizes_of, traffic_of

_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the result; without it only the tables are printed.")
_MESH = flags.DEFINE_string("mesh", "data:4,model:2", "Devices along each axis.")
_ITEMS = flags.DEFINE_integer("items", 100_000, "Items of the catalogue.", lower_bound=100)
_PHASES = flags.DEFINE_list("phases", list(TURNS), "Which steps, separated by commas.")
settings.define(dim=64, layers=1, batch_prefixes=512, k2=20_000)
_ROUNDS = flags.DEFINE_integer(
    "rounds",
    20,
    "How often each loop that looks for a border is taken to go round. It was 0 to 22 times on the trained tables of "
    "the quickstart with 500 prefixes at a time, up to 37 with 53; about 96 is the most it can be.",
    lower_bound=0,
)
_LINK = flags.DEFINE_float("link_gbs", 100, "Assumed: gigabytes that a device sends in a second.", lower_bound=1e-9)
_START = flags.DEFINE_float("start_us", 10, "Assumed: microseconds that every collective takes besides.", lower_bound=0)
_RATE = flags.DEFINE_float("tflops", 50, "Assumed: TFLOP/s of a device in matrix products.", lower_bound=1e-9)


def main() -> int:
    """Compiles, prints the tables and writes the JSON."""
    unknown = sorted(set(_PHASES.value) - set(TURNS))
    if unknown:
        raise UserError(f"--phases: there is no {unknown[0]}; there are {', '.join(TURNS)}")
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", math.prod(mesh.named_sizes(_MESH.value).values()))
    config = settings.config(_ITEMS.value, heads=1)
    over = mesh.make_mesh(_MESH.value)
    if over.size == 1:
        raise UserError(f"--mesh={_MESH.value} has a single device, which sends nothing; name more")
    with mesh.used(over):
        result = {name: _measured(TURNS[name], config) for name in progress(_PHASES.value, "phases", unit="phases")}
    _print(result)
    if _OUTPUT.value:
        assumed = {flag.name: flag.value for flag in (_MESH, _ITEMS, _ROUNDS, _LINK, _START, _RATE)}
        files.write_json(_OUTPUT.value, {"phases": result, **assumed, "config": dataclasses.asdict(config)})
    return 0


def _measured(turn: Turn, config: AlterRecConfig) -> dict[str, Any]:
    program, sizes = compiled_step(turn, config, _ITEMS.value), sizes_of(turn, config, _ITEMS.value)
    found, memory = collectives.read(program.as_text() or ""), program.memory_analysis()
    assert memory is not None, "XLA tells it on CPU"
    read, expected = traffic_of(found), formula(turn, sizes)
    runs = [one.times * (_ROUNDS.value if one.searching else 1) for one in found]
    sent = {axis: read[axis].sent(mesh.size(axis), _ROUNDS.value) for axis in AXES}
    return {
        "axes": {
            axis: {
                "sent_bytes": sent[axis],
                "formula_bytes": expected[axis].sent(mesh.size(axis), _ROUNDS.value),
                "searching_bytes": Traffic(0, 0, read[axis].searching).sent(mesh.size(axis), _ROUNDS.value),
                "read": read[axis]._asdict(),
                "formula": expected[axis]._asdict(),
            }
            for axis in AXES
            if mesh.size(axis) > 1
        },
        "collectives": sum(runs),
        "collectives_searching": sum(count for count, one in zip(runs, found, strict=True) if one.searching),
        "arguments_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "predicted_ms": {
            "links": 1e3 * sum(sent.values()) / (1e9 * _LINK.value),
            "starts": 1e-3 * _START.value * sum(runs),
            "products": 1e3 * operations(turn, sizes, config) / (1e12 * _RATE.value),
        },
    }


def _print(result: dict[str, Any]) -> None:
    head = ["phase", "axis", "sent, MB", "by formula, MB", "of it searching, MB"]
    rows = [
        [
            name,
            axis,
            f"{of_axis['sent_bytes'] / 1e6:,.3f}",
            f"{of_axis['formula_bytes'] / 1e6:,.3f}",
            f"{of_axis['searching_bytes'] / 1e6:,.3f}",
        ]
        for name, one in result.items()
        for axis, of_axis in one["axes"].items()
    ]
    print(aligned([head, *rows]))
    head = ["phase", "collectives", "of them searching", "links, ms", "starts, ms", "products, ms", "memory, GB"]
    rows = [
        [
            name,
            f"{one['collectives']:,}",
            f"{one['collectives_searching']:,}",
            *(f"{one['predicted_ms'][part]:.2f}" for part in ("links", "starts", "products")),
            f"{(one['arguments_bytes'] + one['temporary_bytes']) / 1e9:.3f}",
        ]
        for name, one in result.items()
    ]
    print(aligned([head, *rows]))
    print(
        f"of each device and step; {_ITEMS.value:,} items over {_MESH.value}, loops that go round {_ROUNDS.value} times"
    )


if __name__ == "__main__":
    command_line.run(main)
