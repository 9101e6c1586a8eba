"""The benchmarks at a small size: that they run, and what they write."""

import dataclasses
import importlib.util
import json
import pathlib
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.data.batches import TrainBatches
from alterrec_jax.data.dataset import load_dataset
from alterrec_jax.errors import UserError
from benchmarks import peer_alterrec, peer_environment, peer_task, recbole_steps, started, synthetic
from benchmarks.programs import row_sorts
from tests.entry_points.conftest import Command

PHASES = {f"{name}_{phase}" for name in ("id", "text") for phase in ("random", "window", "window_augmented")}


def test_throughput(command: Command, dataset: pathlib.Path, tmp_path: pathlib.Path) -> None:
    sizes = ("--dim=8", "--layers=1", "--max_length=10", "--batch_prefixes=50", "--k1=5", "--k2=31")
    output = tmp_path / "speed.json"
    few = ("--rounds=1", "--steps=2", f"--data_dir={dataset}", f"--output={output}")
    done = command("benchmarks.throughput", "--m_gap=3", *sizes, *few)
    assert done.returncode == 0, done.stderr
    phases = json.loads(output.read_text())["phases"]
    mined = {name for name in PHASES if "window" in name}
    assert set(phases) == PHASES | {f"{name}_{epoch}" for name in mined for epoch in ("first", "again")}
    for name in mined:  # a turn of three epochs
        whole, first, again = (phases[name + epoch]["step_ms"] for epoch in ("", "_first", "_again"))
        assert whole == pytest.approx((first + 2 * again) / 3, rel=1e-6)
    for phase in phases.values():
        assert phase["prefixes_per_s"] > 0 and phase["floor_ratio"] > 0
        assert phase["floor_ratio"] == pytest.approx(phase["step_ms"] / phase["floor_ms"], rel=1e-6)
        assert 0 < phase["rate_share"] < 1
    assert all(name in done.stdout for name in PHASES)


def test_models(command: Command, dataset: pathlib.Path, tmp_path: pathlib.Path) -> None:
    output = tmp_path / "models.json"
    sizes = ("--dim=8", "--max_length=10", "--batch_prefixes=50", "--rounds=1", "--steps=2")
    done = command("benchmarks.models", "--models=sr_gnn,nfrec", *sizes, f"--data_dir={dataset}", f"--output={output}")
    assert done.returncode == 0, done.stderr
    systems = json.loads(output.read_text())["systems"]
    assert set(systems) == {"sr_gnn", "nfrec"} and all(name in done.stdout for name in systems)
    for system in systems.values():
        assert all(value > 0 for value in system.values())
        assert system["catalogue_ratio"] == pytest.approx(system["catalogue_ms"] / system["products_ms"])
    for wrong, message in (("--models=nobody", "called 'nobody'"), ("--released=clones", "--released needs --peers")):
        refused = command("benchmarks.models", "--models=sr_gnn", *sizes, wrong, f"--data_dir={dataset}")
        assert refused.returncode == 1 and message in refused.stderr


def test_sessions_become_the_interactions_that_recbole_reads(tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "sessions.npz", offsets=np.array([0, 2, 5]), items=np.array([7, 3, 3, 4, 7], np.int32))
    recbole_steps.write_interactions(str(tmp_path / "sessions.npz"), tmp_path / "made")
    rows = (tmp_path / "made" / "sessions.inter").read_text().splitlines()
    assert rows[0] == "session_id:token\titem_id:token\ttimestamp:float"
    assert [row.split("\t")[:2] for row in rows[1:]] == [
        ["s0", "i7"],
        ["s0", "i3"],
        ["s1", "i3"],
        ["s1", "i4"],
        ["s1", "i7"],
    ]


def test_an_environment_that_cannot_be_made_says_why(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"pip could not install .*no-such-package==0"):
        peer_environment.python_of(tmp_path / "peer", [("--no-index", "no-such-package==0")])
    assert not (tmp_path / "peer" / "requirements.txt").exists()


