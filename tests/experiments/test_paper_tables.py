"""What the study's tables claim: means over seeds, and bold only where chance does not explain it."""

import json
import pathlib
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from alterrec_jax.data.targets import Targets
from alterrec_jax.evaluation.metrics import summarise
from alterrec_jax.evaluation.ranking import Ranks
from alterrec_jax.models.alterrec import AlterRecConfig
from experiments.paper import comparison, imbalance, long_tail
from experiments.studies import parameter
from experiments.studies.model_table import METRICS, Compared
from experiments.studies.outcome import Outcome, write

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
    near = Compared({"bad": [ranks(0, 0.1)], "good": [ranks(1, 0.6)], "twin": [ranks(2, 0.6)]}, targets())
    assert near.bold() == {}, "one of the others is not beaten"
    same = Compared({"one": [ranks(0, 0.3)], "twin": [ranks(5, 0.3)]}, targets())
    assert same.bold() == {}
    assert not any("**" in cell for row in same.shown() for cell in row)
    assert Compared({"alone": [ranks(0, 0.3)]}, targets()).bold() == {}


def test_the_table_compares_with_a_reference() -> None:
    compared = Compared({"one": [ranks(0, 0.6)], "other": [ranks(1, 0.2)]}, targets(), ("hits@10",))
    rows = compared.frame("one").rows(named=True)
    assert rows[0]["one minus this"] is None
    assert rows[1]["one minus this"] == pytest.approx(rows[0]["mean"] - rows[1]["mean"])
    assert rows[1]["low"] < rows[1]["one minus this"] < rows[1]["high"]
    assert rows[1]["p"] < 0.001 and rows[1]["p_holm"] >= rows[1]["p"]


def test_a_claim_follows_the_numbers() -> None:
    def over(*hits: float) -> Compared:
        return Compared({str(i): [ranks(0, share)] for i, share in enumerate(hits)}, targets())

    falling, growing, flat = over(0.8, 0.6, 0.4, 0.1), over(0.1, 0.4, 0.6, 0.8), over(0.3, 0.3, 0.3)
    assert parameter.trend(falling) == -1 and parameter.trend(growing) == 1 and parameter.trend(flat) == 0
    assert "holds:" in parameter.declines("k1")(falling)
    assert "does not hold" in parameter.declines("k1")(growing)
    noise = Compared({str(i): [ranks(i, 0.3)] for i in range(3)}, targets())
    of_noise = sorted(noise.of, key=lambda value: -noise.mean(value, "hits@20"))
    by_chance = Compared({value: [ranks(int(value), 0.3)] for value in of_noise}, targets())
    assert parameter.trend(by_chance) == -1 and "does not hold" in parameter.declines("k1")(by_chance)


@pytest.mark.parametrize(
    ("own", "augmented", "held"),
    [(0.6, 0.61, True), (0.6, 0.1, False), (0.1, 0.6, False), (0.31, 0.6, False)],
    ids=["both, and alike", "one alone", "the other alone", "one by chance"],
)
def test_own_models_are_the_best_only_if_each_beats_all_others(own: float, augmented: float, held: bool) -> None:
    found = {"AlterRec": [ranks(1, own)], "AlterRec_aug": [ranks(2, augmented)]}
    study = SimpleNamespace(
        metrics=METRICS, ranks=lambda model: found.get(model, [ranks(3, 0.3)]), targets=targets(), base=AlterRecConfig()
    )
    last = comparison.outcome(study).findings[-1]  # type: ignore[arg-type]
    assert ("does not hold in full" not in last) == held


def test_what_is_gained_from_nothing_is_gained() -> None:
    nothing = Ranks(np.full(TARGETS, 50, np.int32), np.ones(TARGETS, np.int32))
    compared = Compared({"AlterRec": [ranks(0, 0.3)], "SASRec": [nothing]}, targets())
    gain, back = (
        long_tail._gain(compared, *pair, "hits@20") for pair in (("AlterRec", "SASRec"), ("SASRec", "AlterRec"))
    )
    assert (gain, back) == (np.inf, -100) and np.isnan(long_tail._gain(compared, "SASRec", "SASRec", "hits@20"))
    clear, chance = compared.tests([("AlterRec", "SASRec", "hits@20"), ("AlterRec", "AlterRec", "hits@20")])
    for gains, tests, verdict in (
        ({"rare": gain, "common": 3.0}, {"rare": clear, "common": chance}, " holds "),
        ({"rare": gain, "common": 3.0}, {"rare": chance, "common": chance}, " is neither "),
        ({"rare": 3.0, "common": gain}, {"rare": clear, "common": clear}, " does not hold "),
        ({"rare": np.nan, "common": 3.0}, {"rare": chance, "common": clear}, " cannot be judged "),
        ({"rare": np.nan, "common": np.nan}, {"rare": chance, "common": chance}, " cannot be judged "),
    ):
        assert verdict in long_tail._claim(gains, tests, "SASRec"), gains


def test_curves_without_a_hit_can_be_compared() -> None:
    assert parameter.spread([0.0, 0.0]) == 0 and parameter.spread([0.2, 0.1]) == 0.5
    assert imbalance._gap(np.array([0.1, 0.3]), np.array([0.0, 0.2])) == pytest.approx(0.5)
    assert np.isnan(imbalance._gap(np.zeros(2), np.zeros(2)))


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


def test_a_dataset_may_be_called_anything(tmp_path: pathlib.Path) -> None:
    name = "my|<img src=x>`$x$[a](b)_1"
    shown = [["dataset", "p"], [name, "<0.001"], [f"**{name}**", "[1, 2]"]]
    made = Outcome("Things", "Table 0", pl.DataFrame({"a": [1]}), shown, ["It holds."], lambda figure: None)
    write(made, tmp_path, {"command": "python -m things", "dataset": f"{name}, fingerprint 0"})
    escaped = r"my\|\<img src=x>\`\$x\$[a]\(b)_1"
    page = (tmp_path / "README.md").read_text()
    assert f"| {escaped} | <0.001 |\n| **{escaped}** | [1, 2] |" in page
    assert f"dataset: {escaped}, fingerprint 0" in page
