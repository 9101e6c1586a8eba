"""Every file of a dataset folder and of a run's checkpoints: cut, emptied, changed, removed, made unreadable."""

import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from alterrec_jax.data.dataset import load_dataset
from alterrec_jax.errors import UserError
from alterrec_jax.sharding.digests import tree_digest
from alterrec_jax.training.checkpoint import read_newest
from faults.conftest import COUNTS
from faults.test_inputs import same_data
from tests.entry_points.conftest import ROOT, SMALL, Command
from tests.entry_points.test_interruption import last_state

# Where one array of a checkpoint is damaged, orbax abandons the reads of the others: on a busy machine, later than we
# wait.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

CHECKPOINTS = pathlib.Path("checkpoints")
# Root may read everything. This takes that right away (PR_CAPBSET_DROP of CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH) and
# becomes the command.
HEEDING_PERMISSIONS = """
import ctypes, os, sys
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def _cut(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _change(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[pathlib.Path], None]] = {
    "cut": _cut,
    "emptied": lambda path: path.write_bytes(b""),
    "changed": _change,
    "removed": lambda path: path.unlink(),
    "lengthened": lambda path: path.write_bytes(path.read_bytes() + b"\0more"),
}


def hurt(original: pathlib.Path, folder: pathlib.Path, damage: str, file: pathlib.Path) -> pathlib.Path:
    """A copy of a folder, one file of which is damaged."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(original, folder)
    DAMAGES[damage](folder / file)
    return folder


def files_of(folder: pathlib.Path) -> list[pathlib.Path]:
    """All files, by their place in the folder."""
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def files_for(damage: str, folder: pathlib.Path) -> list[pathlib.Path]:
    """The files that a damage changes: an empty one cannot be cut, emptied, or changed in its middle."""
    of_empty = damage in ("removed", "lengthened")
    return [file for file in files_of(folder) if of_empty or (folder / file).stat().st_size]


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_dataset_is_silently_wrong(damage: str, dataset: pathlib.Path, tmp_path: pathlib.Path) -> None:
    whole = load_dataset(dataset)
    for file in files_for(damage, dataset):
        folder = hurt(dataset, tmp_path / "hurt", damage, file)
        try:
            same_data(load_dataset(folder), whole)
        except UserError as error:
            assert str(folder) in str(error)
            COUNTS[f"dataset files {damage}: refused"] += 1
        else:
            assert file.name == "describe.png"  # a picture for people
            COUNTS[f"dataset files {damage}: of no account"] += 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_checkpoint_is_silently_wrong(
    damage: str,
    trained: pathlib.Path,
    dataset: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A damaged newest checkpoint is passed over for the one before, or what was damaged is of no account."""
    older, newest = (digest(alone(trained, number, tmp_path / "alone"), dataset) for number in numbers(trained))
    assert older != newest
    for file in files_for(damage, trained / CHECKPOINTS / numbers(trained)[1]):
        folder = hurt(trained, tmp_path / "hurt", damage, CHECKPOINTS / numbers(trained)[1] / file)
        capsys.readouterr()
        found = digest(folder, dataset)
        passed_over = "is damaged and is passed over" in capsys.readouterr().err
        assert found == (older if passed_over else newest), file
        COUNTS[f"checkpoint files {damage}: {'passed over' if passed_over else 'of no account'}"] += 1


def numbers(workdir: pathlib.Path) -> list[str]:
    """The names of a run's checkpoints, the newest last."""
    return sorted((entry.name for entry in (workdir / CHECKPOINTS).iterdir()), key=int)


def alone(workdir: pathlib.Path, number: str, folder: pathlib.Path) -> pathlib.Path:
    """A copy of a run that holds one of its checkpoints."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(workdir, folder)
    for other in numbers(workdir):
        if other != number:
            shutil.rmtree(folder / CHECKPOINTS / other)
    return folder


def digest(workdir: pathlib.Path, dataset: pathlib.Path) -> str:
    """Of every array that a run continues with, and of its best parameters."""
    return tree_digest(last_state(workdir, dataset))


@pytest.mark.parametrize("damage", ["cut", "changed", "removed"])
def test_training_goes_on_from_the_checkpoint_before(
    damage: str, trained: pathlib.Path, dataset: pathlib.Path, command: Command, tmp_path: pathlib.Path
) -> None:
    """The real command, with every file of the newest checkpoint damaged: it ends as the run that nothing hurt."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    newest = folder / CHECKPOINTS / numbers(folder)[-1]
    for file in files_for(damage, newest):
        DAMAGES[damage](newest / file)
    done = command("experiments.train", *SMALL, f"--data_dir={dataset}", f"--workdir={folder}")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    digests = [read_newest(workdir).meta["digests"] for workdir in (folder, trained)]
    assert [digests[0][name] for name in ("state", "best")] == [digests[1][name] for name in ("state", "best")]
    COUNTS[f"whole checkpoints {damage}: trained on from the one before"] += 1


def test_what_may_not_be_read_is_named(
    trained: pathlib.Path, dataset: pathlib.Path, environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    """Files and folders without permission: one line and status 1, or the numbers of a checkpoint that can be read."""
    runs, data = tmp_path / "run", tmp_path / "data"
    shutil.copytree(trained, runs)
    shutil.copytree(dataset, data)
    older = alone(trained, numbers(trained)[0], tmp_path / "older")
    newest = runs / CHECKPOINTS / numbers(runs)[-1]

    def evaluated(workdir: pathlib.Path) -> subprocess.CompletedProcess[str]:
        """What a command prints that heeds permissions."""
        words = ("experiments.evaluate", f"--workdir={workdir}", f"--data_dir={data}", "--resamples=10")
        return _without_privileges(words, environment)

    whole, of_older = evaluated(runs), evaluated(older)
    assert whole.returncode == of_older.returncode == 0, (whole.stderr, of_older.stderr)
    targets = [*(data / file for file in files_of(dataset)), data, newest, runs / CHECKPOINTS, runs]
    targets += [
        newest / "state",
        newest / "best",
        newest / "meta",
        *(path for path in runs.iterdir() if path.is_file()),
    ]
    for target in targets:
        mode = target.stat().st_mode
        target.chmod(0)
        try:
            done = evaluated(runs)
        finally:
            target.chmod(mode)
        assert "Traceback" not in done.stderr, (target, done.stderr)
        if done.returncode == 0:
            passed_over = "is damaged and is passed over" in done.stderr
            assert done.stdout == (of_older if passed_over else whole).stdout, target
            COUNTS[f"unreadable: {'checkpoint passed over' if passed_over else 'done all the same'}"] += 1
        else:
            lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
            assert done.returncode == 1 and len(lines) == 1, (target, done.stderr)
            COUNTS["unreadable: refused"] += 1


def _without_privileges(words: tuple[str, ...], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs a command that heeds permissions even if it is root's."""
    command = [sys.executable, "-c", HEEDING_PERMISSIONS, "-m", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
