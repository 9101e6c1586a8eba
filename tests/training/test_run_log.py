"""The picture of a run: drawn at once, then now and then, and whole in the end."""

import contextlib
import pathlib
import sys
import types
from typing import NoReturn

import pytest

from alterrec_jax.models.alterrec import AlterRecConfig
from alterrec_jax.training import run_log
from alterrec_jax.training.run_log import RunLog


def record(epoch: int) -> dict[str, object]:
    """Of an epoch of an ID network."""
    values = {"loss": 1.0 / (epoch + 1), "id_hits@20": 0.1 * epoch, "finished_at": 1e9 + epoch}
    return {"epoch": epoch, "network": "id", "objective": "random", "optimizer": "id", **values}


def test_curves_are_drawn_now_and_then_and_at_the_end(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, epochs, draw = [100.0], [], run_log._draw_curves
    monkeypatch.setattr(run_log, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(run_log, "_draw_curves", lambda drawn, path: (epochs.append(len(drawn)), draw(drawn, path)))
    log, history = RunLog(tmp_path, AlterRecConfig(), []), []
    assert not (tmp_path / "curves.png").exists()
    for epoch in range(5):
        history.append(record(epoch))
        log.write(history)
        now[0] += 4
    assert epochs == [4], "ten seconds later, or more"
    history.append(record(5))  # which nobody has saved yet
    log.close()
    assert epochs == [4, 5]
    RunLog(tmp_path, AlterRecConfig(), history).close()
    assert epochs == [4, 5, 6], "a run that is continued draws once"
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_drawn_hides_no_reason_for_an_end(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    log = RunLog(tmp_path, AlterRecConfig(), [record(0)])
    monkeypatch.setattr(run_log, "_draw_curves", full)
    with pytest.raises(KeyError, match="the reason"), contextlib.closing(log):
        log.write([record(0), record(1)])
        raise KeyError("the reason")
    log = RunLog(tmp_path, AlterRecConfig(), [])
    log.write([record(0)])
    with pytest.raises(OSError, match="No space left"):
        log.draw()


def test_a_run_goes_on_without_what_only_draws(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("tensorboard", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    log = RunLog(tmp_path, AlterRecConfig(), [record(0)])
    log.write([record(0), record(1)])
    log.draw()
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "history.csv"]
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "tensorboard and matplotlib" in told and '"alterrec_jax[plots]"' in told


def test_a_run_draws_without_tensorboard(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    RunLog(tmp_path, AlterRecConfig(), [record(0)]).close()
    assert (tmp_path / "curves.png").is_file() and not (tmp_path / "tensorboard").exists()
