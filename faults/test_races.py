"""Several processes that write to the same place at once: what stands there in the end is of one of them, whole."""

import hashlib
import json
import pathlib
import random
import subprocess
import sys
import time

import pytest

from alterrec_jax.data.dataset import load_dataset
from faults.conftest import COUNTS
from tests.entry_points.conftest import ROOT

WRITES = """
import pathlib, sys
from alterrec_jax.data.dataset import load_dataset
from alterrec_jax.errors import UserError
from tests.conftest import write_small_dataset
import polars as pl

out, name, times = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def change(arguments):
    arguments["items"] = arguments["items"].with_columns(item_id=name + pl.col("item_id"))
    arguments["sessions"] = arguments["sessions"].with_columns(session_id=name + pl.col("session_id"))

for _ in range(times):
    write_small_dataset(out, change)
    try:
        found = load_dataset(out)
    except UserError:
        continue  # another process has replaced a part of what was read: refused, not mixed
    prefixes = {text[0] for text in [*found.items["item_id"], *found.splits["train"].session_ids]}
    assert len(prefixes) == 1, prefixes
"""


def together(commands: list[list[str]], environment: dict[str, str], apart: float) -> None:
    """Runs commands at once, each `apart` seconds after the one before; all of them must succeed."""
    running = []
    for words in commands:
        running.append(
            subprocess.Popen(
                [sys.executable, *words],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        time.sleep(apart)
    for process in running:
        _, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stderr


def test_datasets_written_again_and_again(tmp_path: pathlib.Path, environment: dict[str, str]) -> None:
    out = tmp_path / "data"
    together([["-c", WRITES, str(out), name, "40"] for name in "abcd"], environment, 0)
    found = load_dataset(out)
    assert len({text[0] for text in [*found.items["item_id"], *found.splits["test"].session_ids]}) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]
    COUNTS["datasets written by four processes at once"] += 160


def test_two_preparations_with_one_out(
    request: pytest.FixtureRequest,
    logs: pathlib.Path,
    dataset: pathlib.Path,
    tmp_path: pathlib.Path,
    environment: dict[str, str],
) -> None:
    """One of the logs as they are, one of logs whose ids are others: the same shapes, so that no count tells."""
    other = tmp_path / "other"
    other.mkdir()
    for name in ("interactions.csv", "items.csv"):
        header, _, rows = (logs / name).read_text(encoding="utf-8").partition("\n")
        (other / name).write_text(header + "\n" + rows.replace("i", "j"), encoding="utf-8")
    made = json.loads((dataset / "manifest.json").read_text())["arguments"]
    named = ("session_column", "item_column", "order_column", "text_columns", "split")
    flags = [f"--{name}={made[name]}" for name in named]
    draw = random.Random(f"{request.config.getoption('--seed')} races")
    out = tmp_path / "data"
    for _ in range(request.config.getoption("--races")):
        together(
            [
                ["-m", "data_tools.prepare", "--source=tabular", f"--interactions={folder / 'interactions.csv'}",
                 f"--items={folder / 'items.csv'}", *flags, f"--out={out}", f"--cache_dir={tmp_path / 'cache'}"]
                for folder in draw.sample([logs, other], 2)
            ],
            environment,
            draw.uniform(0, 0.1),
        )  # fmt: skip
        ids = {item[0] for item in load_dataset(out).items["item_id"]}
        assert len(ids) == 1, ids
        COUNTS["two preparations at once: the dataset is of one"] += 1
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["cache", "data", "other"]


def test_two_answers_in_one_file(
    request: pytest.FixtureRequest, trained: pathlib.Path, tmp_path: pathlib.Path, environment: dict[str, str]
) -> None:
    """`recommend` with two values of k: the answers are all of one of them."""
    output = tmp_path / "answers.jsonl"
    sessions = tmp_path / "sessions.jsonl"
    sessions.write_text('{"session": ["i3", "i5"]}\n' * 2000)
    alone = {}
    for k in (3, 5):
        words = ["-m", "experiments.recommend", f"--workdir={trained}", f"--input={sessions}", f"--output={output}"]
        together([[*words, f"--k={k}"]], environment, 0)
        alone[hashlib.sha256(output.read_bytes()).hexdigest()] = k
    assert len(alone) == 2
    for _ in range(max(request.config.getoption("--races") // 4, 1)):
        together([[*words, f"--k={k}"] for k in (3, 5)], environment, 0)
        assert hashlib.sha256(output.read_bytes()).hexdigest() in alone
        COUNTS["two recommendations into one file at once: it is of one"] += 1
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["answers.jsonl", "sessions.jsonl"]
