"""experiments.export on a real run, and the example that serves from what it writes without any of this code."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from usearch.index import Index

from tests.entry_points.conftest import Command

LONG = [f"i{number}" for number in range(20)]
LINES = [
    *({"session": ["i3", "i10", "i3"]}, {"session": []}, {"session": LONG}),
    {"session": ["i3", "lost", "i10"], "exclude": [*LONG, "sold"]},
    {"session": LONG, "only": ["i30", "gone", "i2", "i31"], "exclude": ["i31"]},
    {"session": "i001"},
]
"""Requests, and behind them one that is no JSON."""


@pytest.fixture(scope="module")
def folder(command: Command, trained: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """An export, written over another one."""
    out = tmp_path_factory.mktemp("served") / "model"
    for k in (3, 5):
        done = command("experiments.export", f"--workdir={trained}", f"--out={out}", f"--k={k}")
        assert done.returncode == 0, done.stderr
        assert f"recall@{k}" in done.stdout and "items.usearch" in done.stdout
    return out


def test_the_example_serves_what_the_checkpoint_recommends(
    command: Command, trained: pathlib.Path, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    requests = "".join(json.dumps(line) + "\n\n" for line in LINES) + "{\n"
    served = subprocess.run(
        [sys.executable, "-I", folder / "serve.py", folder],  # without this package on the path
        input=requests,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
    )
    assert served.returncode == 0, served.stderr
    (tmp_path / "in.jsonl").write_text(requests)
    done = command("experiments.recommend", f"--workdir={trained}", "--k=5", f"--input={tmp_path / 'in.jsonl'}")
    assert done.returncode == 0 and "2 of 7 requests failed" in done.stderr and "2 of 7" in served.stderr
    answers = [[json.loads(line) for line in text.splitlines()] for text in (served.stdout, done.stdout)]
    assert [len(answer.get("recommendations", [])) for answer in answers[0]] == [5, 5, 5, 5, 2, 0, 0]
    for mine, theirs in zip(*answers, strict=True):
        found, wanted = mine.pop("recommendations", []), theirs.pop("recommendations", [])
        assert [one["id"] for one in found] == [one["id"] for one in wanted]
        scores = [[one["score"] for one in ones] for ones in (found, wanted)]
        np.testing.assert_allclose(*scores, rtol=1e-5, atol=1e-5)
        theirs.pop("session", None)
        assert mine == theirs  # unknown ids, and what is said of errors
    assert [answer.get("unknown") for answer in answers[0][3:]] == [["lost", "sold"], ["gone"], None, None]
    assert [answer["line"] for answer in answers[0][5:]] == [11, 13]


def test_the_folder_holds_what_it_says(folder: pathlib.Path) -> None:
    about = json.loads((folder / "export.json").read_text())
    vectors = np.load(folder / "item_vectors.npy", allow_pickle=False)
    ids = json.loads((folder / "item_ids.json").read_text())
    assert vectors.shape == (about["items"], about["dim"]) == (len(ids), 32) and vectors.dtype == np.float32
    assert about["k"] == 5 and about["max_length"] == 10 and about["platforms"] == ["cpu", "cuda", "tpu"]
    measured = about["measured"]
    assert 0.9 < measured["recall"] <= 1 and measured["sessions"] > 100
    assert min(measured[name] for name in ("index_ms", "scan_ms", "program_ms")) > 0
    # Every item is found by the vector that it is stored under.
    index = Index.restore(folder / "items.usearch")
    np.testing.assert_allclose(np.stack([index.get(item) for item in range(len(ids))]), vectors, rtol=1e-6)


def test_another_folder_is_not_replaced(command: Command, trained: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = command("experiments.export", f"--workdir={trained}", f"--out={tmp_path}")
    assert done.returncode == 1 and "name another folder" in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_files_beside_an_export_are_not_lost_with_it(
    command: Command, trained: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "export.json").write_text('{"format": "alterrec_jax export"}')
    (tmp_path / "stock.csv").write_text("mine")
    done = command("experiments.export", f"--workdir={trained}", f"--out={tmp_path}")
    assert done.returncode == 1 and "holds 'stock.csv', which would be lost" in done.stderr
    assert (tmp_path / "stock.csv").read_text() == "mine"


def test_a_wrong_k_is_named(command: Command, trained: pathlib.Path, tmp_path: pathlib.Path) -> None:
    done = command("experiments.export", f"--workdir={trained}", f"--out={tmp_path / 'out'}", "--k=57")
    assert done.returncode == 1 and "--k=57 is not between 1 and the number of items, 5" in done.stderr
    assert not (tmp_path / "out").exists()
