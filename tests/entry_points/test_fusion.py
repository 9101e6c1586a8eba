"""Weights that are fitted, from training to the table that says what each network brings."""

import json
import pathlib

import polars as pl
import pytest

from tests.entry_points.conftest import Command

NETWORKS = ("id", "text", "words")
PARTS = tuple(f"fused without {name}" for name in NETWORKS)


@pytest.fixture(scope="module")
def three(command: Command, dataset: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The workdir of a run of three networks, two of them on texts."""
    workdir = tmp_path_factory.mktemp("runs") / "three"
    config = workdir.parent / "three.py"
    config.write_text(
        "from alterrec_jax.config import ProtocolConfig\n"
        "from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig\n"
        "from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig\n"
        "from alterrec_jax.config_files import overridable\n"
        "def get_config():\n"
        "    like = {'encoder': 'mean', 'dim': 16, 'learning_rate': 5e-3}\n"
        "    networks = {'id': IdNetworkConfig(**like), 'text': VectorNetworkConfig(mlp_hidden=(17,), **like),\n"
        "        'words': VectorNetworkConfig(mlp_hidden=(), **like)}\n"
        "    return overridable(AlterRecConfig(networks=networks, epochs=3, warmup_epochs=1, max_length=10,\n"
        "        batch_prefixes=200, mining=MiningConfig(negatives='full', augment=False),\n"
        "        protocol=ProtocolConfig(exclude_session_items='no', select_on='ndcg@20')))\n"
    )
    done = command("experiments.train", f"--config={config}", f"--data_dir={dataset}", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert "(fused = " in done.stderr and " words)" in done.stderr
    return workdir


def best_weights(workdir: pathlib.Path) -> dict[str, float]:
    """Those of the best epoch."""
    best = (
        pl.read_csv(workdir / "history.csv")
        .sort("fused_ndcg@20", descending=True, maintain_order=True)
        .row(0, named=True)
    )
    return {name: best[f"fused_weight_{name}"] for name in NETWORKS}


def evaluated(command: Command, output: pathlib.Path, *flags: str) -> tuple[dict, str, str]:
    """The result, the table and what was logged."""
    done = command("experiments.evaluate", f"--output={output}", "--resamples=10", *flags)
    assert done.returncode == 0, done.stderr
    return json.loads(output.read_text()), done.stdout, done.stderr


def test_the_weights_of_the_best_epoch_are_evaluated_and_what_each_network_brings_is_tested(
    command: Command, three: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    found, table, _ = evaluated(command, tmp_path / "metrics.json", f"--workdir={three}")
    views = found["protocol"]["views"]
    assert views["fused"] == pytest.approx(best_weights(three))
    parts = [name for name in views if name not in ("fused", *NETWORKS)]
    assert set(parts) <= set(PARTS) and all(name in table for name in parts)
    assert all(set(found["differences"][f"fused - {name}"]["p"]) == {"hits@20", "ndcg@20"} for name in parts)
    without, _, _ = evaluated(command, tmp_path / "less.json", f"--workdir={three}", "--nocomponents")
    assert list(without["protocol"]["views"]) == ["fused", *NETWORKS]
    assert without["fused"] == found["fused"]


def test_weights_are_fitted_anew_on_the_run_s_own_validation_to_the_same(
    command: Command, three: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    flags = (f"--workdir={three}", "--split=validation", "--nocomponents", "--refit")
    found, _, said = evaluated(command, tmp_path / "metrics.json", *flags)
    assert found["protocol"]["views"]["fused"] == pytest.approx(best_weights(three), rel=1e-4)
    assert "fused = " in said and "fitted on the validation split of" in said


def test_fixed_weights_are_not_fitted(command: Command, trained: pathlib.Path) -> None:
    done = command("experiments.evaluate", f"--workdir={trained}", "--refit")
    assert done.returncode == 1 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert "--refit fits weights anew" in line and "--config.fusion_weights=fitted" in line
