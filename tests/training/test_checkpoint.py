"""Checkpoints come back bit by bit, or are passed over with a word: never other arrays in silence."""

import contextlib
import functools
import gc
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from alterrec_jax.errors import UserError
from alterrec_jax.sharding.digests import tree_digest
from alterrec_jax.training import checkpoint
from alterrec_jax.training.checkpoint import Checkpoint, CheckpointStore, read_newest
from alterrec_jax.training.loop import RunArrays
from alterrec_jax.training.steps import Totals

ROOT = pathlib.Path(__file__).parents[2]

# Where one array of a checkpoint is damaged, orbax abandons the reads of the others.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module", autouse=True)
def _collect_abandoned_reads() -> Iterator[None]:
    """So that they are not collected, and warned of, in another file's tests."""
    yield
    gc.collect()


def state_of(number: int) -> dict[str, Any]:
    """The arrays of a run of two networks, different for every number; odd bits included."""
    rng = np.random.default_rng(number)
    network = {
        "items": {"table": jnp.asarray(rng.normal(size=(7, 3)), jnp.float32).at[0, 0].set(-0.0)},
        "encoder": {},
    }
    params = {"id": network, "text": {"kernel": jnp.full((2, 5), 1e-40 * number)}}
    opt_states = {"id": {"count": jnp.asarray(number, jnp.int32), "mu": network}}
    return RunArrays(params, opt_states, Totals.zeros(("next_item",)), None).as_tree()


def checkpoint_of(number: int) -> Checkpoint:
    """A whole checkpoint."""
    best = jax.tree.map(np.asarray, state_of(number + 100)["params"])
    return Checkpoint(state_of(number), best, {"run_state": {"epoch": number}, "note": "größer"})


def digests(found: Checkpoint) -> tuple[str, str]:
    return tree_digest(found.state), tree_digest(found.best)


DIGESTS = {number: digests(checkpoint_of(number)) for number in (0, 1, 2, 3)}


def save(workdir: pathlib.Path, *numbers: int) -> None:
    store = CheckpointStore(workdir, kept=2)
    for number in numbers:
        store.save(number, checkpoint_of(number))
    store.close()


def restore(workdir: pathlib.Path) -> Checkpoint | None:
    """What a run would continue from."""
    store = CheckpointStore(workdir, late_seconds=0.01)
    try:
        return store.restore_newest(state_of(0), checkpoint_of(0).best)
    finally:
        store.close()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A workdir with checkpoints 1 and 2; not to be changed."""
    workdir = tmp_path_factory.mktemp("saved")
    save(workdir, 1, 2)
    return workdir


@pytest.fixture
def workdir(saved: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of it."""
    shutil.copytree(saved, tmp_path / "run")
    return tmp_path / "run"


def test_what_was_saved_is_restored_bit_by_bit(saved: pathlib.Path) -> None:
    found = restore(saved)
    assert found is not None
    expected = checkpoint_of(2)
    assert jax.tree.structure(found.state) == jax.tree.structure(expected.state)
    for got, wanted in zip(jax.tree.leaves(found[:2]), jax.tree.leaves(expected[:2]), strict=True):
        assert got.dtype == wanted.dtype
        assert np.asarray(got).tobytes() == np.asarray(wanted).tobytes()
    assert (found.meta["run_state"], found.meta["note"]) == ({"epoch": 2}, "größer")


def test_parts_can_be_read_alone(saved: pathlib.Path) -> None:
    assert read_newest(saved).meta["run_state"] == {"epoch": 2}
    best = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), checkpoint_of(0).best)
    found = read_newest(saved, best)
    assert found.state is None and tree_digest(found.best) == DIGESTS[2][1]


def test_as_many_are_kept_as_asked_for_and_newer_ones_forgotten(tmp_path: pathlib.Path) -> None:
    save(tmp_path, 0, 1, 3)
    folder = tmp_path / "checkpoints"
    assert sorted(entry.name for entry in folder.iterdir()) == ["1", "3"]
    store = CheckpointStore(tmp_path, kept=1)
    store.forget_after(1)
    store.save(2, checkpoint_of(2))
    store.save(2, checkpoint_of(0))  # of the same place: it is saved already
    store.close()
    assert [entry.name for entry in folder.iterdir()] == ["2"]
    found = restore(tmp_path)
    assert found is not None and digests(found) == DIGESTS[2]


