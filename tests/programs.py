"""Compiled programs that several processes share."""

import os
import pathlib

from jax._src import lru_cache


def programs_appear_whole() -> None:
    """Lets JAX write each compiled program beside and rename it, where it would write into the file that others read.

    Its own lock (with `jax_compilation_cache_max_size`) looks at every file for each one that is written.
    """

    def put(cache: lru_cache.LRUCache, key: str, value: bytes) -> None:
        path = pathlib.Path(cache.path) / f"{key}-cache"
        if not path.exists():
            beside = path.with_suffix(f".{os.getpid()}")
            beside.write_bytes(value)
            beside.replace(path)

    lru_cache.LRUCache.put = put
