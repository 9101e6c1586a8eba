"""Kill -9 at random moments of every command that writes: what is there is whole, what goes on ends in the same bits.

The kills are shared out among the commands. A command is started and killed again and again until it comes through,
then it is compared with one that nobody killed, and the next round begins in a fresh folder.
"""

import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest

from alterrec_jax.data.dataset import load_dataset
from faults.conftest import COUNTS
from tests.entry_points.conftest import ROOT, SMALL
from tests.entry_points.test_interruption import assert_same_run

Words = tuple[str, ...]
Check = Callable[[pathlib.Path], None]
"""Compares what stands in a folder, if anything, with what should."""

SHARE = {"prepare": 0.25, "train": 0.5, "evaluate": 0.125, "export": 0.125}


class Campaign:
    """Kills one command."""

    def __init__(self, words: Callable[[pathlib.Path], Words], environment: dict[str, str], draw: random.Random):
        self._words, self._environment, self._draw = words, environment, draw
        self._longest = 10.0

    def run(self, kills: int, folder: pathlib.Path, between: Check, after: Check, what: str) -> None:
        """Goes on until so many processes were killed."""
        killed = 0
        while killed < kills:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            ended, tries = False, 0
            while not ended:
                # Later tries may take longer: one that is always killed early would never come through.
                ended = self._started(folder, self._draw.uniform(0, self._longest * (1 + tries / 10)), killed < kills)
                if not ended:
                    killed, tries = killed + 1, tries + 1
                    COUNTS[f"killed: {what}"] += 1
                    between(folder)
            after(folder)
            COUNTS[f"came through after its kills, the same to the bit: {what}"] += 1

    def _started(self, folder: pathlib.Path, seconds: float, kill: bool) -> bool:
        """Starts the command; whether it came through before it was killed."""
        process = subprocess.Popen(
            [sys.executable, "-m", *self._words(folder)],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started = time.monotonic()
        if kill:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
        if kill and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return False
        _, stderr = process.communicate(timeout=300)  # nothing hangs
        assert process.returncode == 0 and "Traceback" not in stderr, stderr
        self._longest = min(self._longest, time.monotonic() - started)
        return True


@pytest.fixture
def campaign(
    request: pytest.FixtureRequest, environment: dict[str, str], tmp_path: pathlib.Path
) -> Callable[[str, Callable[[pathlib.Path], Words], Check, Check], None]:
    """Runs the share of the kills that a command gets."""

    def run(what: str, words: Callable[[pathlib.Path], Words], between: Check, after: Check) -> None:
        draw = random.Random(f"{request.config.getoption('--seed')} {what}")
        kills = round(request.config.getoption("--kills") * SHARE[what])
        Campaign(words, environment, draw).run(kills, tmp_path / "hurt", between, after, what)

    return run


def test_preparing_and_encoding(campaign: Callable[..., None], logs: pathlib.Path, dataset: pathlib.Path) -> None:
    def words(folder: pathlib.Path) -> Words:
        made = json.loads((dataset / "manifest.json").read_text())["arguments"]
        named = ("interactions", "items", "session_column", "item_column", "order_column", "text_columns", "split")
        flags = (f"--{name}={made[name]}" for name in named)
        places = (f"--out={folder / 'data'}", f"--cache_dir={folder / 'cache'}")
        return ("data_tools.prepare", "--source=tabular", *flags, *places)

    def between(folder: pathlib.Path) -> None:
        if (folder / "data").exists():
            load_dataset(folder / "data")  # whole, or not there

    def after(folder: pathlib.Path) -> None:
        for file in dataset.iterdir():
            if file.name != "describe.png":
                assert (folder / "data" / file.name).read_bytes() == file.read_bytes(), file.name

    campaign("prepare", words, between, after)


def test_training_and_saving(campaign: Callable[..., None], dataset: pathlib.Path, trained: pathlib.Path) -> None:
    def words(folder: pathlib.Path) -> Words:
        return ("experiments.train", *SMALL, f"--data_dir={dataset}", f"--workdir={folder / 'run'}")

    campaign("train", words, lambda folder: None, lambda folder: assert_same_run(trained, folder / "run", dataset))


def test_evaluating(
    campaign: Callable[..., None], trained: pathlib.Path, tmp_path: pathlib.Path, environment: dict[str, str]
) -> None:
    def words(folder: pathlib.Path) -> Words:
        return ("experiments.evaluate", f"--workdir={trained}", f"--output={folder / 'metrics.json'}")

    subprocess.run([sys.executable, "-m", *words(tmp_path)], cwd=ROOT, env=environment, check=True, capture_output=True)
    wanted = (tmp_path / "metrics.json").read_bytes()

    def between(folder: pathlib.Path) -> None:
        if (folder / "metrics.json").exists():
            assert (folder / "metrics.json").read_bytes() == wanted

    campaign("evaluate", words, between, lambda folder: between(folder) or assert_there(folder / "metrics.json"))


def test_exporting(
    campaign: Callable[..., None], trained: pathlib.Path, tmp_path: pathlib.Path, environment: dict[str, str]
) -> None:
    def words(folder: pathlib.Path) -> Words:
        return ("experiments.export", f"--workdir={trained}", f"--out={folder / 'served'}")

    subprocess.run([sys.executable, "-m", *words(tmp_path)], cwd=ROOT, env=environment, check=True, capture_output=True)
    wanted = tmp_path / "served"

    def between(folder: pathlib.Path) -> None:
        served = folder / "served"
        if not served.exists():
            return
        assert {file.name for file in served.iterdir()} == {file.name for file in wanted.iterdir()}
        vectors = [np.load(one / "item_vectors.npy", allow_pickle=False) for one in (served, wanted)]
        np.testing.assert_array_equal(*vectors)
        for name in ("item_ids.json", "top_items.jax", "session_encoder.jax", "serve.py"):
            assert (served / name).read_bytes() == (wanted / name).read_bytes(), name

    campaign("export", words, between, lambda folder: between(folder) or assert_there(folder / "served"))


def assert_there(path: pathlib.Path) -> None:
    """What a command that came through has written."""
    assert path.exists()
