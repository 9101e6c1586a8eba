"""The commands on a model that is not AlterRec: naive fusion, trained by a softmax over all items."""

import json
import pathlib

import polars as pl
import pytest

from tests.entry_points.conftest import Command

VIEWS = ("fused", "id", "text")


@pytest.fixture(scope="module")
def naive(command: Command, dataset: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The workdir of one epoch of NFRec."""
    workdir = tmp_path_factory.mktemp("runs") / "naive"
    config = workdir.parent / "naive.py"
    config.write_text(
        "from alterrec_jax.models.nfrec import FusedNetworkConfig, NFRecConfig\n"
        "from alterrec_jax.config_files import overridable\n"
        "def get_config():\n"
        "    return overridable(NFRecConfig(network=FusedNetworkConfig(dim=16, learning_rate=5e-3)))\n"
    )
    flags = (f"--config={config}", "--config.network.dim=13", "--config.epochs=1", "--config.batch_prefixes=200")
    short = ("--config.max_length=10", "--config.text.mlp_hidden=(17,)", "--config.protocol.exclude_session_items=no")
    done = command("experiments.train", *flags, *short, f"--data_dir={dataset}", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert "best epoch 1 by validation" in done.stderr
    return workdir


def test_a_run_tells_of_the_network_and_of_its_parts(naive: pathlib.Path) -> None:
    history = pl.read_csv(naive / "history.csv")
    assert history.select("network", "objective").rows() == [("fused", "full")]
    assert {f"{view}_{what}" for view in VIEWS for what in ("hits@20", "cross_entropy")} <= set(history.columns)
    assert (naive / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate(command: Command, naive: pathlib.Path, tmp_path: pathlib.Path) -> None:
    output = tmp_path / "metrics.json"
    done = command("experiments.evaluate", f"--workdir={naive}", f"--output={output}", "--resamples=10")
    assert done.returncode == 0, done.stderr
    rows = [line.split()[0] for line in done.stdout.splitlines() if line.strip() and not line.startswith(" ")]
    assert tuple(rows[:3]) == VIEWS and "popularity" in rows
    found = json.loads(output.read_text())
    assert found["protocol"]["views"] == {view: {view: 1.0} for view in VIEWS}
    # A user keeps to one of eight kinds of seven items: popularity cannot know which.
    assert found["fused"]["hits@10"] > 2 * found["baselines"]["popularity"]["hits@10"]


def test_two_networks_are_not_weighed_where_there_is_one(command: Command, naive: pathlib.Path) -> None:
    done = command("experiments.evaluate", f"--workdir={naive}", "--alpha=0,1")
    assert done.returncode == 1 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert "--alpha weighs the first of two networks, but the main view is made of fused" in line


def test_recommend(command: Command, naive: pathlib.Path) -> None:
    done = command("experiments.recommend", f"--workdir={naive}", "--k=7", input='{"session": ["i0", "i1"]}\n')
    assert done.returncode == 0, done.stderr
    (answer,) = map(json.loads, done.stdout.splitlines())
    assert len({item["id"] for item in answer["recommendations"]}) == 7
    assert {item["by"] for item in answer["recommendations"]} == {"fused"}


def test_what_only_counts_is_evaluated_by_its_configuration_and_not_trained(
    command: Command, dataset: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    config, output = "--config=experiments/configs/session_knn.py", tmp_path / "metrics.json"
    flags = (config, "--config.neighbours=50", f"--data_dir={dataset}", f"--output={output}", "--resamples=10")
    done = command("experiments.evaluate", *flags)
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert found["protocol"]["model"] == "session_knn"
    assert found["session_knn"]["hits@10"] > 2 * found["baselines"]["popularity"]["hits@10"]
    refused = command("experiments.train", config, f"--data_dir={dataset}", f"--workdir={tmp_path / 'run'}")
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert "session_knn only counts" in line and "experiments.evaluate --config=FILE" in line
    both = command("experiments.evaluate", config, f"--workdir={tmp_path}")
    assert both.returncode == 1 and "--workdir" in both.stderr
