"""What XLA compiled, kept from one command to the next: compiling is most of what a first recommendation waits for."""

import contextlib
import hashlib
import os
import pathlib
import platform

import jax
from jax._src import lru_cache

FOLDER = pathlib.Path("~/.cache/alterrec_jax/programs")
_MOST_BYTES = 1 << 30


def keep_compiled_programs() -> None:
    """Lets JAX find what processes before this one compiled, and keep what it compiles, in a folder of `FOLDER`.

    JAX tells programs, compilers and flags apart; processors have a folder each, for homes that several machines share.
    Several processes may use it at once, and be killed: a program appears whole. Beyond 1 GiB those go that have not
    been read for longest. Without a home to write to nothing is kept.

    JAX's own settings rule: JAX_COMPILATION_CACHE_DIR names another folder, JAX_ENABLE_COMPILATION_CACHE=false keeps
    nothing.
    """
    lru_cache.LRUCache.put = _put  # type: ignore[assignment,method-assign]
    chosen = jax.config.values
    if chosen["jax_compilation_cache_dir"] is not None or not chosen["jax_enable_compilation_cache"]:
        return
    with contextlib.suppress(OSError, RuntimeError):  # no such home, or none to write to
        folder = FOLDER.expanduser() / _processor()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            trim(folder, _MOST_BYTES)
            jax.config.update("jax_compilation_cache_dir", str(folder))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def trim(folder: pathlib.Path, most_bytes: int) -> None:
    """Where the files of a folder are larger together, deletes those that were read longest ago, down to half of it."""
    with os.scandir(folder) as entries:
        files = [(entry.stat(), entry.path) for entry in entries if entry.is_file()]
    total = sum(stat.st_size for stat, _ in files)
    if total <= most_bytes:
        return
    for stat, path in sorted(files, key=lambda file: max(file[0].st_atime, file[0].st_mtime)):
        with contextlib.suppress(OSError):  # another process was faster
            os.unlink(path)
        total -= stat.st_size
        if total <= most_bytes // 2:
            return


def _processor() -> str:
    """Names what a program that XLA compiled for the host may use: another processor may lack an instruction of it."""
    known = [platform.machine(), platform.processor()]
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        lines = file.read().partition("\n\n")[0].splitlines()
        known += [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]


def _put(cache: lru_cache.LRUCache, key: str, value: bytes) -> None:
    """As JAX's method, which writes into the file that others read; this one writes beside it and renames.

    JAX's own lock comes with its bound of the size, and looks at every file for each one that is written.
    """
    path = pathlib.Path(cache.path) / f"{key}-cache"
    if not path.exists():
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        beside.write_bytes(value)
        beside.replace(path)
