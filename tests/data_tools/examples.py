"""What the tests of the data tools share: an encoder that needs no model, and small logs in files."""

import csv
import pathlib
import random
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from alterrec_jax.data.dataset import Dataset, load_dataset
from data_tools.options import Options
from data_tools.pipeline import prepare

Click = tuple[str, str, int]  # session, item, time


class FakeEncoder:
    """Encodes a text by its length and its first letter, and remembers what it was asked."""

    name, sha256, key, dim = "fake", "0" * 64, "fake-1", 3

    def __init__(self, stop_after: int | None = None) -> None:
        self.encoded: list[str] = []
        self._stop_after = stop_after

    def lengths(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]

    def encode(self, texts: list[str]) -> np.ndarray:
        if self._stop_after is not None and len(self.encoded) >= self._stop_after:
            raise KeyboardInterrupt
        self.encoded += texts
        return np.array([[len(text), ord(text[0]), 1.0] for text in texts], np.float32)


def write_csv(path: pathlib.Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Writes a CSV and returns its path."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return str(path)


def random_clicks(seed: int, *, sessions: int = 60, items: int = 20, times: int = 30) -> list[Click]:
    """Clicks in no order, sessions of 1 to 8 items, many equal times within a session; no click stands there twice."""
    chance = random.Random(seed)
    clicks = [
        (f"s{session:02d}", f"i{int(items * chance.random() ** 2):02d}", chance.randrange(times))
        for session in range(sessions)
        for _ in range(chance.randint(1, 8))
    ]
    chance.shuffle(clicks)
    return list(dict.fromkeys(clicks))


def write_logs(folder: pathlib.Path, clicks: list[Click], items: int = 20) -> dict[str, str]:
    """Writes clicks and items, and returns the options that name the files."""
    rows = [(f"i{item:02d}", f"Thing &amp; co {item}", f"maker {item % 3}") for item in range(items)]
    return {
        "interactions": write_csv(folder / "log.csv", ("session_id", "item_id", "time"), clicks),
        "items": write_csv(folder / "items.csv", ("item_id", "title", "brand"), rows),
    }


def prepared(folder: pathlib.Path, **settings: Any) -> Dataset:
    """Prepares with the fake encoder, and loads what was written."""
    prepare(options(folder, **settings), FakeEncoder())
    return load_dataset(folder / "out")


def options(folder: pathlib.Path, **settings: Any) -> Options:
    """Options that write to `folder`/out and keep their cache in `folder`."""
    given = {"source": "tabular", "out": str(folder / "out"), "cache_dir": str(folder / "cache"), **settings}
    return Options(**given)


def as_items(dataset: Dataset, split: str) -> list[tuple[str, list[str], int]]:
    """Session id, item ids and first target of each session of a split."""
    part, ids = dataset.splits[split], dataset.items["item_id"].to_list()
    return [
        (part.session_ids[row], [ids[item] for item in part[row]], int(part.first_target[row]))
        for row in range(len(part))
    ]
