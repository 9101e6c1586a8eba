"""The whole evaluation on a small dataset: what it reports, and how it reads."""

import json

import numpy as np
import pytest

from alterrec_jax.data.targets import select_targets
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.intervals import Bootstrap
from alterrec_jax.evaluation.protocol import Protocol, validate, weight_sweep
from alterrec_jax.evaluation.report import evaluate_split
from alterrec_jax.evaluation.report_table import format_table
from tests.evaluation.examples import fusion, make_dataset, make_sessions, random_sessions

ITEMS, CATALOGUE, DIM = 31, 29, 5
METRICS = ["hits@10", "ndcg@10", "mrr@10", "hits@20", "ndcg@20", "mrr@20"]
BASELINES = ["popularity", "cooccurrence", "session_cooccurrence"]


@pytest.fixture
def model():
    """A dataset and a model of it: tables, and queries that are the mean of the prefix's rows."""
    rng = np.random.default_rng(11)
    dataset = make_dataset(random_sessions(rng, 61, CATALOGUE), random_sessions(rng, 41, ITEMS), ITEMS, CATALOGUE)
    tables = {name: rng.normal(size=(CATALOGUE, DIM)) for name in ("id", "text")}

    def provider(sessions, targets):
        for start in range(0, len(targets), 17):
            part = targets[start : start + 17]
            known = [sessions[s][:p] % CATALOGUE for s, p in zip(part.session, part.position, strict=True)]
            yield {name: np.stack([table[ids].mean(axis=0) for ids in known]) for name, table in tables.items()}

    return dataset, provider, tables


def test_what_is_reported(model):
    dataset, provider, tables = model
    protocol = Protocol(targets="all_prefixes")
    result = evaluate_split(
        dataset, "test", provider, tables, fusion(0.5), protocol,
        sweep=weight_sweep(fusion(0.5)["fused"], [0, 0.5, 1]), notes={"alpha": 0.5},
    )  # fmt: skip
    assert list(result) == ["fused", "id", "text", "baselines", "differences", "groups", "protocol", "sweep"]
    assert list(result["fused"]) == [*METRICS, "intervals"]
    assert list(result["baselines"]) == BASELINES
    assert list(result["groups"]["repeat"]["new"]) == ["n", "fused", "id", "text", *BASELINES]
    for found in (*(result[view] for view in ("fused", "id", "text")), *result["baselines"].values()):
        for metric in METRICS:
            low, high = found["intervals"][metric]
            assert 0 <= low < found[metric] < high <= 1
    sweep = {view: {metric: result[view][metric] for metric in METRICS} for view in ("fused", "id", "text")}
    assert result["sweep"] == {"0": sweep["text"], "0.5": sweep["fused"], "1": sweep["id"]}
    targets = select_targets(dataset.splits["test"], "all_prefixes")
    told = result["protocol"]
    assert (told["split"], told["targets"], told["exclude_session_items"], told["alpha"]) == (
        "test", "all_prefixes", False, 0.5,
    )  # fmt: skip
    assert told["n_targets"] == len(targets)
    assert told["n_targets_outside_catalogue"] == int((targets.item >= CATALOGUE).sum()) > 0
    assert told["n_sessions"] == len(set(targets.session.tolist()))
    assert told["views"]["fused"] == {"id": 0.5, "text": 0.5}
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_differences_are_paired(model):
    dataset, provider, tables = model
    result = evaluate_split(dataset, "test", provider, tables, fusion(1.0), Protocol())
    assert list(result["differences"]) == [f"fused - {other}" for other in ("id", "text", *BASELINES)]
    same, other = result["differences"]["fused - id"], result["differences"]["fused - text"]
    assert same["p"] == {"hits@20": 1.0, "ndcg@20": 1.0}, "it is the same ranking"
    assert 0 < other["p"]["ndcg@20"] <= 1
    assert same["hits@20"] == 0 and same["intervals"]["hits@20"] == [0.0, 0.0]
    assert other["hits@20"] == pytest.approx(result["fused"]["hits@20"] - result["text"]["hits@20"])
    popular = result["fused"]["hits@20"] - result["baselines"]["popularity"]["hits@20"]
    assert result["differences"]["fused - popularity"]["hits@20"] == pytest.approx(popular)


