"""One run by two real processes: they agree, they end together, and whoever comes after goes on where they were."""

import json
import pathlib
import signal
import socket
import time

import pytest

from alterrec_jax.training.checkpoint import read_newest
from tests.commands import Process
from tests.conftest import CLOCKS
from tests.entry_points.conftest import SMALL, Command, Start

# No warm-up, and so two programs instead of four.
RUN = (
    *SMALL,
    "--config.batch_prefixes=200",
    "--config.warmup_epochs=0",
    "--config.epochs=2",
    "--config.checkpoint_steps=20",
)


def environment_of(environment: dict[str, str], devices: int) -> dict[str, str]:
    """With so many virtual devices for each process."""
    return {**environment, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}


def pair(start: Start, environment: dict[str, str], *flags: str) -> list[Process]:
    """Two processes of one command, with two devices each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    joined = (f"--coordinator=localhost:{port}", "--processes=2", "--mesh=data:2,model:2")
    of_two = environment_of(environment, 2)
    return [start(*flags, *joined, f"--process={number}", environment=of_two) for number in range(2)]


def newest(workdir: pathlib.Path) -> int:
    """The number of the newest checkpoint, or -1."""
    return max((int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit()), default=-1)


def train_together(start: Start, environment: dict[str, str], workdir: pathlib.Path, *flags: str) -> list[Process]:
    """Starts two processes that train, and waits until they have saved."""
    before, processes = newest(workdir), pair(start, environment, *flags)
    for _ in range(3000):
        if newest(workdir) > before:
            return processes
        for process in processes:
            assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    raise AssertionError("no checkpoint for five minutes")


def history(workdir: pathlib.Path) -> list[dict[str, float]]:
    """The numbers of each epoch that is done."""
    return [
        {name: value for name, value in record.items() if isinstance(value, float) and name not in CLOCKS}
        for record in read_newest(workdir).meta["run_state"]["history"]
    ]


def test_two_processes_are_stopped_killed_and_continued_by_one(
    dataset: pathlib.Path, environment: dict[str, str], start: Start, command: Command, tmp_path: pathlib.Path
) -> None:
    workdir, alone = tmp_path / "two", tmp_path / "one"
    flags = ("experiments.train", *RUN, f"--data_dir={dataset}", f"--workdir={workdir}")

    # A signal that reaches one of them is heeded by both.
    processes = train_together(start, environment, workdir, *flags)
    processes[1].send_signal(signal.SIGTERM)
    told = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [75, 75], told
    assert "the same command continues" in told[0] and told[1].count("\n") <= 1, "one process tells"

    # One that dies ends the other one.
    for victim in (1, 0):
        processes = train_together(start, environment, workdir, *flags)
        processes[victim].kill()
        started = time.monotonic()
        told = [process.communicate(timeout=120)[1] for process in processes]
        assert processes[1 - victim].returncode not in (0, 75)
        assert time.monotonic() - started < 100
        assert "another task died" in told[1 - victim] or "cannot go on" in told[1 - victim], told[1 - victim]

    # One process on another mesh goes on, and one that never had company comes to the same.
    on_four = start(*flags, "--mesh=model:4", environment=environment_of(environment, 4))
    _, stderr = on_four.communicate(timeout=300)
    assert on_four.returncode == 0 and "continuing at epoch" in stderr, stderr
    whole = command("experiments.train", *RUN, f"--data_dir={dataset}", f"--workdir={alone}")
    assert whole.returncode == 0, whole.stderr
    for found, wanted in zip(history(workdir), history(alone), strict=True):
        assert found == pytest.approx(wanted, rel=0.01, abs=0.005)

    # And evaluates alike, on one device and by two processes.
    results = []
    for number, run in enumerate((workdir, alone)):
        evaluated = command("experiments.evaluate", f"--workdir={run}", f"--output={tmp_path / f'{number}.json'}")
        assert evaluated.returncode == 0, evaluated.stderr
        results.append(json.loads((tmp_path / f"{number}.json").read_text()))
    processes = pair(
        start, environment, "experiments.evaluate", f"--workdir={workdir}", f"--output={tmp_path / '2.json'}"
    )
    told = ["".join(process.communicate(timeout=120)) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert "hits@20" in told[0].lower() and "hits@20" not in told[1].lower()
    assert json.loads((tmp_path / "2.json").read_text()) == results[0]
    for view in ("fused", "id", "text"):
        assert results[0][view]["hits@20"] == pytest.approx(results[1][view]["hits@20"], abs=0.02)


def test_flags_that_do_not_belong_together_are_refused(
    dataset: pathlib.Path, command: Command, tmp_path: pathlib.Path
) -> None:
    flags = (*RUN, f"--data_dir={dataset}", f"--workdir={tmp_path / 'run'}")
    for wrong, said in (
        (("--processes=2",), "belong together"),
        (("--cluster",), "within one, or name the processes by --coordinator"),
        (("--coordinator=localhost", "--processes=1", "--process=0"), "--coordinator=localhost names no port"),
        (("--mesh=data:3",), "--mesh=data:3 takes 3 devices, but there are 1"),
        (("--mesh=rows:1",), "--mesh=rows:1 is no mesh"),
        (("--mesh=data:1,data:1",), "is no mesh"),
    ):
        done = command("experiments.train", *flags, *wrong)
        assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
        assert done.stderr.count("error: ") == 1, done.stderr
        assert not (tmp_path / "run").exists()
