"""What the study's tables claim: means over seeds, and bold only where chance does not explain it."""

import json
import pathlib

import numpy as np
import polars as pl
import pytest

from alterrec_jax.evaluation.metrics import summarise
from alterrec_jax.evaluation.ranking import Ranks
from alterrec_jax.evaluation.targets import Targets
from experiments.paper import parameter
from experiments.paper.compared import METRICS, Compared
from experiments.paper.outcome import Outcome, write

TARGETS = 401


def ranks(seed: int, hits: float) -> Ranks:
    """Random ranks, of which about the given share is among the first ten."""
    rng = np.random.default_rng(seed)
    near = rng.random(TARGETS) < hits
    above = np.where(near, rng.integers(0, 10, TARGETS), 50).astype(np.int32)
    return Ranks(above, np.ones(TARGETS, np.int32))


def targets() -> Targets:
    """Three targets a session."""
    session = np.arange(TARGETS) // 3
    return Targets(session, np.ones(TARGETS, np.int32), np.zeros(TARGETS, np.int32))


def test_means_and_deviations_are_over_seeds() -> None:
    of = {"one": [ranks(0, 0.2), ranks(1, 0.3), ranks(2, 0.4)], "counted": [ranks(3, 0.1)]}
    compared = Compared(of, targets())
    each = [summarise(r.above, r.equal)["hits@10"] for r in of["one"]]
    assert compared.mean("one", "hits@10") == pytest.approx(np.mean(each))
    assert compared.sd("one", "hits@10") == pytest.approx(np.std(each, ddof=1))
    assert np.isnan(compared.sd("counted", "hits@10"))
    head, *rows = compared.shown()
    assert head == ["model", "Hits@10", "Hits@20", "NDCG@10", "NDCG@20"]
    assert " ± " in rows[0][1] and "±" not in rows[1][1]


def test_bold_is_what_chance_does_not_explain() -> None:
    clear = Compared({"bad": [ranks(0, 0.1)], "good": [ranks(1, 0.6)], "fair": [ranks(2, 0.2)]}, targets())
    assert clear.bold() == dict.fromkeys(METRICS, "good")
    assert [row[1].startswith("**") for row in clear.shown()[1:]] == [False, True, False]
    same = Compared({"one": [ranks(0, 0.3)], "twin": [ranks(5, 0.3)]}, targets())
    assert same.bold() == {}
    assert not any("**" in cell for row in same.shown() for cell in row)
    assert Compared({"alone": [ranks(0, 0.3)]}, targets()).bold() == {}


def test_the_table_compares_with_a_reference() -> None:
    compared = Compared({"one": [ranks(0, 0.6)], "other": [ranks(1, 0.2)]}, targets(), ("hits@10",))
    rows = compared.frame("one").rows(named=True)
    assert rows[0]["one - model"] is None
    assert rows[1]["one - model"] == pytest.approx(rows[0]["mean"] - rows[1]["mean"])
    assert rows[1]["low"] < rows[1]["one - model"] < rows[1]["high"]
    assert rows[1]["p"] < 0.001 and rows[1]["p_holm"] >= rows[1]["p"]


def test_a_claim_follows_the_numbers() -> None:
    def over(*hits: float) -> Compared:
        return Compared({str(i): [ranks(0, share)] for i, share in enumerate(hits)}, targets())

    falling, growing, flat = over(0.8, 0.6, 0.4, 0.1), over(0.1, 0.4, 0.6, 0.8), over(0.3, 0.3, 0.3)
    assert parameter.trend(falling) == -1 and parameter.trend(growing) == 1 and parameter.trend(flat) == 0
    assert "holds:" in parameter.declines("k1")(falling)
    assert "does not hold" in parameter.declines("k1")(growing)


def test_what_is_written_can_be_read(tmp_path: pathlib.Path) -> None:
    made = Outcome(
        title="Things",
        source="Table 0",
        frame=pl.DataFrame({"model": ["a"], "mean": [0.5]}),
        shown=[["model", "Hits@10"], ["a", "**50.00**"]],
        findings=["It holds."],
        draw=lambda figure: figure.subplots().plot([1, 2], [3, 4]),
    )
    write(made, tmp_path / "things", {"command": "python -m things", "seeds": "0"})
    folder = tmp_path / "things"
    assert pl.read_csv(folder / "table.csv").rows() == [("a", 0.5)]
    assert json.loads((folder / "outcome.json").read_text())["findings"] == ["It holds."]
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "README.md").read_text()
    assert "| a | **50.00** |" in page and "python -m things" in page and "seeds: 0" in page