def test_no_checkpoint_is_none_to_a_run_and_an_error_to_a_reader(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="holds no checkpoint; train one"):
        read_newest(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    assert restore(tmp_path) is None
    with pytest.raises(UserError, match="holds no checkpoint; train one"):
        read_newest(tmp_path)


def flip(path: pathlib.Path) -> None:
    """Changes one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))


def truncate(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def files_of(saved: pathlib.Path, number: int) -> list[pathlib.Path]:
    """The files of a checkpoint, relative to the workdir."""
    folder = saved / "checkpoints" / str(number)
    return sorted(file.relative_to(saved) for file in folder.rglob("*") if file.is_file() and file.stat().st_size)


@pytest.mark.parametrize("damage", [flip, truncate, pathlib.Path.unlink])
def test_a_damaged_newest_checkpoint_gives_way_or_is_whole(
    damage: Callable[[pathlib.Path], None],
    saved: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    passed_over = []
    for count, file in enumerate(files_of(saved, 2)):
        workdir = tmp_path / str(count)
        shutil.copytree(saved, workdir)
        damage(workdir / file)
        found = restore(workdir)
        told = capsys.readouterr().err
        assert found is not None, file
        if found.meta["run_state"]["epoch"] == 2:
            assert digests(found) == DIGESTS[2], file
        else:
            assert found.meta["run_state"]["epoch"] == 1 and digests(found) == DIGESTS[1], file
            assert f"{workdir / 'checkpoints' / '2'} is damaged" in told, file
            passed_over.append(file)
    # The arrays and the record are most of the files; the rest orbax can do without.
    assert len(passed_over) >= 3


@pytest.mark.parametrize("item", ["state", "best", "meta"])
def test_a_checkpoint_without_one_of_its_parts_gives_way(
    item: str, workdir: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(workdir / "checkpoints" / "2" / item)
    found = restore(workdir)
    assert found is not None and digests(found) == DIGESTS[1]
    assert "damaged" in capsys.readouterr().err


def test_arrays_of_another_checkpoint_give_way(workdir: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = workdir / "checkpoints"
    shutil.rmtree(folder / "2" / "state")
    shutil.copytree(folder / "1" / "state", folder / "2" / "state")
    found = restore(workdir)
    assert found is not None and digests(found) == DIGESTS[1]
    assert "its state differs from its digest" in capsys.readouterr().err


def test_a_changed_record_gives_way(workdir: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = 0
    for file in (workdir / "checkpoints" / "2" / "meta").rglob("*"):
        if file.is_file() and '"epoch": 2' in (text := file.read_text()):
            file.write_text(text.replace('"epoch": 2', '"epoch": 9'))
            changed += 1
    assert changed == 1
    found = restore(workdir)
    assert found is not None and found.meta["run_state"] == {"epoch": 1}
    assert "its record differs from its digest" in capsys.readouterr().err


def test_readers_pass_over_a_damaged_best(workdir: pathlib.Path) -> None:
    shutil.rmtree(workdir / "checkpoints" / "2" / "best")
    assert tree_digest(read_newest(workdir, checkpoint_of(0).best).best) == DIGESTS[1][1]


def test_a_half_written_checkpoint_is_no_checkpoint(workdir: pathlib.Path) -> None:
    folder = workdir / "checkpoints"
    (folder / "2").rename(folder / "3.orbax-checkpoint-tmp")
    found = restore(workdir)
    assert found is not None and digests(found) == DIGESTS[1]
    until = time.monotonic() + 20  # orbax clears away what is half-written in a thread of its own
    while [entry.name for entry in folder.iterdir()] != ["1"] and time.monotonic() < until:
        time.sleep(0.05)
    assert [entry.name for entry in folder.iterdir()] == ["1"]


def test_nothing_intact_is_an_error_with_the_remedy(workdir: pathlib.Path) -> None:
    for number in (1, 2):
        for file in files_of(workdir, number):
            truncate(workdir / file)
    with pytest.raises(UserError, match="no checkpoint in .* is intact; remove that folder"):
        restore(workdir)
    with pytest.raises(UserError, match="no checkpoint in .* is intact; train in another workdir"):
        read_newest(workdir)


@pytest.mark.parametrize(
    "other_shape", [lambda shape: (*shape, 2), lambda shape: shape[1:], lambda shape: (*shape[:1], 9, *shape[2:])]
)
def test_other_shapes_are_not_restored(
    other_shape: Callable[[tuple[int, ...]], tuple[int, ...]], saved: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = jax.tree.map(lambda leaf: jnp.zeros(other_shape(leaf.shape), leaf.dtype), checkpoint_of(0).best)
    with contextlib.closing(CheckpointStore(saved)) as store, pytest.raises(UserError, match="no checkpoint .* intact"):
        store.restore_newest(state_of(0), best)
    assert capsys.readouterr().err.count("is damaged and is passed over") == 2


def table_of(rows: int) -> dict[str, jax.Array]:
    """A table of 7 rows, and rows of zeros up to so many."""
    table = jax.random.normal(jax.random.key(0), (7, 3))
    return {"table": jnp.concatenate([table, jnp.zeros((rows - 7, 3))])}


@pytest.mark.parametrize("rows", [7, 8, 12])
def test_a_table_may_be_padded_otherwise_than_it_was(rows: int, tmp_path: pathlib.Path) -> None:
    with contextlib.closing(CheckpointStore(tmp_path)) as store:
        store.save(1, Checkpoint({}, table_of(8), {}))
    found = read_newest(tmp_path, table_of(rows)).best
    np.testing.assert_array_equal(found["table"], table_of(rows)["table"])
    assert tree_digest(found) == tree_digest(table_of(8))
    with pytest.raises(UserError, match="no checkpoint in .* is intact"):  # a row that is not of zeros would be lost
        read_newest(tmp_path, {"table": jnp.zeros((6, 3))})


ELSEWHERE = """
import sys, jax
from alterrec_jax.training.checkpoint import Checkpoint, CheckpointStore, read_newest
from tests.training.test_checkpoint import table_of
def lying(rows, shape):
    sharding = jax.NamedSharding(jax.make_mesh(shape, ("x", "y")), jax.P("x", None))
    return jax.tree.map(lambda leaf: jax.device_put(leaf, sharding), table_of(rows))
store = CheckpointStore(sys.argv[1])
store.save(1, Checkpoint({}, lying(8, (8, 1)), {}))
store.close()
template = lying(12, (4, 2))
found = read_newest(sys.argv[1], template).best
assert found["table"].sharding == template["table"].sharding
assert (found["table"] == table_of(12)["table"]).all()
"""


def test_a_checkpoint_of_many_devices_is_restored_on_other_ones(tmp_path: pathlib.Path) -> None:
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for table in (table_of(7), jax.eval_shape(lambda: table_of(7))):
        found = read_newest(tmp_path, table).best
        np.testing.assert_array_equal(found["table"], table_of(7)["table"])


def test_another_format_version_is_refused(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT_VERSION", 99)
    save(tmp_path, 1)
    monkeypatch.undo()
    with pytest.raises(UserError, match="format version 99, this program reads 4; train again in another workdir"):
        restore(tmp_path)


def test_reading_leaves_what_a_run_is_writing(saved: pathlib.Path, tmp_path: pathlib.Path) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(saved, workdir)
    half_written = workdir / "checkpoints" / "9.orbax-checkpoint-tmp"
    half_written.mkdir()
    (half_written / "state").write_text("half")
    assert read_newest(workdir).meta["run_state"] == {"epoch": 2}
    assert (half_written / "state").read_text() == "half"


@pytest.mark.parametrize("clearances", [1, 2])
def test_a_reader_looks_again_when_the_run_has_saved_and_cleared_away(
    clearances: int, workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    restore_one = CheckpointStore.restore
    to_come = [(5, 6), (3, 4)][-clearances:]

    def overtaken(store: CheckpointStore, *args: Any) -> Checkpoint:
        if to_come:
            save(workdir, *to_come.pop())
        return restore_one(store, *args)

    monkeypatch.setattr(CheckpointStore, "restore", overtaken)
    newest = 2 + 2 * clearances
    found = read_newest(workdir, checkpoint_of(0).best)
    assert found.meta["run_state"] == {"epoch": newest}
    assert tree_digest(found.best) == digests(checkpoint_of(newest))[1]
    assert "damaged" not in capsys.readouterr().err


@functools.partial(jax.jit, donate_argnums=0)
def overwritten(tree: Any) -> Any:
    """Numbers that are not its own, in the buffers of a tree that is given up."""
    return jax.tree.map(lambda leaf: leaf * 3 + 1, tree)


def test_what_is_written_is_what_was_there_when_it_was_saved(tmp_path: pathlib.Path) -> None:
    state = {name: jax.random.normal(jax.random.key(7), (300_000, 5)) for name in ("a", "b")}
    best, expected = jax.tree.map(jnp.copy, state), {}
    with contextlib.closing(CheckpointStore(tmp_path)) as store:
        for number in range(12):
            expected[number] = jax.tree.map(lambda leaf: np.array(jnp.copy(leaf)), (state, best))
            store.save(number, Checkpoint(state, best, {}))
            taken = state["a"]
            for _ in range(3):
                state, best = overwritten(state), overwritten(best)
            assert taken.is_deleted(), "the step took the buffer over"
            state, best = jax.tree.map(lambda leaf: leaf % 5 - 2.5, (state, best))
    with contextlib.closing(CheckpointStore(tmp_path, read_only=True)) as store:
        for number, (state_then, best_then) in expected.items():
            found = store.restore(number, state, best)
            for name in state:
                np.testing.assert_array_equal(found.state[name], state_then[name])
                np.testing.assert_array_equal(found.best[name], best_then[name])


class Commit:
    """Holds back the moment at which a checkpoint gets its name, and then may fail it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.reached, self.go_on, self.error = threading.Event(), threading.Event(), None
        finalize = ocp.CompositeCheckpointHandler.finalize

        def held(*args: Any) -> None:
            self.reached.set()
            assert self.go_on.wait(60)
            if self.error is not None:
                raise self.error
            finalize(*args)

        monkeypatch.setattr(ocp.CompositeCheckpointHandler, "finalize", held)


def test_saving_comes_back_before_the_checkpoint_is_complete_and_waiting_after(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = Commit(monkeypatch)
    with contextlib.closing(CheckpointStore(tmp_path)) as store:
        store.save(1, checkpoint_of(1))
        assert commit.reached.wait(60) and not store.holds(1)
        commit.go_on.set()
        store.wait()
        assert store.holds(1)


@pytest.mark.parametrize("told_by", ["save", "wait", "close"])
@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            OSError(28, "No space left on device"),
            UserError,
            r"the disk is full: .* \(no space is left\); free some space",
        ),
        (
            TimeoutError("timed out"),
            UserError,
            "no checkpoint was complete in .* stood still; the same command continues",
        ),
        (RuntimeError("broken"), RuntimeError, "broken"),
    ],
)
def test_a_write_that_failed_is_told(
    told_by: str,
    error: Exception,
    kind: type[Exception],
    message: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save(tmp_path, 1, 2)
    store = CheckpointStore(tmp_path, kept=2)
    with monkeypatch.context() as patch:
        commit = Commit(patch)
        commit.error = error
        commit.go_on.set()
        store.save(3, checkpoint_of(3))
        with pytest.raises(kind, match=message):
            store.save(4, checkpoint_of(3)) if told_by == "save" else getattr(store, told_by)()
    if told_by != "close":
        store.close()
    found = restore(tmp_path)
    assert found is not None and digests(found) == DIGESTS[2], "what was there before is there still"
    # Orbax may still write where it failed, so what is half written is cleared away now or by the next run.
    names = {entry.name for entry in (tmp_path / "checkpoints").iterdir()}
    assert names - {"3.orbax-checkpoint-tmp"} == {"1", "2"}
