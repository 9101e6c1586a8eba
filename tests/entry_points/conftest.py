"""The real commands on small data of the form that a user has: made, prepared and trained once for all tests here."""

import contextlib
import os
import pathlib
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from tests.commands import ROOT, Process, Server

WORDS = ("soap", "brush", "cream", "lotion", "mirror", "comb", "razor", "towel")
COLOURS = ("red", "blue", "green", "white", "black", "pink", "brown")

# Small networks, and epochs long enough to be interrupted in their middle.
SMALL = (
    "--config=experiments/configs/quickstart.py",
    "--config.networks.id.dim=16",
    "--config.networks.text.dim=16",
    "--config.networks.text.mlp_hidden=(17,)",
    "--config.networks.text.layers=1",
    "--config.networks.text.heads=2",
    "--config.mining.k1=5",
    "--config.mining.augment=True",
    "--config.networks.id.weight=0.5",
    "--config.networks.text.weight=0.5",
    "--config.mining.k2=31",
    "--config.max_length=10",
    "--config.batch_prefixes=20",
    "--config.warmup_epochs=1",
    "--config.turn_epochs=2",
    "--config.epochs=5",
    "--config.checkpoint_seconds=1",
)

# Means are compiled in a fraction of the time of Transformers.
MEANS = ("--config.networks.id.encoder=mean", "--config.networks.text.encoder=mean")

Command = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Process]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of every command: encoded texts are kept from one to the next, as compiled programs are."""
    return {**os.environ, "HOME": str(tmp_path_factory.mktemp("cache")), "PYTHONWARNINGS": "default"}


@pytest.fixture(scope="session")
def start(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts `MODULE, FLAGS...` as a process of its own, a fork."""
    with contextlib.closing(Server(environment, tmp_path_factory.mktemp("server"))) as server:
        yield server.start


@pytest.fixture(scope="session")
def command(start: Start) -> Command:
    """Runs `MODULE, FLAGS...` to its end as a process of its own, a fork."""

    def run(module: str, *flags: str, input: str = "") -> subprocess.CompletedProcess[str]:
        process = start(module, *flags)
        stdout, stderr = process.communicate(input, timeout=300)
        assert process.returncode is not None
        return subprocess.CompletedProcess([module, *flags], process.returncode, stdout, stderr)

    return run


@pytest.fixture(scope="session")
def python(environment: dict[str, str]) -> Command:
    """Runs `python -m MODULE FLAGS...` from the root of the project, as a shell does, and compiles as for a user."""
    users = {name: value for name, value in environment.items() if name != "XLA_FLAGS"}

    def run(module: str, *flags: str, input: str = "") -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", module, *flags]
        return subprocess.run(line, cwd=ROOT, env=users, input=input, capture_output=True, text=True, timeout=300)

    return run


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """interactions.csv and items.csv: 2,000 users who like one kind of thing, of 56 items that share a few texts."""
    folder = tmp_path_factory.mktemp("logs")
    draw = random.Random(0)
    items = [f"i{number}" for number in range(56)]
    with open(folder / "items.csv", "w", encoding="utf-8") as file:
        file.write("item_id,title\n")
        for number, item in enumerate(items):
            colour = COLOURS[number % 7] if number % 11 else COLOURS[0]
            file.write(f'{item},"{colour} {WORDS[number // 7]}, 3 oz"\n')
    with open(folder / "interactions.csv", "w", encoding="utf-8") as file:
        file.write("user_id,item_id,position\n")
        for user in range(2000):
            kind, place = draw.randrange(8), draw.randrange(7)
            for position in range(draw.randrange(4, 24) if user % 50 else 40):
                place = (place + draw.choice((1, 1, 1, 2, 3))) % 7
                kind = kind if draw.random() < 0.9 else draw.randrange(8)
                file.write(f"u{user},{items[kind * 7 + place]},{position}\n")
    return folder


@pytest.fixture(scope="session")
def dataset(command: Command, logs: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The dataset folder of those logs, with the real text encoder."""
    return prepare(command, logs, "leave_one_out", tmp_path_factory.mktemp("data") / "small")


def prepare(command: Command, logs: pathlib.Path, split: str, out: pathlib.Path) -> pathlib.Path:
    """Prepares those logs, split by a rule, and returns the folder."""
    done = command(
        "data_tools.prepare",
        "--source=tabular",
        f"--interactions={logs / 'interactions.csv'}",
        f"--items={logs / 'items.csv'}",
        "--session_column=user_id",
        "--item_column=item_id",
        "--order_column=position",
        "--text_columns=title",
        f"--split={split}",
        f"--out={out}",
    )
    assert done.returncode == 0, done.stderr
    assert "interactions" in done.stdout and "catalogue" in done.stdout
    return out


@pytest.fixture(scope="session")
def trained(
    command: Command, dataset: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[pathlib.Path]:
    """The workdir of a run that nothing interrupted."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    done = command("experiments.train", *SMALL, f"--data_dir={dataset}", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    yield workdir


def checkpoints(workdir: pathlib.Path) -> set[str]:
    """The numbers of the whole checkpoints of a run."""
    return {path.name for path in (workdir / "checkpoints").glob("*") if path.name.isdigit()}


def wait_for_checkpoint(process: Process, workdir: pathlib.Path) -> bool:
    """Waits until the process has written a checkpoint that was not there before; False if it ended without."""
    before = checkpoints(workdir)
    while process.poll() is None:
        if checkpoints(workdir) - before:
            return True
        time.sleep(0.02)
    return False
