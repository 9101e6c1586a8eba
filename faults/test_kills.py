"""Kill -9 at random moments of every command that writes: what is there is whole, what goes on ends in the same bits.

The kills are shared out among the commands. A command is started and killed again and again until it comes through,
then it is compared with one that nobody killed, and the next round begins in a fresh folder.
"""

import collections
import json
import math
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from usearch.index import Index

from alterrec_jax.data.dataset import load_dataset
from faults.conftest import COUNTS
from tests.entry_points.conftest import ROOT, SMALL
from tests.entry_points.test_interruption import assert_same_run

Words = tuple[str, ...]
Check = Callable[[pathlib.Path], None]
"""Compares what stands in a folder, if anything, with what should."""

SHARE = {"prepare": 0.25, "train": 0.5, "evaluate": 0.125, "export": 0.125}
_MANY = 20  # so many kills of a command should fall into each of its phases


class Command(NamedTuple):
    """What is killed.

    Attributes:
      name: of `SHARE`.
      words: the command, given the folder that it writes to.
      phase: how far it has come, by what stands in the folder.
      phases: all that `phase` may say; a kill should fall into each.
      check: of what stands in the folder after a kill.
      check_end: of what stands there in the end.
    """

    name: str
    words: Callable[[pathlib.Path], Words]
    phase: Callable[[pathlib.Path], str]
    phases: tuple[str, ...]
    check: Check
    check_end: Check


