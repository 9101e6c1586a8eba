"""What all tests share: a strict JAX, and a small dataset folder."""

import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

# Tests compile for longer than they compute: programs that run slower, and are there sooner. JAX reads it once.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")

import jax
import numpy as np
import polars as pl
import pytest

from alterrec_jax.data.dataset import Dataset, load_dataset, write_dataset
from alterrec_jax.runtime.compiled_programs import keep_compiled_programs

# Axes that meet only by broadcasting, and keys that are used twice, are mistakes here.
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
jax.config.update("jax_num_cpu_devices", 8)  # of which all but the tests of meshes use one


def pytest_configure(config: pytest.Config) -> None:
    """Tests, and the commands that they start, compile the same programs again and again: here they find them."""
    if not hasattr(config, "workerinput"):  # workers inherit what the first process of the tests sets
        programs = tempfile.TemporaryDirectory(prefix="programs-")
        config.add_cleanup(programs.cleanup)
        os.environ |= {"JAX_COMPILATION_CACHE_DIR": programs.name, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    keep_compiled_programs()


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: some tests wait for the commands that they start, or for files."""
    return len(os.sched_getaffinity(0)) + 1


# What takes ten seconds or more, the longest first: it begins first, so that no worker ends with it alone, and
# `make quick` leaves it out.
LONG = (
    "entry_points/test_hosts",
    "models/test_contract",
    "models/test_leaks",
    "entry_points/",
    "test_rounding",
    "training/test_other_runs",
    "experiments/test_experiment_configs",
    "test_api",
    "experiments/test_paper_tables",
    "sharding/test_mesh_",
    "evaluation/test_ranking",
    "training/test_checkpoint",
    "training/test_lengthening",
    "serving/test_export",
    "serving/test_recommend",
    "training/test_start",
    "training/test_trainer",
    "training/test_steps",
    "hard_negatives/",
    "models/test_alterrec_parity",
    "evaluation/test_recommended",
    "training/test_objectives",
    "training/test_weighted_objective",
    "models/test_msgifsr",
    "models/test_s3rec",
    "models/test_srim",
    "models/test_dimo",
    "models/test_mgs",
    "models/test_cohhn",
    "models/test_mmsbr",
    "experiments/test_srim_study",
    "losses/test_pallas_gpu",
    "models/test_core",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what takes long, and puts it first; workers take files in this order."""

    def place(item: pytest.Item) -> int:
        name = item.nodeid.removeprefix("tests/")
        return next((place for place, long in enumerate(LONG) if name.startswith(long)), len(LONG))

    for item in items:
        if place(item) < len(LONG):
            item.add_marker(pytest.mark.long)
    items.sort(key=place)


# Different primes, so that no swapped axis goes unnoticed.
ITEMS, CATALOGUE, TEXT_WIDTH = 31, 29, 5
# What differs between two runs that are alike.
CLOCKS = ("seconds", "prefixes_per_second", "finished_at")


def small_tables() -> tuple[pl.DataFrame, pl.DataFrame, np.ndarray]:
    """Items, sessions and text vectors in the form that `write_dataset` wants; some held-out items are new."""
    rng = np.random.default_rng(7)
    items = pl.DataFrame(
        {
            "item_id": [f"B{i:03d}" for i in range(ITEMS)],
            "name": [f"thing {i}" for i in range(ITEMS)],
            "text": [f"thing {i}, colour {i % 3}" for i in range(ITEMS)],
            "price": [None if i % 9 == 4 else 1.5 + 7 * i % 11 for i in range(ITEMS)],
            "category": [f"kind {1 + i % 3 if i % 2 else 0}" for i in range(ITEMS)],  # one of half of the items
            "brand": [None if i % 5 == 0 else f"maker {i % 7}" for i in range(ITEMS)],
            "attributes": [None if i % 6 == 1 else [f"tag={tag}" for tag in range(i % 4)] for i in range(ITEMS)],
        }
    )
    rows = []
    for split, sessions, known in (("train", 41, CATALOGUE), ("validation", 7, ITEMS), ("test", 11, ITEMS)):
        for session in range(sessions):
            length = int(rng.integers(2, 14))
            clicked = rng.integers(0, known, length).tolist()
            rows.append((split, f"{split}-{session}", f"user {session % 5}", clicked, 1))
    sessions = pl.DataFrame(
        rows,
        schema={
            "split": pl.String,
            "session_id": pl.String,
            "user_id": pl.String,
            "items": pl.List(pl.Int32),
            "first_target": pl.Int32,
        },
        orient="row",
    )
    vectors = rng.normal(size=(ITEMS, TEXT_WIDTH)).astype(np.float32)
    return items, sessions, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write_small_dataset(
    path: pathlib.Path, change: Callable[[dict[str, Any]], None] = lambda arguments: None
) -> pathlib.Path:
    """Writes the small dataset to a folder, after a change to what `write_dataset` is given, and returns it."""
    items, sessions, vectors = small_tables()
    arguments: dict[str, Any] = {
        "items": items,
        "sessions": sessions,
        "text_vectors": vectors,
        "catalogue_size": CATALOGUE,
        "provenance": {"source": "synthetic", "seed": 7},
    }
    change(arguments)
    write_dataset(path, **arguments)
    return path


@pytest.fixture(scope="session")
def dataset_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The small dataset as a folder; not to be changed (`write_small_dataset` makes another)."""
    return write_small_dataset(tmp_path_factory.mktemp("datasets") / "small")


@pytest.fixture(scope="session")
def dataset(dataset_folder: pathlib.Path) -> Dataset:
    """The small dataset, loaded."""
    return load_dataset(dataset_folder)
