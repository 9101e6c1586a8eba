"""What the commands of the README leave and print."""

import json
import pathlib
import re
import signal
import urllib.request

import polars as pl
import pytest

from alterrec_jax.data.dataset import load_dataset, write_dataset
from tests.entry_points.conftest import WORDS, Command, Start, prepare

METRICS = {f"{name}@{k}" for name in ("hits", "ndcg", "mrr") for k in (10, 20)}


@pytest.fixture(scope="module")
def metrics(command: Command, trained: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    output = tmp_path_factory.mktemp("metrics") / "metrics.json"
    flags = (f"--workdir={trained}", "--split=test", f"--output={output}", "--alpha=0,0.5,1")
    done = command("experiments.evaluate", *flags)
    assert done.returncode == 0, done.stderr
    assert "fused" in done.stdout and "cooccurrence" in done.stdout
    return json.loads(output.read_text())


def test_a_run_leaves_what_one_wants_to_read(trained: pathlib.Path) -> None:
    history = pl.read_csv(trained / "history.csv")
    turns = [":".join(row) for row in history.select("network", "objective").iter_rows()]
    assert turns == ["id:random", "text:random", "id:window", "id:window", "text:window"]
    assert {"loss", "gradient_norm", "learning_rate", "prefixes_per_second"} <= set(history.columns)
    assert {f"{view}_{metric}" for view in ("fused", "id", "text") for metric in METRICS} <= set(history.columns)
    assert json.loads((trained / "config.json").read_text())["mining"]["k2"] == 31
    assert (trained / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((trained / "tensorboard").glob("events.out.tfevents.*"))


def test_training_learns_what_the_sessions_hold(metrics: dict) -> None:
    # A user keeps to one of eight kinds of seven items, in an order: popularity cannot know which.
    for view in ("fused", "id", "text"):
        assert metrics[view]["hits@10"] > 2 * metrics["baselines"]["popularity"]["hits@10"]


def test_the_metrics_file(metrics: dict, dataset: pathlib.Path) -> None:
    for view in ("fused", "id", "text"):
        assert set(metrics[view]) >= METRICS
        low, high = metrics[view]["intervals"]["hits@10"]
        assert low <= metrics[view]["hits@10"] <= high
    protocol = metrics["protocol"]
    assert (protocol["targets"], protocol["exclude_session_items"]) == ("all_prefixes", False)
    assert protocol["views"]["fused"] == {"id": 0.5, "text": 0.5}
    assert protocol["n_targets"] == load_dataset(dataset).manifest["counts"]["test"]["prefixes"]
    for grouping in ("popularity", "session_length", "repeat"):
        assert sum(group["n"] for group in metrics["groups"][grouping].values()) == protocol["n_targets"]


def test_another_dataset_of_the_same_items(
    command: Command, trained: pathlib.Path, logs: pathlib.Path, tmp_path: pathlib.Path, metrics: dict
) -> None:
    """The same logs, split by ratio: other numbers for the items, other targets, the run's own catalogue."""
    out, output = prepare(command, logs, "ratio", tmp_path / "by_ratio"), tmp_path / "metrics.json"
    ranks = tmp_path / "ranks.parquet"
    more = ("--recommended", f"--ranks_output={ranks}", "--recommendations=4")
    done = command("experiments.evaluate", f"--workdir={trained}", f"--data_dir={out}", f"--output={output}", *more)
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert 0 < found["recommended"]["fused"]["coverage@10"] <= 1 and "coverage@10" in done.stdout
    by_target = pl.read_parquet(ranks)
    assert len(by_target) == found["protocol"]["n_targets"] and set(by_target["fused_items"].list.len()) == {4}
    hits = (by_target["fused_rank"] <= 10).fill_null(False).mean()
    assert abs(hits - found["fused"]["hits@10"]) < 0.02, "but for ties across the border"
    assert found["protocol"]["n_targets"] == load_dataset(out).manifest["counts"]["test"]["prefixes"]
    assert found["protocol"]["n_targets"] != metrics["protocol"]["n_targets"]
    assert found["protocol"]["catalogue"] == metrics["protocol"]["catalogue"]
    # Sessions of the same kind: as good as on the run's own, far above chance.
    assert abs(found["fused"]["hits@10"] - metrics["fused"]["hits@10"]) < 0.1
    assert found["fused"]["hits@10"] > 2 * found["baselines"]["popularity"]["hits@10"]


def test_alpha_is_weighed_anew_without_training(metrics: dict) -> None:
    sweep = metrics["sweep"]
    for metric in METRICS:
        assert sweep["0"][metric] == metrics["text"][metric]
        assert sweep["0.5"][metric] == metrics["fused"][metric]
        assert sweep["1"][metric] == metrics["id"][metric]


def test_recommend(command: Command, trained: pathlib.Path, dataset: pathlib.Path, tmp_path: pathlib.Path) -> None:
    new = tmp_path / "new.csv"
    strange = "new\u20281\x85"  # JSON allows these ends of lines inside of strings
    new.write_text(f'item_id,title\n{strange},"red soap, 3 oz"\n', encoding="utf-8")
    lines = f'{{"session": ["i0", "i1"]}}\n\n{{"session": ["{strange}"]}}\n'
    flags = (f"--workdir={trained}", "--k=57", f"--new_items={new}", f"--cache_dir={tmp_path / 'cache'}")
    done = command("experiments.recommend", *flags, "--text_columns=title, title", input=lines)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cache" / "text_vectors.sqlite").is_file()
    answers = [json.loads(line) for line in done.stdout.split("\n") if line]
    assert [answer["session"] for answer in answers] == [["i0", "i1"], [strange]]
    items = load_dataset(dataset).items
    names = dict(zip(items["item_id"], items["name"], strict=True)) | {strange: "red soap, 3 oz"}
    for answer in answers:
        found = answer["recommendations"]
        assert len({item["id"] for item in found}) == 57
        assert all(names[item["id"]] == item["name"] for item in found)
        fused = [item["score"] for item in found if item["by"] == "fused"]
        assert fused == sorted(fused, reverse=True)
        assert [item["id"] for item in found if item["by"] == "text"] == [strange]


def test_recommend_answers_each_request_as_it_comes_until_nobody_reads(start: Start, trained: pathlib.Path) -> None:
    process = start("experiments.recommend", f"--workdir={trained}", "--k=3", "--unknown=error")
    assert process.stdin and process.stdout and process.stderr
    answers = []
    for item in ("i3", "nothing"):
        process.stdin.write(f'{{"session": ["{item}"]}}\n')
        process.stdin.flush()
        answers.append(json.loads(process.stdout.readline()))
    assert len(answers[0]["recommendations"]) == 3
    assert answers[1] == {"line": 2, "error": "unknown item ids", "unknown": ["nothing"]}
    process.stdout.close()
    process.stdin.write('{"session": []}\n')
    process.stdin.close()
    assert process.wait(timeout=60) == 141
    with process.stderr as stderr:
        assert stderr.read() == ""


def test_show(python: Command, trained: pathlib.Path, dataset: pathlib.Path, tmp_path: pathlib.Path) -> None:
    there = load_dataset(dataset)
    write_dataset(
        tmp_path / "coloured",
        items=there.items.with_columns(name="\x1b[31m" + pl.col("name")),  # a terminal would obey
        sessions=pl.read_parquet(dataset / "sessions.parquet"),
        text_vectors=there.text_vectors,
        catalogue_size=there.catalogue_size,
        provenance={"text_encoders": there.manifest["text_encoders"]},
    )
    flags = (f"--workdir={trained}", f"--data_dir={tmp_path / 'coloured'}", "--sessions=2", "--k=4")
    done = python("experiments.show", *flags)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout and r"\x1b[31m" in done.stdout
    assert done.stdout.count("in the basket") == 2
    assert done.stdout.count("recommended") == 2
    assert any(word in done.stdout for word in WORDS)
    lines = done.stdout.split("\n")
    assert max(map(len, lines)) <= 120
    assert [line.split() for line in lines].count(["fused", "id", "text"]) == 2  # the views, side by side
    assert re.search(r"^ +1  .*  [a-h] [0-9]+%", done.stdout, re.MULTILINE)  # and what speaks for the first


def test_explore_serves_the_page_until_it_is_told_to_stop(start: Start, trained: pathlib.Path) -> None:
    process = start("experiments.explore", f"--workdir={trained}", "--noopen")
    assert process.stdout
    found = re.fullmatch(r"whole: (http://127\.0\.0\.1:[0-9]+/) \(Ctrl-C closes it\)\n", process.stdout.readline())
    assert found, process.communicate(timeout=60)
    with urllib.request.urlopen(f"{found[1]}api/about", timeout=60) as answer:
        assert json.load(answer)["run"] == "whole"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "SIGTERM: closing the page\n")
