"""Several processes of one run, each with its own devices: how they find, hear and outlive each other.

They run the same program on the same dataset and workdir. Whatever decides what is computed next must be the same in
all of them, so what one process alone knows (a signal, the time) is agreed upon; the first process alone writes logs.
"""

import contextlib
import faulthandler
import os
import sys
import traceback
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from alterrec_jax.errors import UserError
from alterrec_jax.runtime import console
from alterrec_jax.runtime.command_line import EXIT_ERROR, error_line

_HEARTBEAT_SECONDS = 30  # after which a process that is not heard of is dead
_FINDING_SECONDS = 300
_MESSAGE_BYTES = 2048
_NUMBERS = 1000


def is_main_process() -> bool:
    """Whether this process is the only one, or the one that tells and writes what all of them find."""
    return jax.process_index() == 0


@contextlib.contextmanager
def distributed(coordinator: str | None, processes: int | None, number: int | None, found: bool) -> Iterator[None]:
    """Within it, this process is one of several; where no argument is given, nothing happens.

    A process that fails ends at once, and with it the others, for they cannot go on alone.

    Args:
      coordinator: host:port of the first process.
      processes: how many there are.
      number: this one's, from 0.
      found: whether these are to be found in the environment of a cluster's job (Slurm, Open MPI, Kubernetes, TPU).

    Raises:
      UserError: the arguments do not belong together, there is no such job, or the others are not there.
    """
    given = (coordinator, processes, number)
    if not found and given == (None, None, None):
        yield
        return
    if not found and None in given:
        raise UserError("--coordinator, --processes and --process belong together; --cluster finds all three")
    if coordinator is not None and not coordinator.rpartition(":")[2].isdecimal():
        raise UserError(f"--coordinator={coordinator} names no port; write HOST:PORT")
    # It would swallow SIGTERM, of which `signals` and the system make more.
    jax.config.update("jax_enable_preemption_service", False)
    if number == 0:
        console.log(f"waiting for {processes} processes at {coordinator}, at most {_FINDING_SECONDS} s")
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            number,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            initialization_timeout=_FINDING_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        if found and isinstance(error, ValueError):  # something is missing, or does not belong together
            raise UserError(
                f"--cluster finds no job of Slurm, Open MPI, Kubernetes or Cloud TPU here ({reason.rstrip('.')}); "
                "start the command within one, or name the processes by --coordinator, --processes and --process"
            ) from None
        raise UserError(f"the processes of this run do not find each other: {reason}") from None
    if not is_main_process():
        console.be_silent()
    # Where another process dies, JAX ends this one with a message: a list of what its threads did would hide that.
    faulthandler.disable()
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        # Whoever left in peace would wait for the others, who wait for it.
        _end(error)
    jax.distributed.shutdown()


def _end(error: Exception | KeyboardInterrupt) -> None:
    """Tells why this process cannot go on, and ends it."""
    if isinstance(error, UserError | OSError):
        print(error_line(str(error)), file=sys.stderr)
    elif isinstance(error, KeyboardInterrupt):
        print(error_line("interrupted"), file=sys.stderr)
    elif isinstance(error, jax.errors.JaxRuntimeError):  # out of memory, say, or without the others
        reason = str(error).splitlines()[0][:200]
        said = f"process {jax.process_index()} cannot go on ({reason}); if it lost another one, start all of them again"
        print(error_line(said), file=sys.stderr)
    else:
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_ERROR)


def any_process(*flags: bool) -> tuple[bool, ...]:
    """Of each flag whether some process has it set; all processes must ask together."""
    if jax.process_count() == 1:
        return flags
    everywhere = multihost_utils.process_allgather(np.array(flags))
    return tuple(bool(flag) for flag in np.any(everywhere, axis=0))


def broadcast_from_main(numbers: list[int]) -> list[int]:
    """What the first process has found, at most a thousand numbers of 31 bits; all processes must ask together."""
    if jax.process_count() == 1:
        return numbers
    padded = np.full(_NUMBERS, -1, np.int32)
    padded[: min(len(numbers), _NUMBERS)] = numbers[:_NUMBERS]
    return [int(number) for number in multihost_utils.broadcast_one_to_all(padded) if number >= 0]


def on_main_process(action: Callable[[], object]) -> None:
    """Does something in the first process, while the others wait.

    Raises:
      UserError: it has failed there; in every process.
    """
    message = ""
    if is_main_process():
        try:
            action()
        except (UserError, OSError) as error:
            if jax.process_count() == 1:
                raise
            message = str(error) or type(error).__name__
    if jax.process_count() == 1:
        return
    message_bytes = np.zeros(_MESSAGE_BYTES, np.uint8)
    written = np.frombuffer(message.encode()[:_MESSAGE_BYTES], np.uint8)
    message_bytes[: len(written)] = written
    message = bytes(multihost_utils.broadcast_one_to_all(message_bytes)).rstrip(b"\0").decode(errors="replace")
    if message:
        raise UserError(message)