@pytest.mark.parametrize("protocol", [Protocol("last", True, (5,)), Protocol("all_prefixes", False)])
def test_validation_gives_the_same_means(model, protocol):
    dataset, provider, tables = model
    quick = validate(dataset, provider, tables, fusion(0.3), protocol)
    full = evaluate_split(
        dataset, "validation", provider, tables, fusion(0.3), protocol, bootstrap=Bootstrap(resamples=0)
    )
    assert all("intervals" not in full[view] for view in quick)
    for view, metrics in quick.items():
        assert full[view] == metrics


def test_excluding_session_items_reaches_models_and_baselines(model):
    dataset, provider, tables = model
    result = evaluate_split(
        dataset, "test", provider, tables, fusion(0.5), Protocol(exclude_session_items=True, ks=(CATALOGUE,))
    )
    metric = f"hits@{CATALOGUE}"
    repeats = result["groups"]["repeat"]["in_session"]
    assert repeats["n"] > 0
    assert [repeats[name][metric] for name in ("fused", *BASELINES)] == [0] * 4
    told = result["protocol"]
    hit = told["n_targets"] - told["n_targets_outside_catalogue"] - repeats["n"]
    assert result["groups"]["repeat"]["new"]["fused"][metric] > 0
    assert result["fused"][metric] * told["n_targets"] >= hit - 1e-9  # some targets outside may be repeats too


def test_table(model):
    dataset, provider, tables = model
    result = evaluate_split(
        dataset,
        "test",
        provider,
        tables,
        fusion(0.5),
        Protocol("last"),
        sweep=weight_sweep(fusion(0.5)["fused"], [0.25]),
    )
    lines = format_table(result).splitlines()
    assert [line.split("  ")[0].strip() for line in lines[:-1]] == [
        "", "fused", "id", "text", *BASELINES, "alpha 0.25",
    ]  # fmt: skip
    assert lines[0].split() == [*METRICS, "hits@20,", "95%", "interval", "fused", "minus", "this", "p"]
    low, high = result["fused"]["intervals"]["hits@20"]
    assert lines[1].split()[1] == f"{result['fused']['hits@10']:.4f}"
    assert lines[1].endswith(f"[{low:.4f}, {high:.4f}]"), "the main view is not compared with itself"
    compared = result["differences"]["fused - text"]
    p = compared["p"]["hits@20"]
    assert lines[3].split()[-2:] == [f"{compared['hits@20']:+.4f}", "<0.001" if p < 0.001 else f"{p:.3f}"]
    assert "outside the catalogue (misses)" in lines[-1] and "the last item of" in lines[-1]
    sessions = result["protocol"]["n_sessions"]
    for targets, which in ((3 * sessions, "every item after the first"), (sessions, "the last item")):  # leave-one-out
        counted = {**result["protocol"], "targets": "all_prefixes", "n_targets": targets}
        assert f"({which} of {sessions} sessions)" in format_table({**result, "protocol": counted})


def test_alphas_are_told_by_all_their_digits():
    alphas = [0, 0.1, 0.123456789, 0.123456788, 1e-7, 1.0]
    sweep = weight_sweep(fusion(0.5)["fused"], alphas)
    assert list(sweep) == ["0", "0.1", "0.123456789", "0.123456788", "1e-07", "1"]
    assert [view["id"] for view in sweep.values()] == alphas


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_alpha_outside_its_range(alpha):
    with pytest.raises(UserError, match=r"alpha is .* id scores against text scores: 0 to 1"):
        weight_sweep(fusion(0.5)["fused"], [alpha])


def test_bad_calls(model):
    dataset, provider, tables = model
    empty = make_dataset(dataset.splits["train"], make_sessions([[1], []]), ITEMS, CATALOGUE)
    with pytest.raises(UserError, match="the test split of memory has no session"):
        evaluate_split(empty, "test", provider, tables, fusion(0.5), Protocol())
    with pytest.raises(ValueError, match="29 items of the catalogue"):
        validate(dataset, provider, {**tables, "id": np.zeros((ITEMS, DIM))}, fusion(0.5), Protocol())
    with pytest.raises(ValueError, match="cannot be called 'groups'"):
        evaluate_split(dataset, "test", provider, tables, {"groups": {"id": 1.0}}, Protocol())