def fake_environment(folder: pathlib.Path, program: str) -> pathlib.Path:
    """An environment that is ready, whose interpreter is a program that is given the module, settings and result."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!{sys.executable}\nimport json, os, sys\nimport numpy as np\n{program}", encoding="utf-8")
    python.chmod(0o755)
    wanted = "\n".join(" ".join(call) for call in peer_environment.REQUIREMENTS)
    (folder / "requirements.txt").write_text(wanted, encoding="utf-8")
    return folder


def test_peers(command: Command, dataset: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Ours for real, beside a library that answers a hundred times as slowly."""
    program = """
settings = json.load(open(sys.argv[3]))
arrays = np.load(settings["sessions"])
assert sys.argv[2] == "benchmarks.peer_rectools" and settings["steps"] == 7 and settings["batch_sessions"] == 20
assert os.environ["OMP_NUM_THREADS"] == str(len(os.sched_getaffinity(0)))
targets = int(arrays["offsets"][-1]) - len(arrays["offsets"]) + 1
result = {"library": "RecTools", "version": "0", "epoch_s": 100.0, "targets_per_epoch": targets, "steps_per_epoch": 9,
          "first_step_s": 1.0, "epochs": 0.5, "loss": 5.0, "evaluation_s": 300.0, "first_evaluation_s": 300.0,
          "targets_per_s": 1.0, "p50_ms": 1e4, "p99_ms": 1e5, "peak_bytes": 10**10, "metrics": {"hits@10": 0.5}}
json.dump(result, open(sys.argv[4], "w"))
"""
    folder, output = fake_environment(tmp_path / "peers", program), tmp_path / "peers.json"
    sizes = ("--dim=8", "--max_length=10", "--batch_sessions=20", "--epochs=2", "--rounds=1", "--requests=10")
    others = ("--others=rectools", "--peer_steps=7", f"--peers={folder}")
    done = command("benchmarks.peers", *sizes, *others, f"--data_dir={dataset}", f"--output={output}")
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    ours, theirs = result["libraries"]["alterrec"], result["libraries"]["rectools"]
    assert ours["targets_per_epoch"] == theirs["targets_per_epoch"], "each target of training once"
    assert ours["epochs"] == 2 and ours["first_step_s"] > ours["epoch_s"] / ours["steps_per_epoch"]
    assert 0 < ours["metrics"]["hits@10"] <= ours["metrics"]["hits@20"] <= 1 and 0 < ours["loss"] < 5
    times = result["times_ours"]["rectools"]
    assert times["training"] == pytest.approx(100 / ours["epoch_s"])
    assert times["evaluation"] == pytest.approx(300 / ours["evaluation_s"])
    assert times["recommendation"] == pytest.approx(1e4 / ours["p50_ms"])
    assert "RecTools 0" in done.stdout and "times ours" in done.stdout
    refused = command("benchmarks.peers", "--others=rectool", f"--data_dir={dataset}")
    assert refused.returncode == 1 and "rectools" in refused.stderr


def test_a_library_that_stops_says_why(tmp_path: pathlib.Path) -> None:
    folder = fake_environment(tmp_path / "peers", "sys.exit('first line\\nno torch here')")
    with pytest.raises(UserError, match="peer_recbole stopped: no torch here"):
        peer_environment.run(peer_environment.python_of(folder), "peer_recbole", {}, {})


def test_targets_and_histories_of_peers_occur_in_training(dataset: pathlib.Path) -> None:
    """An item that does not is no target, and is left out before one."""
    whole = load_dataset(dataset)
    train = whole.splits["train"]
    train = dataclasses.replace(train, items=np.where(np.isin(train.items, [3, 17]), 0, train.items))
    without = dataclasses.replace(whole, splits={**whole.splits, "train": train})
    arrays, counts = peer_alterrec.task_arrays(without, 5), without.train_counts
    sessions, wanted = whole.splits["test"], []
    for session in range(len(sessions)):
        items = sessions.items[sessions.offsets[session] : sessions.offsets[session + 1]].tolist()
        for position in range(max(1, sessions.first_target[session]), len(items)):
            before = [item for item in items[:position] if counts[item]]
            wanted += [(before, items[position])] if before and counts[items[position]] else []
    assert arrays["test_targets"].tolist() == [target for _, target in wanted]
    assert [row.tolist() for row in np.split(arrays["test_items"], arrays["test_offsets"][1:-1])] == [
        before for before, _ in wanted
    ]
    assert arrays["requests"].shape == (5 + peer_task.WARM, 10) and not {3, 17} & {*arrays["requests"].ravel().tolist()}


