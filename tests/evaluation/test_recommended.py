"""What is recommended, and the file of one row a target, against sorting and counting in plain Python."""

import math
import pathlib

import numpy as np
import polars as pl
import pytest

from alterrec_jax.data.targets import select_targets
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.best_items import NO_ITEM
from alterrec_jax.evaluation.per_target import write_per_target
from alterrec_jax.evaluation.protocol import Protocol
from alterrec_jax.evaluation.rank_counts import RankingLimits
from alterrec_jax.evaluation.ranking import rank_rows, rank_targets
from alterrec_jax.evaluation.recommended import Recommended
from alterrec_jax.evaluation.report import Details, evaluate_counted, evaluate_split
from alterrec_jax.evaluation.report_table import format_table
from alterrec_jax.models.counting import PopularityConfig
from tests.evaluation.examples import fusion, make_dataset, random_sessions
from tests.oracles import ranking as oracle
from tests.sharding.examples import ONE, on_mesh

CATALOGUE, ITEMS, DIM, KEPT = 37, 41, 3, 11
KS = (2, 7)
MEASURES = [f"{name}@{k}" for k in KS for name in ("coverage", "novelty", "long_tail")]
WHOLE, BLOCKS = RankingLimits(), RankingLimits(whole_rows=4, block=8, lane=4)


@pytest.fixture
def case():
    """A dataset, all targets of its test split, and queries and tables whose scores are exact and often tie."""
    rng = np.random.default_rng(7)
    dataset = make_dataset(random_sessions(rng, 61, CATALOGUE), random_sessions(rng, 31, ITEMS), ITEMS, CATALOGUE)
    targets = select_targets(dataset.splits["test"], "all_prefixes")
    queries = {name: rng.integers(-2, 3, (len(targets), DIM)).astype(np.float32) for name in ("id", "text")}
    tables = {name: rng.integers(-2, 3, (CATALOGUE, DIM)).astype(np.float32) for name in ("id", "text")}
    return dataset, targets, queries, tables


def scores_of(queries, tables):
    """float32 [target, item] of each view."""
    scores = {name: queries[name] @ tables[name].T for name in queries}
    return {"fused": 0.25 * scores["id"] + 0.75 * scores["text"], **scores}


def lists(dataset, targets, scores, exclude, k=KEPT):
    """The best items of each target, by the oracle."""
    sessions = dataset.splits["test"]
    seen = [set(sessions[s][:p].tolist()) for s, p in zip(targets.session, targets.position, strict=True)]
    return [oracle.best(row, k, held if exclude else set()) for row, held in zip(scores, seen, strict=True)]


def measured(dataset, found, k):
    """Coverage, novelty and the share of the tail, by the oracle."""
    counts, flat = dataset.train_counts, [item for items in found for item in items[:k]]
    bits = [-math.log2(max(1, counts[item]) / counts.sum()) for item in flat]
    tail = [counts[item] < 10 for item in flat]
    return [len(set(flat)) / CATALOGUE, sum(bits) / len(flat), sum(tail) / len(flat)]


@pytest.mark.parametrize("words", [ONE, "data:4,model:2", "model:8"])
@pytest.mark.parametrize(
    "limits", [RankingLimits(), RankingLimits(whole_rows=4, block=8, lane=4)], ids=["rows", "blocks"]
)
@pytest.mark.parametrize("exclude", [False, True])
def test_the_best_items_equal_the_oracle(case, words, limits, exclude):
    dataset, targets, queries, tables = case
    views = fusion(0.25)
    seen = Recommended(("fused", "id"), CATALOGUE, len(targets), KS, KEPT, ("fused",))
    options = {"catalogue": CATALOGUE, "batch_size": 16, "limits": limits, "recommended": seen}
    with on_mesh(words):
        rank_targets([queries], tables, views, targets, exclude=dataset.splits["test"] if exclude else None, **options)
    scores, found = scores_of(queries, tables), seen.measures(dataset.train_counts)
    assert set(seen.items) == {"fused"} and set(found) == {"fused", "id"}
    assert seen.items["fused"].tolist() == lists(dataset, targets, scores["fused"], exclude)
    for view in found:
        of_view = lists(dataset, targets, scores[view], exclude)
        for k in KS:
            wanted = measured(dataset, of_view, k)
            assert [found[view][f"{name}@{k}"] for name in ("coverage", "novelty", "long_tail")] == pytest.approx(
                wanted
            )


