"""Commands as processes of their own that need not import everything anew: forks of a server that has imported it.

A fork is what `python -m MODULE FLAGS...` is after its imports: with arguments, environment, folder and streams of its
own, killed and stopped by signals, ended with a status. The server itself computes nothing, so a fork lacks no thread.
"""

import concurrent.futures
import contextlib
import gc
import importlib
import json
import os
import pathlib
import runpy
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

from alterrec_jax.runtime.compiled_programs import keep_compiled_programs

ROOT = pathlib.Path(__file__).parents[1]
STREAMS = ("stdin", "stdout", "stderr")
# What most commands import sooner or later; none of it defines a flag.
IMPORTED = (
    "alterrec_jax.evaluation.report",
    "alterrec_jax.models.registry",
    "alterrec_jax.models.alterrec",
    "alterrec_jax.serving.evaluate",
    "alterrec_jax.serving.export",
    "alterrec_jax.serving.recommend",
    "alterrec_jax.training.trainer",
    "data_tools.pipeline",
    "jax.export",
    "matplotlib.backends.backend_agg",
    "ml_collections.config_flags",
    "optuna",
    "scipy.stats",
    "usearch.index",
)


class Process:
    """A command that runs: as much of `subprocess.Popen` as the tests use, with texts for streams."""

    def __init__(self, connection: socket.socket, pipes: Mapping[str, IO[str]]):
        self.stdin, self.stdout, self.stderr = (pipes.get(name) for name in STREAMS)
        self.pid, self.returncode = int(connection.recv(32)), None
        with_status = concurrent.futures.ThreadPoolExecutor(1)
        self._status = with_status.submit(_read_status, connection)
        with_status.shutdown(wait=False)

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end, and returns the status."""
        try:
            self.returncode = self._status.result(timeout)
        except TimeoutError:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0) from None
        return self.returncode

    def poll(self) -> int | None:
        """The status, or None while it runs."""
        return self.wait() if self._status.done() else None

    def send_signal(self, number: int) -> None:
        """Sends a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, input: str = "", timeout: float | None = None) -> tuple[str, str]:
        """Sends input, reads both streams to their ends, and waits; a process that takes longer is killed."""
        with concurrent.futures.ThreadPoolExecutor(2) as readers:
            read = [readers.submit(_read, pipe) for pipe in (self.stdout, self.stderr) if pipe]
            if self.stdin:
                _write(self.stdin, input)
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            texts = [one.result() for one in read]
        return (texts.pop(0) if self.stdout else ""), (texts.pop(0) if self.stderr else "")


def _read_status(connection: socket.socket) -> int:
    with connection, connection.makefile() as told:
        return int(told.readline())


def _read(pipe: IO[str]) -> str:
    with pipe:
        return pipe.read()


def _write(pipe: IO[str], text: str) -> None:
    with contextlib.suppress(BrokenPipeError), pipe:  # as `subprocess` has it: who does not read need not be told
        pipe.write(text)


class Server:
    """Starts commands; one for a worker of the tests, with an environment that its commands share."""

    def __init__(self, environment: Mapping[str, str], folder: pathlib.Path):
        self._environment, self._path = dict(environment), folder / "commands.socket"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.commands", self._path],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None and self._process.stdout.readline() == b"ready\n"

    def close(self) -> None:
        """Ends the server; commands that run go on."""
        self._process.terminate()
        self._process.communicate()

    def start(self, module: str, *flags: str, environment: Mapping[str, str] | None = None) -> Process:
        """Starts `python -m MODULE FLAGS...` in the project's root, with pipes for all streams.

        `environment` must not differ from the server's in what JAX and Python read when they are imported.
        """
        pairs = [os.pipe() for _ in STREAMS]
        inside = [pairs[0][0], pairs[1][1], pairs[2][1]]
        outside = [pairs[0][1], pairs[1][0], pairs[2][0]]
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self._path))
        asked = {"argv": [module, *map(str, flags)], "environment": {**(environment or self._environment)}}
        message = json.dumps(asked).encode()
        socket.send_fds(connection, [len(message).to_bytes(8, "big")], inside)
        connection.sendall(message)
        for number in inside:
            os.close(number)
        pipes = {
            name: os.fdopen(number, "w" if name == "stdin" else "r", encoding="utf-8")
            for name, number in zip(STREAMS, outside, strict=True)
        }
        return Process(connection, pipes)


class Asked(NamedTuple):
    """What a fork is to be. Attributes: argv, the module and its flags; environment; streams, the file descriptors."""

    argv: list[str]
    environment: dict[str, str]
    streams: list[int]


def _serve(path: str) -> Asked:
    """Forks for every connection; returns in a fork that is to run, never in the server."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        print("ready", flush=True)
        while True:
            connection, _ = listening.accept()
            length, streams, _, _ = socket.recv_fds(connection, 8, len(STREAMS))
            with connection.makefile("rb") as told:
                asked: dict[str, Any] = json.loads(told.read(int.from_bytes(length, "big")))
            if os.fork() == 0:
                listening.close()
                return _watched(connection, Asked(asked["argv"], asked["environment"], streams))
            connection.close()
            for number in streams:
                os.close(number)


def _watched(connection: socket.socket, asked: Asked) -> Asked:
    """Forks once more, and tells of that fork's number and end, as only a parent can."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    started = os.fork()
    if started == 0:
        connection.close()
        return asked
    for number in (*range(3), *asked.streams):
        os.close(number)
    connection.sendall(f"{started}\n".encode())
    _, status = os.waitpid(started, 0)
    try:
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    finally:
        os._exit(0)


def _become(asked: Asked) -> None:
    """Makes this process what `python -m` makes of a new one."""
    for number, (name, stream) in enumerate(zip(STREAMS, asked.streams, strict=True)):
        os.dup2(stream, number)
        os.close(stream)
        opened = open(number, "w" if number else "r", buffering=1 if name == "stderr" else -1, closefd=False)  # noqa: SIM115
        setattr(sys, name, opened)
        setattr(sys, f"__{name}__", opened)
    os.environ.clear()
    os.environ.update(asked.environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.orig_argv = [sys.executable, "-m", *asked.argv]
    sys.argv = ["-m", *asked.argv[1:]]


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in IMPORTED:
            importlib.import_module(name)
    keep_compiled_programs()
    gc.freeze()  # else a collection in a fork would copy all that was imported
    to_run = _serve(sys.argv[1])
    _become(to_run)
    runpy.run_module(to_run.argv[0], run_name="__main__", alter_sys=True)
