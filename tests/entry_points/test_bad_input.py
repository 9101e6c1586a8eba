"""Bad input gets one clear line that names the thing and the remedy, a status that is not 0, and no traceback."""

import os
import pathlib
import shutil
import subprocess

import numpy as np
import polars as pl
import pytest

from alterrec_jax.data.dataset import load_dataset, write_dataset
from tests.entry_points.conftest import SMALL, Command


def assert_one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode not in (0, None), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert len(errors) == 1, done.stderr
    for word in words:
        assert word in errors[0], errors[0]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("--config.networks.text.dropuot=0.3", ("dropuot", "dropout")),
        ("--config.seed=one", ("config.seed", "one")),
        ("--config.mining.k1=40", ("mining.k1", "40", "mining.k2 (31)")),
        ("--config.mining.p=6", ("mining.p", "6", "mining.k1 (5)")),
        ("--config.networks.id.weight=-1.5", ("networks.id.weight", "-1.5", "at least 0")),
        ("--config.networks.id.encoder=meen", ("networks.id.encoder", "meen", "mean")),
    ],
)
def test_wrong_settings(
    command: Command, dataset: pathlib.Path, tmp_path: pathlib.Path, override: str, words: tuple[str, ...]
) -> None:
    workdir = tmp_path / "run"
    assert_one_line(
        command("experiments.train", *SMALL, override, f"--data_dir={dataset}", f"--workdir={workdir}"), *words
    )
    assert not workdir.exists()


def test_no_such_dataset_or_configuration(command: Command, tmp_path: pathlib.Path) -> None:
    workdir = f"--workdir={tmp_path / 'run'}"
    missing = tmp_path / "nowhere"
    assert_one_line(command("experiments.train", *SMALL, f"--data_dir={missing}", workdir), str(missing), "prepare")
    assert_one_line(
        command("experiments.train", "--config=experiments/configs/nothing.py", "--data_dir=x", workdir), "nothing.py"
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("rate = 1e-3\nrate = rat\n", ("NameError", "'rat'", "(line 2)")),
        ("def get_config():\n    return int(None)\n", ("TypeError", "(line 2)")),
        ("def get_config():\n    raise ValueError('not\\nthis')\n", ("ValueError: not this", "(line 2)")),
        ("def get_config()\n", ("SyntaxError", "line 1")),
        ("import nowhere\n", ("ModuleNotFoundError", "'nowhere'", "(line 1)")),
        ("seed = 1\n", ("get_config()", "experiments/configs")),
        ("def get_config():\n    pass\n", ("get_config()", "ConfigDict")),
        (None, ("directory",)),
    ],
)
def test_a_configuration_file_that_fails(
    command: Command, tmp_path: pathlib.Path, content: str | None, words: tuple[str, ...]
) -> None:
    path = tmp_path / "mine.py"
    path.mkdir() if content is None else path.write_text(content)
    flags = (f"--config={path}", "--config.seed=1", "--data_dir=x", f"--workdir={tmp_path / 'run'}")
    assert_one_line(command("experiments.train", *flags), f"--config={path}", *words)


def test_what_prepare_and_describe_cannot_do(command: Command, tmp_path: pathlib.Path) -> None:
    out = f"--out={tmp_path}/out"
    assert_one_line(command("data_tools.prepare", out), "--source is missing")
    unread = command("data_tools.prepare", "--source=tabular", "--locale=ES", out)
    assert_one_line(unread, "read by --source=amazon_m2 only")
    assert_one_line(command("data_tools.describe", f"{tmp_path}/nothing"), "does not exist")