@pytest.mark.parametrize("exclude", [False, True])
def test_where_fewer_are_candidates_there_are_fewer(case, exclude):
    """Rows of scores that are counted, with more wanted than the catalogue has."""
    dataset, targets, queries, tables = case
    scores, sessions = queries["id"] @ tables["id"].T, dataset.splits["test"]
    seen = Recommended(("x",), CATALOGUE, len(targets), (100,), 100, ("x",))
    rank_rows(
        lambda start, stop: scores[start:stop],
        "x",
        targets,
        catalogue=CATALOGUE,
        exclude=sessions if exclude else None,
        recommended=seen,
    )
    assert seen.items["x"].shape == (len(targets), CATALOGUE)
    found = [[item for item in row if item != NO_ITEM] for row in seen.items["x"].tolist()]
    assert found == lists(dataset, targets, scores, exclude, 100)
    assert (min(map(len, found)) < CATALOGUE) == exclude


def evaluated(case, **details):
    """The whole evaluation, and what it told of each target."""
    dataset, targets, queries, tables = case
    told = []
    result = evaluate_split(
        dataset,
        "test",
        lambda *_: [queries],
        tables,
        fusion(0.25),
        Protocol(ks=KS),
        details=Details(per_target=lambda *args: told.append(args), **details),
    )
    return result, told[0]


def test_what_is_recommended_stands_in_the_result_and_below_the_table(case):
    dataset, targets, queries, tables = case
    plain, (_, ranks, nothing) = evaluated(case)
    result, (_, same, _) = evaluated(case, recommended=True)
    assert nothing == {} and "recommended" not in plain and "long_tail" not in plain["protocol"]
    assert list(result["recommended"]) == list(ranks) == ["fused", "id", "text", *result["baselines"]]
    assert {name: result[name] for name in plain if name != "protocol"} == {
        n: plain[n] for n in plain if n != "protocol"
    }
    for name in ranks:
        np.testing.assert_array_equal(same[name].above, ranks[name].above)
    most_bought = np.argsort(-dataset.train_counts[:CATALOGUE], kind="stable")[: KS[1]]
    popular = result["recommended"]["popularity"]
    assert popular["coverage@7"] == pytest.approx(7 / CATALOGUE)
    assert popular["novelty@7"] == pytest.approx(measured(dataset, [most_bought.tolist()], 7)[1])
    table = format_table(result)
    assert table.startswith(format_table(plain))
    lines = table.splitlines()
    header = next(number for number, line in enumerate(lines) if "coverage@2" in line)
    assert lines[header].split() == [f"{name}@{k}" for k in KS for name in ("coverage", "novelty", "long_tail")]
    assert lines[header + 1].split() == [
        "fused",
        *(f"{value:.4f}" for value in result["recommended"]["fused"].values()),
    ]
    assert "[0, 5) and [5, 10) occurrences" in lines[-1]


def test_a_system_that_only_counts_is_told_likewise(case):
    dataset = case[0]
    result = evaluate_counted(dataset, "test", PopularityConfig(), Protocol(), details=Details(recommended=True))
    assert list(result["recommended"])[0] == "popularity" and result["recommended"]["popularity"]["coverage@20"] > 0


@pytest.mark.parametrize("rows_at_once", [7, 2**16])
def test_the_file_has_a_row_a_target(case, rows_at_once, tmp_path):
    dataset, targets, queries, tables = case
    _, (_, ranks, items) = evaluated(case, kept=3)
    path = tmp_path / "ranks.parquet"
    write_per_target(path, dataset, "test", targets, ranks, items, rows_at_once)
    table = pl.read_parquet(path)
    views = [f"{name}_{what}" for name in ("fused", "id", "text") for what in ("rank", "tied", "items")]
    others = [f"{name}_{what}" for name in list(ranks)[3:] for what in ("rank", "tied")]
    assert table.columns == ["session_id", "position", "item_id", "in_catalogue", *views, *others]
    scores = scores_of(queries, tables)["fused"]
    for row, (line, item) in enumerate(zip(table.iter_rows(named=True), targets.item.tolist(), strict=True)):
        assert line["session_id"] == f"s{targets.session[row]}" and line["position"] == targets.position[row]
        assert (line["item_id"], line["in_catalogue"]) == (str(item), item < CATALOGUE)
        counted = oracle.counts(scores[row], item, set())
        wanted = (None, None) if counted is None else (counted[0] + (counted[1] + 1) / 2, counted[1])
        assert (line["fused_rank"], line["fused_tied"]) == wanted
        assert line["fused_items"] == [str(item) for item in oracle.best(scores[row], 3, set())]
    assert not table["in_catalogue"].all() and table["fused_rank"].null_count() > 0


def test_a_file_that_cannot_be_written_leaves_what_was_there(case, tmp_path, monkeypatch):
    dataset, targets, _, _ = case
    _, (_, ranks, items) = evaluated(case, kept=3)
    path = pathlib.Path(tmp_path) / "ranks.parquet"
    path.write_text("before")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.LazyFrame, "sink_parquet", full)
    with pytest.raises(UserError, match=r"ranks.parquet cannot be written .*No space left"):
        write_per_target(path, dataset, "test", targets, ranks, items)
    assert path.read_text() == "before" and [entry.name for entry in tmp_path.iterdir()] == ["ranks.parquet"]
