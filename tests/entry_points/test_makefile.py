"""`make setup` makes .venv, leaves a good one as it is, and makes one anew that another run of it left half-made."""

import os
import pathlib
import shutil
import subprocess

import pytest

from tests.entry_points.conftest import ROOT

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")

# Stands in for Python, and puts itself into the .venv that it makes; needs neither time nor network.
PYTHON = """#!/bin/sh
echo "$@" >> calls
case "$*" in *"venv --clear .venv") rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python;; esac
"""
WITHOUT_PIP = '#!/bin/sh\n[ "$2" != pip ]\n'
MAKE_VENV = "-m venv --clear .venv"


def write_program(path: pathlib.Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("python", "made"),
    [(None, True), ("", True), (WITHOUT_PIP, True), (PYTHON, False)],
    ids=["no .venv", "no python in it", "no pip in it", "a good one"],
)
def test_setup(tmp_path: pathlib.Path, python: str | None, made: bool) -> None:
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / name, tmp_path)
    write_program(tmp_path / "python", PYTHON)
    if python is not None:
        (tmp_path / ".venv").mkdir()
        (tmp_path / ".venv" / "left").touch()
    if python:
        write_program(tmp_path / ".venv" / "bin" / "python", python)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "setup", "PYTHON=./python"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text()
    assert (MAKE_VENV in calls) == made, calls
    assert "-r requirements-dev.txt" in calls.splitlines()[-1]
    assert (tmp_path / ".venv" / "ready").exists()
    assert (tmp_path / ".venv" / "left").exists() == (not made)