class Campaign:
    """Kills one command, so many times in all."""

    def __init__(self, command: Command, kills: int, environment: dict[str, str], draw: random.Random):
        self._command, self._kills, self._environment, self._draw = command, kills, environment, draw
        self._killed: collections.Counter[str] = collections.Counter()

    def run(self, folder: pathlib.Path) -> None:
        """Goes on until all are killed, beginning anew whenever the command has come through."""
        self._fresh(folder)
        whole = self._started(folder, None)  # what nobody kills tells how long it takes
        assert whole is not None
        while self._killed.total() < self._kills:
            self._fresh(folder)
            tries = 0
            # Later tries may take longer: one that is always killed early would never come through.
            while self._started(folder, self._draw.uniform(0, whole * (1 + tries / 10))) is None:
                tries += 1
                phase = self._command.phase(folder)
                self._killed[phase] += 1
                COUNTS[f"killed: {self._command.name}, {phase}"] += 1
                self._command.check(folder)
            self._command.check_end(folder)
            if tries:
                COUNTS[f"came through after kills, as if there had been none: {self._command.name}"] += 1
        if self._kills >= _MANY:
            assert set(self._killed) >= set(self._command.phases), self._killed

    def _fresh(self, folder: pathlib.Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()

    def _started(self, folder: pathlib.Path, seconds: float | None) -> float | None:
        """Starts the command, and kills it after some seconds if they are given and it still runs then.

        Returns:
          How long it took, or None if it was killed.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", *self._command.words(folder)],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started = time.monotonic()
        try:
            _, stderr = process.communicate(timeout=300 if seconds is None else seconds)  # nothing hangs
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            assert seconds is not None, "the command hangs"
            return None
        assert process.returncode == 0 and "Traceback" not in stderr, stderr
        return time.monotonic() - started


@pytest.fixture
def campaign(
    request: pytest.FixtureRequest, environment: dict[str, str], tmp_path: pathlib.Path
) -> Callable[[Command], None]:
    """Gives a command its share of the kills."""

    def run(command: Command) -> None:
        draw = random.Random(f"{request.config.getoption('--seed')} {command.name}")
        kills = math.ceil(request.config.getoption("--kills") * SHARE[command.name])
        Campaign(command, kills, environment, draw).run(tmp_path / "hurt")

    return run


def test_preparing_and_encoding(campaign: Callable[[Command], None], logs: pathlib.Path, dataset: pathlib.Path) -> None:
    def words(folder: pathlib.Path) -> Words:
        made = json.loads((dataset / "manifest.json").read_text())["arguments"]
        named = ("interactions", "items", "session_column", "item_column", "order_column", "text_columns", "split")
        flags = (f"--{name}={made[name]}" for name in named)
        places = (f"--out={folder / 'data'}", f"--cache_dir={folder / 'cache'}")
        return ("data_tools.prepare", "--source=tabular", *flags, *places)

    def phase(folder: pathlib.Path) -> str:
        return "encoding and writing" if (folder / "cache").exists() else "reading"

    def check(folder: pathlib.Path) -> None:
        if (folder / "data").exists():
            load_dataset(folder / "data")  # whole, or not there

    def check_end(folder: pathlib.Path) -> None:
        for file in dataset.rglob("*.*"):
            if file.name != "describe.png":
                written = folder / "data" / file.relative_to(dataset)
                assert written.read_bytes() == file.read_bytes(), file.name

    campaign(Command("prepare", words, phase, ("reading", "encoding and writing"), check, check_end))


def test_training_and_saving(campaign: Callable[[Command], None], dataset: pathlib.Path, trained: pathlib.Path) -> None:
    def words(folder: pathlib.Path) -> Words:
        return ("experiments.train", *SMALL, f"--data_dir={dataset}", f"--workdir={folder / 'run'}")

    def phase(folder: pathlib.Path) -> str:
        entries = [entry.name for entry in (folder / "run" / "checkpoints").glob("*")]
        if any(not name.isdigit() for name in entries):
            return "while saving"
        return "after a checkpoint" if entries else "before the first checkpoint"

    def check_end(folder: pathlib.Path) -> None:
        assert_same_run(trained, folder / "run", dataset)

    # A save takes a few milliseconds here: that a kill falls into one is counted, and not asked for.
    phases = ("before the first checkpoint", "after a checkpoint")
    campaign(Command("train", words, phase, phases, lambda folder: None, check_end))


def reading_a_run(
    name: str, flags: Callable[[pathlib.Path], Words], written: str, same: Callable[[pathlib.Path], None]
) -> Command:
    """A command that reads a run and writes one thing, which is there whole or not at all."""

    def check(folder: pathlib.Path) -> None:
        if (folder / written).exists():
            same(folder / written)

    def check_end(folder: pathlib.Path) -> None:
        same(folder / written)

    def phase(folder: pathlib.Path) -> str:
        return "at any time"

    return Command(
        name, lambda folder: (f"experiments.{name}", *flags(folder)), phase, ("at any time",), check, check_end
    )


def test_evaluating(
    campaign: Callable[[Command], None], trained: pathlib.Path, tmp_path: pathlib.Path, environment: dict[str, str]
) -> None:
    def flags(folder: pathlib.Path) -> Words:
        return (f"--workdir={trained}", f"--output={folder / 'metrics.json'}")

    done_once("experiments.evaluate", flags(tmp_path), environment)
    wanted = (tmp_path / "metrics.json").read_bytes()

    def same(path: pathlib.Path) -> None:
        assert path.read_bytes() == wanted

    campaign(reading_a_run("evaluate", flags, "metrics.json", same))


def test_exporting(
    campaign: Callable[[Command], None], trained: pathlib.Path, tmp_path: pathlib.Path, environment: dict[str, str]
) -> None:
    def flags(folder: pathlib.Path) -> Words:
        return (f"--workdir={trained}", f"--out={folder / 'served'}")

    done_once("experiments.export", flags(tmp_path), environment)
    wanted = tmp_path / "served"
    may_differ = ("export.json", "items.usearch")  # in times, and in the order in which threads add items

    def same(path: pathlib.Path) -> None:
        assert {file.name for file in path.iterdir()} == {file.name for file in wanted.iterdir()}
        for file in wanted.iterdir():
            assert file.name in may_differ or (path / file.name).read_bytes() == file.read_bytes(), file.name
        about = json.loads((path / "export.json").read_text())
        index = Index.restore(str(path / "items.usearch"))
        vectors = np.load(path / "item_vectors.npy", allow_pickle=False)
        assert len(index) == about["items"] == len(vectors)
        np.testing.assert_array_equal(np.stack([index.get(item) for item in range(len(vectors))]), vectors)

    campaign(reading_a_run("export", flags, "served", same))


def done_once(module: str, flags: Words, environment: dict[str, str]) -> None:
    """What nobody kills."""
    subprocess.run([sys.executable, "-m", module, *flags], cwd=ROOT, env=environment, check=True, capture_output=True)
