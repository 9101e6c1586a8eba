"""Locks on files: one process at a time, none for longer than it lives, and work that is gone on with."""

import errno
import fcntl
import os
import pathlib
import subprocess
import sys
import threading
from typing import NoReturn

import pytest

from alterrec_jax.runtime import locks

CLAIM = """
import sys
from alterrec_jax.runtime import locks
claim = locks.claim(sys.argv[1])
print(claim is not None, flush=True)
sys.stdin.read()
"""


def test_a_claim_ends_with_its_process_however_it_ends(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "new" / "folder"
    command = [sys.executable, "-c", CLAIM, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None and first.stdout.readline() == "True\n"
        assert locks.claim(folder) is None
        assert locks.claimant(folder) == str(first.pid)
        other = locks.claim(folder, "of something else.lock")
        assert other is not None
        other.close()
        first.kill()
    found = locks.claim(folder)
    assert found is not None and found.locked
    assert locks.claimant(folder) == str(os.getpid())
    assert locks.claim(folder) is None
    found.close()
    again = locks.claim(folder)
    assert again is not None
    again.close()


def test_what_is_unfinished_and_unclaimed_is_claimed_in_order(tmp_path: pathlib.Path) -> None:
    folders = [tmp_path / name for name in ("done", "of another", "left", "untouched")]
    done, asked = {folders[0]}, []

    def finished(folder: pathlib.Path) -> bool:
        asked.append(folder)
        assert locks.claim(folder) is None, "it is asked under the claim"
        return folder in done

    other = locks.claim(folders[1])
    assert other is not None
    for wanted in folders[2:]:
        found = locks.claim_unfinished(folders, finished)
        assert found is not None and found[0] == wanted
        done.add(wanted)
        found[1].close()
    assert folders[1] not in asked
    assert locks.claim_unfinished(folders, finished) is None
    other.close()
    found = locks.claim_unfinished(folders, finished)
    assert found is not None and found[0] == folders[1]
    found[1].close()


def test_a_question_that_fails_leaves_nothing_claimed(tmp_path: pathlib.Path) -> None:
    def fails(_: pathlib.Path) -> NoReturn:
        raise ValueError

    with pytest.raises(ValueError):
        locks.claim_unfinished([tmp_path], fails)
    found = locks.claim(tmp_path)
    assert found is not None
    found.close()


def test_an_exclusive_block_is_waited_for(tmp_path: pathlib.Path) -> None:
    within, order = threading.Event(), []

    def second() -> None:
        within.wait()
        with locks.exclusive(tmp_path / "write.lock"):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with locks.exclusive(tmp_path / "write.lock") as held:
        assert held.locked
        within.set()
        thread.join(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_file_system_without_locks_keeps_nobody_away_and_says_so(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> NoReturn:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    with locks.exclusive(tmp_path / "a.lock") as one, locks.exclusive(tmp_path / "a.lock") as other:
        assert not one.locked and not other.locked
    found = locks.claim(tmp_path)
    assert found is not None and not found.locked
    found.close()
