"""Train steps compiled for a chip that need not be there: whether they compile, and what memory they take.

python -m benchmarks.compile_only --chip=h200 --items=1400000 --precision=bfloat16
python -m benchmarks.compile_only --chip=v5e:2x2 --mesh=model:4 --items=1400000

Wants that chip's compiler: `pip install "jax[cuda12]"` for GPUs, `pip install "jax[tpu]"` for TPUs.
"""

import math
import os
import pathlib
import re
import time
from collections.abc import Sequence
from typing import Any

import jax
from absl import flags
from jax.experimental import topologies

from alterrec_jax.config import PRECISIONS, to_json
from alterrec_jax.errors import UserError
from alterrec_jax.runtime import command_line, files
from alterrec_jax.runtime.console import progress
from alterrec_jax.runtime.text_table import aligned
from alterrec_jax.sharding import mesh
from benchmarks import settings
from benchmarks.programs import PROGRAMS, compiled_step, row_sorts

_CHIPS = pathlib.Path(__file__).parent / "chips"
_GPUS = sorted(path.stem for path in _CHIPS.glob("*.txtpb"))

_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the result; without it only the table is printed.")
_PROGRAMS = flags.DEFINE_string("programs", None, "Folder for the programs as the compiler left them, as HLO text.")
_CHIP = flags.DEFINE_string(
    "chip",
    "cpu",
    f"What to compile for: cpu, {', '.join(_GPUS)}, or a TPU topology by its name, like v5e:2x2 (four chips).",
)
_MESH = flags.DEFINE_string("mesh", "data:1", "Devices along each axis.")
_ITEMS = flags.DEFINE_integer("items", 40_000, "Items of the catalogue.", lower_bound=100)
_PHASES = flags.DEFINE_list("phases", list(PROGRAMS), "Which steps, separated by commas.")
_PRECISION = flags.DEFINE_enum("precision", "float32", PRECISIONS, "Of matrix products and text vectors.")
_KERNELS = flags.DEFINE_bool("gpu_kernels", False, "Whether blocks of items are left to our kernels for NVIDIA GPUs.")
settings.define(dim=300, layers=2, batch_prefixes=1024, k2=6000)


def main() -> int:
    """Compiles, prints the table and writes the JSON."""
    unknown = sorted(set(_PHASES.value) - set(PROGRAMS))
    if unknown:
        raise UserError(f"--phases: there is no {unknown[0]}; there are {', '.join(PROGRAMS)}")
    config = settings.config(_ITEMS.value, _PRECISION.value, _KERNELS.value)
    wanted = math.prod(mesh.named_sizes(_MESH.value).values())
    if _CHIP.value == "cpu":
        jax.config.update("jax_num_cpu_devices", wanted)
    jax.config.update("jax_platforms", "cpu")  # what is not compiled ahead runs here
    over = mesh.make_mesh(_MESH.value, _devices(_CHIP.value, wanted))
    result: dict[str, dict[str, Any]] = {}
    with jax.set_mesh(over):  # of a single device too: programs are compiled for the mesh's devices
        for name in progress(_PHASES.value, "phases", unit="phases"):
            started = time.perf_counter()
            try:
                program = compiled_step(name, config, _ITEMS.value)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                result[name] = {"refused": str(error).splitlines()[0]}
                continue
            result[name] = _facts(program) | {"compile_s": time.perf_counter() - started}
            if _PROGRAMS.value:
                folder = pathlib.Path(_PROGRAMS.value)
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{re.sub(r'[^a-z]+', '_', name).strip('_')}.hlo").write_text(program.as_text() or "")
    head = ["phase", "compiled in, s", "arguments, GB", "temporary, GB", "sorts of score rows"]
    rows = [
        [
            name,
            f"{one['compile_s']:.0f}",
            f"{one['arguments_bytes'] / 1e9:.3f}",
            f"{one['temporary_bytes'] / 1e9:.3f}",
            str(one["row_sorts"]),
        ]
        for name, one in result.items()
        if "refused" not in one
    ]
    print(aligned([head, *rows]))
    for name, one in result.items():
        if "refused" in one:
            print(f"{name} is refused: {one['refused']}")
    kind = over.devices.flat[0].device_kind
    print(f"of each device; {_ITEMS.value:,} items over {_MESH.value}, {_PRECISION.value}, for {kind}: nothing ran")
    if _OUTPUT.value:
        about = {"device": kind, "mesh": _MESH.value, "items": _ITEMS.value, "config": to_json(config)}
        files.write_json(_OUTPUT.value, {"phases": result, **about})
    return 0


def _devices(chip: str, count: int) -> Sequence[jax.Device]:
    """So many devices of a kind, which need not be there."""
    if chip == "cpu":
        return jax.devices()
    try:
        if chip in _GPUS:
            described = (_CHIPS / f"{chip}.txtpb").read_text()
            shape = f"1x1x{count}"
            # Without a GPU to try kernels on, XLA takes some of its own for products that they cannot make.
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_enable_triton_gemm=false"
            found = topologies.get_topology_desc(shape, "cuda", target_config=described, topology=shape).devices
        else:
            os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # or it looks for the cloud's server
            found = topologies.get_topology_desc(chip, "tpu").devices
    except (RuntimeError, NotImplementedError) as error:
        extra = "cuda12" if chip in _GPUS else "tpu"
        raise UserError(
            f"--chip={chip}: JAX has no compiler for it here, or knows no such chip "
            f"({str(error).splitlines()[0]}); GPUs are {', '.join(_GPUS)}, TPUs are named like v5e:2x2; for the "
            f'compiler: pip install "jax[{extra}]=={jax.__version__}"'
        ) from error
    if len(found) < count:
        raise UserError(f"--mesh={_MESH.value} takes {count} devices, but --chip={chip} has {len(found)}")
    return found[:count]


def _facts(program: jax.stages.Compiled) -> dict[str, Any]:
    """What a program takes on each device, and how often it sorts rows of scores."""
    memory = program.memory_analysis()
    assert memory is not None, "all of these compilers tell it"
    return {
        "arguments_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "row_sorts": row_sorts(program.as_text() or ""),
    }


if __name__ == "__main__":
    command_line.run(main)
