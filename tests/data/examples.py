"""Dataset folders that tests of them share."""

import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import Any

from alterrec_jax.data.dataset import Dataset, load_dataset
from tests.conftest import write_small_dataset


def write_changed(path: pathlib.Path, change: Callable[[dict[str, Any]], None]) -> Dataset:
    """The small dataset, changed before it is written, as it is read."""
    return load_dataset(write_small_dataset(path, change))


def seal(path: pathlib.Path, manifest: dict[str, Any]) -> None:
    """Writes a manifest with a digest that fits."""
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps({**manifest, "digest": digest}))