def test_describe_writes_through_no_link(command: Command, dataset: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copytree(dataset, tmp_path / "data", ignore=shutil.ignore_patterns("*.png"))
    (tmp_path / "mine.png").write_text("mine")
    (tmp_path / "data" / "describe.png").symlink_to(tmp_path / "mine.png")
    assert_one_line(command("data_tools.describe", f"{tmp_path}/data"), "describe.png is a link to", "remove it")
    assert (tmp_path / "mine.png").read_text() == "mine"


def test_damaged_dataset(command: Command, dataset: pathlib.Path, tmp_path: pathlib.Path) -> None:
    vectors = np.load(dataset / "text_vectors.npy")
    holes = vectors.copy()
    holes[3, 5] = np.nan
    for content, words in ((holes, ("NaN", "row 3")), (vectors[:-1], ("shape", "56 items"))):
        broken = tmp_path / "broken"
        shutil.copytree(dataset, broken, dirs_exist_ok=True)
        np.save(broken / "text_vectors.npy", content)
        done = command("experiments.train", *SMALL, f"--data_dir={broken}", f"--workdir={tmp_path / 'run'}")
        assert_one_line(done, "text_vectors.npy", *words)


def test_a_workdir_of_another_run(
    command: Command, dataset: pathlib.Path, trained: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    workdir = f"--workdir={trained}"
    other_seed = command("experiments.train", *SMALL, "--config.seed=1", f"--data_dir={dataset}", workdir)
    assert_one_line(other_seed, str(trained), "seed=0", "another --workdir")
    other_shape = command("experiments.train", *SMALL, "--config.networks.text.dim=8", f"--data_dir={dataset}", workdir)
    assert_one_line(other_shape, str(trained), "text.dim=16")
    copy = tmp_path / "copy"
    there = load_dataset(dataset)
    write_dataset(
        copy,
        items=there.items.with_columns(text=pl.col("text") + "!"),
        sessions=pl.read_parquet(dataset / "sessions.parquet"),
        text_vectors=-there.text_vectors,
        catalogue_size=there.catalogue_size,
        provenance={"text_encoders": there.manifest["text_encoders"]},
    )
    other_data = command("experiments.train", *SMALL, f"--data_dir={copy}", workdir)
    assert_one_line(other_data, str(trained), str(copy), "another dataset")
    evaluated = command("experiments.evaluate", workdir, f"--data_dir={copy}")
    assert_one_line(evaluated, str(copy), "same items")


def test_a_corrupt_newest_checkpoint_is_passed_over(
    command: Command, dataset: pathlib.Path, trained: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(trained, workdir)
    whole = command("experiments.evaluate", f"--workdir={workdir}", "--resamples=10")
    older, newest = sorted((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))
    for file in newest.rglob("*"):
        if file.is_file() and file.stat().st_size > 200:
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 0xFF
            file.write_bytes(content)
    found = command("experiments.evaluate", f"--workdir={workdir}", "--resamples=10")
    assert found.returncode == 0, found.stderr
    assert str(newest) in found.stderr and "damaged" in found.stderr
    done = command("experiments.train", *SMALL, f"--data_dir={dataset}", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert command("experiments.evaluate", f"--workdir={workdir}", "--resamples=10").stdout == whole.stdout
    shutil.rmtree(older, ignore_errors=True)
    for file in (workdir / "checkpoints").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert_one_line(command("experiments.evaluate", f"--workdir={workdir}"), "checkpoints", "intact")


def test_a_loss_that_stops_being_finite(command: Command, dataset: pathlib.Path, tmp_path: pathlib.Path) -> None:
    rate = "--config.networks.id.learning_rate=1e30"
    flags = (*SMALL, rate, f"--data_dir={dataset}", f"--workdir={tmp_path / 'run'}")
    assert_one_line(command("experiments.train", *flags), "finite", "learning_rate")


def test_a_full_disk(command: Command, dataset: pathlib.Path, tmp_path: pathlib.Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]).returncode:
        pytest.skip("a small file system can be mounted by root only")
    try:
        done = command("experiments.train", *SMALL, f"--data_dir={dataset}", f"--workdir={small / 'run'}")
        assert_one_line(done, "disk is full", str(small), "free some space")
        assert not [path for path in (small / "run" / "checkpoints").iterdir() if path.name.isdigit()]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_recommend_evaluate_and_show(command: Command, trained: pathlib.Path, tmp_path: pathlib.Path) -> None:
    workdir = f"--workdir={trained}"
    assert_one_line(command("experiments.recommend", workdir, "--k=0", input='{"session": ["i3"]}'), "--k=0")
    assert_one_line(command("experiments.evaluate", workdir, "--alpha=0.5,2"), "alpha", "2")
    assert_one_line(command("experiments.evaluate", workdir, "--recommendations=3"), "--ranks_output")
    assert_one_line(command("experiments.show", workdir, "--seed=-1"), "seed", "-1")
    assert_one_line(command("experiments.evaluate", f"--workdir={tmp_path}"), str(tmp_path), "experiments.train")
