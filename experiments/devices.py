"""The flags that say on which devices, and as how many processes, a command runs."""

import contextlib
from collections.abc import Iterator

from absl import flags

flags.disclaim_key_flags()  # flags defined here belong to the command that asks for them, and stand in its --help


def define() -> None:
    """Defines the flags."""
    flags.DEFINE_string(
        "mesh",
        "",
        "Devices along each axis, like data:4,model:2. Batches are split over data; item tables, their optimizer "
        "state and scores over model. By default all devices are on data.",
    )
    flags.DEFINE_bool(
        "cluster",
        False,
        "Whether this process is one of several, which JAX finds in the environment of the cluster's job: Slurm, Open "
        "MPI, Kubernetes, Cloud TPU. All of them see the same dataset and workdir.",
    )
    flags.DEFINE_string("coordinator", None, "Without such a cluster: host:port of the first process.")
    flags.DEFINE_integer("processes", None, "Without such a cluster: how many processes there are.", lower_bound=1)
    flags.DEFINE_integer("process", None, "Without such a cluster: the number of this one, from 0.", lower_bound=0)


@contextlib.contextmanager
def used() -> Iterator[None]:
    """Within it, the processes are joined, the mesh of the flags is in use, and compiled programs are kept."""
    from alterrec_jax.runtime import processes
    from alterrec_jax.runtime.compiled_programs import keep_compiled_programs
    from alterrec_jax.sharding import mesh

    keep_compiled_programs()
    given = flags.FLAGS
    with contextlib.ExitStack() as stack:
        stack.enter_context(processes.distributed(given.coordinator, given.processes, given.process, given.cluster))
        stack.enter_context(mesh.used(mesh.make_mesh(given.mesh)))
        yield