def test_an_epoch_is_timed_whole_or_estimated_from_steps() -> None:
    """The first step counts as the median one."""
    part = peer_task.training([50.0, 1.0, 3.0, 2.0], 100, 7)
    assert (part["epoch_s"], part["first_step_s"], part["epochs"]) == (200.0, 50.0, 0.04)
    whole = peer_task.training([50.0, 1.0, 3.0, 2.0, 4.0, 2.0, 2.0], 3, 7)
    assert whole["epoch_s"] == ((2 + 1 + 3) + (2 + 4 + 2)) / 2, "of two whole epochs, and one that has begun"


def test_the_last_items_stand_in_the_first_columns() -> None:
    rows, lengths = peer_task.last_items(np.array([5, 6, 7, 8, 9]), np.array([0, 1, 5]), 3)
    assert rows.tolist() == [[5, 0, 0], [7, 8, 9]] and lengths.tolist() == [1, 3]


def test_a_recommendation_that_is_too_short_is_no_time() -> None:
    with pytest.raises(ValueError, match="19 items, not 20"):
        peer_task.latency(lambda _: range(19), np.zeros((12, 10), np.int32))


def test_made_sessions_fill_four_batches() -> None:
    sessions = synthetic.sessions(400, 4 * 50, 10)
    batches = TrainBatches(sessions, 50, 10)
    assert (batches.steps_per_epoch, batches.prefixes, batches.fill) == (4, 4 * 50, 1.0)
    assert sessions.items.min() >= 0 and sessions.items.max() < 400
    vectors = np.asarray(synthetic.text_vectors(400))
    assert vectors.shape == (400, synthetic.TEXT_WIDTH) and len(np.unique(vectors, axis=0)) == 400


@pytest.mark.parametrize("flags", [(), ("--items=400", "--data_dir=somewhere")], ids=["neither", "both"])
def test_throughput_wants_one_kind_of_data(command: Command, flags: tuple[str, ...]) -> None:
    refused = command("benchmarks.throughput", *flags)
    assert refused.returncode == 1 and "give either --data_dir" in refused.stderr


@pytest.mark.parametrize(
    ("module", "flags", "wanted"),
    [
        ("evaluation", ("--items=300", "--dim=8", "--targets=100", "--rounds=2"), {"targets_per_s", "floor_ratio"}),
        ("latency", ("--items=300", "--dim=8", "--requests=10"), {"p50_ms", "p99_ms"}),
    ],
)
def test_positive_numbers(
    command: Command, tmp_path: pathlib.Path, module: str, flags: tuple[str, ...], wanted: set[str]
) -> None:
    output = tmp_path / "result.json"
    done = command(f"benchmarks.{module}", *flags, f"--output={output}")
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert wanted <= result.keys() and all(value > 0 for value in result.values())


def test_selection(command: Command, tmp_path: pathlib.Path) -> None:
    output = tmp_path / "result.json"
    done = command("benchmarks.selection", "--items=300", "--dim=8", "--prefixes=9", "--k2=200", f"--output={output}")
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert set(result) == {"product", "search", "top_k", "approx"} and result["product"]["products"] == 1
    assert all(row["ms"] > 0 and row["products"] > 0 for row in result.values())


def test_scaling_and_memory(command: Command, tmp_path: pathlib.Path) -> None:
    output = tmp_path / "scaling.json"
    done = command("benchmarks.scaling", "--items=3000,6000", "--batch_prefixes=100", f"--output={output}")
    assert done.returncode == 0, done.stderr
    small, large = json.loads(output.read_text())
    assert (small["items"], large["items"]) == (3000, 6000)
    # Per item: the row of X with its two moments and its gradient, and a text vector, in float32.
    assert large["tables_bytes"] - small["tables_bytes"] == 3000 * 4 * (4 * 64 + 384)
    for result in (small, large):
        assert result["peak_bytes"] == result["tables_bytes"] + result["beyond_tables_bytes"]
        assert result["peak_bytes"] > result["process_bytes"] > 0
        assert min(result["step_s"].values()) > 0


