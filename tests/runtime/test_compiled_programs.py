"""Compiled programs that are kept: found by the next process, whole, bounded, and not at all where that is asked."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from jax._src import lru_cache

from alterrec_jax.runtime import compiled_programs
from tests.commands import ROOT

COMPUTE = """
import json, jax
from alterrec_jax.runtime.compiled_programs import keep_compiled_programs
keep_compiled_programs()
found = []
jax.monitoring.register_event_listener(lambda event, **named: found.append(event))
jax.jit(lambda x: x * 3 + 1)(2.0)
print(json.dumps([jax.config.values["jax_compilation_cache_dir"], "/jax/compilation_cache/cache_hits" in found]))
"""
OURS = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "JAX_ENABLE_COMPILATION_CACHE")


def compute(home: str, **environment: str) -> tuple[str | None, bool]:
    """Of a process with a home of its own: where it keeps programs, and whether it found one."""
    there = {name: value for name, value in os.environ.items() if name not in OURS}
    done = subprocess.run(
        [sys.executable, "-c", COMPUTE],
        env={**there, "HOME": home, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not done.stderr, done.stderr
    folder, hit = json.loads(done.stdout)
    return folder, hit


def test_the_next_process_finds_what_one_compiled(tmp_path: pathlib.Path) -> None:
    folder, hit = compute(str(tmp_path))
    assert folder and pathlib.Path(folder).is_relative_to(tmp_path / ".cache/alterrec_jax/programs") and not hit
    assert list(pathlib.Path(folder).glob("*-cache"))
    assert compute(str(tmp_path)) == (folder, True)


def test_nothing_is_kept_without_a_home_or_where_jax_is_told_so(tmp_path: pathlib.Path) -> None:
    assert compute("/dev/null") == (None, False)
    assert compute(str(tmp_path), JAX_ENABLE_COMPILATION_CACHE="false") == (None, False)
    assert not list(tmp_path.iterdir())


def test_a_program_appears_whole_and_once(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pathlib.Path, "replace", lambda path, target: seen.append((path.read_bytes(), target)))
    seen: list[tuple[bytes, pathlib.Path]] = []
    cache = lru_cache.LRUCache(str(tmp_path), max_size=-1)
    cache.put("jit_f-1.2", b"program")
    assert seen == [(b"program", tmp_path / "jit_f-1.2-cache")] and not (tmp_path / "jit_f-1.2-cache").exists()
    monkeypatch.undo()
    for value in (b"program", b"another"):
        cache.put("jit_f-1.2", value)
        assert cache.get("jit_f-1.2") == b"program"


def test_those_go_that_were_not_read_for_longest(tmp_path: pathlib.Path) -> None:
    for age, name in enumerate(("new", "middle", "old", "oldest")):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (10_000 - age, 10_000 - age))
    compiled_programs.trim(tmp_path, 400)
    assert len(list(tmp_path.iterdir())) == 4
    os.utime(tmp_path / "oldest", (20_000, 10_000 - 3))  # read again, and never written since
    compiled_programs.trim(tmp_path, 399)
    assert {path.name for path in tmp_path.iterdir()} == {"oldest"}  # half of the bound, and no more
