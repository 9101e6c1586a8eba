"""A disk that fills up, at sizes from nothing to enough: one line, nothing half-written, and the command goes on."""

import os
import pathlib
import subprocess
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from usearch.index import Index

from alterrec_jax.data.dataset import load_dataset
from faults.conftest import COUNTS
from tests.entry_points.conftest import SMALL, Command
from tests.entry_points.test_interruption import assert_same_run

KILOBYTES = (4, 16, 64, 128, 256, 512, 1024, 2048)


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> Iterator[Callable[[int], pathlib.Path]]:
    """A file system of so many kilobytes; asked again, it has another size and keeps what it holds."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def sized(kilobytes: int) -> pathlib.Path:
        options = f"{'remount,' if os.path.ismount(folder) else ''}size={kilobytes}k"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
        if done.returncode:
            pytest.skip("a small file system can be mounted by root only")
        return folder

    yield sized
    if os.path.ismount(folder):
        subprocess.run(["umount", str(folder)], check=True)


def refused(done: subprocess.CompletedProcess[str], what: str) -> bool:
    """Whether a command said in one line that it failed; anything else than that or success is wrong."""
    assert "Traceback" not in done.stderr, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert (done.returncode, len(lines)) in ((0, 0), (1, 1)), done.stderr
    COUNTS[f"full disk: {what} {'refused' if lines else 'fitted'}"] += 1
    return bool(lines)


def test_training(
    disk: Callable[[int], pathlib.Path], command: Command, trained: pathlib.Path, dataset: pathlib.Path
) -> None:
    for kilobytes in KILOBYTES:
        workdir = disk(kilobytes) / "run"
        refused(command("experiments.train", *SMALL, f"--data_dir={dataset}", f"--workdir={workdir}"), "training")
    workdir = disk(64 * 1024) / "run"
    done = command("experiments.train", *SMALL, f"--data_dir={dataset}", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert_same_run(trained, workdir, dataset)


def test_preparing(
    disk: Callable[[int], pathlib.Path], command: Command, logs: pathlib.Path, dataset: pathlib.Path
) -> None:
    for kilobytes in (*KILOBYTES, 64 * 1024):
        out = disk(kilobytes) / "data"
        flags = ("--session_column=user_id", "--item_column=item_id", "--order_column=position", "--text_columns=title")
        files = (f"--interactions={logs / 'interactions.csv'}", f"--items={logs / 'items.csv'}")
        done = command(
            "data_tools.prepare", "--source=tabular", *files, *flags, "--split=leave_one_out", f"--out={out}",
            f"--cache_dir={out.parent / 'cache'}",
        )  # fmt: skip
        if refused(done, "preparing"):
            assert not out.exists()
    assert load_dataset(out).fingerprint == load_dataset(dataset).fingerprint


@pytest.mark.parametrize("name", ["evaluate", "export", "recommend"])
def test_what_reads_a_run(
    name: str, disk: Callable[[int], pathlib.Path], command: Command, trained: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Its output is whole or not there."""
    for kilobytes in (4, 16, 64, 128, 256, 512, 1024):
        out = disk(kilobytes) / "out"
        flag = {"evaluate": f"--output={out}", "export": f"--out={out}", "recommend": f"--output={out}"}[name]
        sessions = '{"session": ["i3", "i5"]}\n' * 400
        done = command(f"experiments.{name}", f"--workdir={trained}", flag, **{"input": sessions})
        assert out.exists() != refused(done, name)
        assert [path.name for path in out.parent.iterdir()] in ([], ["out"])  # nothing half-written is left
        if out.exists():
            break
    assert out.exists()
    if name == "export":  # the largest file, and the last to be written but one
        index, vectors = (
            Index.restore(str(out / "items.usearch")),
            np.load(out / "item_vectors.npy", allow_pickle=False),
        )
        np.testing.assert_array_equal(np.stack([index.get(item) for item in range(len(vectors))]), vectors)