def test_steps_are_compiled_ahead(command: Command, tmp_path: pathlib.Path) -> None:
    output, folder = tmp_path / "result.json", tmp_path / "programs"
    sizes = ("--mesh=model:2", "--items=300", "--dim=8", "--layers=1", "--max_length=10", "--batch_prefixes=40")
    done = command(
        "benchmarks.compile_only", *sizes, "--phases=id:window(text)", f"--output={output}", f"--programs={folder}"
    )
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(output.read_text())["phases"].values()
    # A device's half of X with its two moments and of the peer's table, and 300 text vectors at most besides.
    assert 4 * 150 * 8 * 4 < result["arguments_bytes"] < 4 * 150 * 8 * 4 + 300 * 384 * 4
    assert result["temporary_bytes"] > 0 and result["row_sorts"] == 0
    assert "all-reduce" in (folder / "id_window_text.hlo").read_text()


_has_cuda = pytest.mark.skipif(importlib.util.find_spec("jax_cuda12_plugin") is not None, reason="its compiler is here")


@pytest.mark.parametrize("chip", [pytest.param("h200", marks=_has_cuda), "v9:2x2"])
def test_a_chip_without_its_compiler_is_named_with_the_remedy(command: Command, chip: str) -> None:
    refused = command("benchmarks.compile_only", f"--chip={chip}")
    assert refused.returncode == 1 and f"--chip={chip}" in refused.stderr and "pip install" in refused.stderr


@pytest.mark.parametrize(
    ("function", "sorts"),
    [(lambda x: jnp.sort(x, axis=1), 1), (lambda x: jax.lax.top_k(x, 5), 0), (lambda x: jnp.sort(x[:, :9], axis=1), 0)],
)
def test_sorts_of_rows_are_counted(function: Callable[[jax.Array], object], sorts: int) -> None:
    assert row_sorts(jax.jit(function).lower(jnp.zeros((8, 1000))).compile().as_text() or "") == sorts


def test_saving(command: Command, tmp_path: pathlib.Path) -> None:
    output = tmp_path / "saving.json"
    done = command("benchmarks.saving", "--items=300", "--dim=5", "--rounds=3", f"--output={output}")
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert result["bytes"] == 2 * 4 * 300 * 5 * 4
    assert 0 < result["still_s"] <= result["whole_s"] and 0 < result["share"] <= 1


def test_a_start_is_divided_into_its_parts(tmp_path: pathlib.Path) -> None:
    taken = started.once(["experiments.models", "sasrec"], {}, tmp_path / "taken.json")
    assert 0 < taken["imports_s"] < taken["seconds"] and taken["compiling_s"] == 0
    with pytest.raises(UserError, match="no model is called 'nobody'"):
        started.once(["experiments.models", "nobody"], {}, tmp_path / "taken.json")


def test_preparation(command: Command, tmp_path: pathlib.Path) -> None:
    output = tmp_path / "preparation.json"
    sizes = ("--interactions=3000,6000", "--items=200", "--files=2", "--steps=3", f"--folder={tmp_path}")
    done = command("benchmarks.preparation", "--kind=csv", *sizes, f"--output={output}")
    assert done.returncode == 0, done.stderr
    small, large = json.loads(output.read_text())["sizes"]
    assert (small["interactions"], large["interactions"]) == (3000, 6000) and small["log_bytes"] < large["log_bytes"]
    for result in (small, large):
        assert min(result.values()) > 0 and result["peak_bytes"] > result["opened_bytes"]
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_dir()] == []  # logs and datasets are gone
    refused = command("benchmarks.preparation", "--interactions=ten")
    assert refused.returncode == 1 and "--interactions has 'ten'" in refused.stderr
