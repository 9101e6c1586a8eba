"""The one command: what it lists, and what it runs."""

import pathlib
import runpy
import sys
from typing import Any

import pytest

from alterrec_jax import __version__
from experiments import __main__ as dispatcher

ROOT = pathlib.Path(__file__).parents[2]
FOLDERS = ("experiments", "experiments/paper", "experiments/srim_paper", "data_tools")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["alterrec", *arguments])
    return dispatcher.main()


def test_every_module_that_is_a_command_is_listed() -> None:
    paths = [path for folder in FOLDERS for path in (ROOT / folder).glob("*.py") if path.stem != "__main__"]
    guarded = [path for path in paths if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in guarded}
    of_studies = [module for study in dispatcher.STUDIES for module in dispatcher.commands_of(study).values()]
    assert {*dispatcher.COMMANDS.values(), *of_studies} == modules


@pytest.mark.parametrize("arguments", [(), ("--help",), ("paper",), ("paper", "-h"), ("srim_paper",)])
def test_help_has_a_line_a_command(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    named = [line.split()[0] for line in lines if line.startswith("  ")]
    study = next((word for word in arguments if word in dispatcher.STUDIES), "")
    listed = dispatcher.commands_of(study) if study else [*dispatcher.COMMANDS, *dispatcher.STUDIES]
    assert named == list(listed)
    assert all(len(line.split()) > 3 and line.endswith((".", "]")) for line in lines if line.startswith("  "))


def test_the_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"alterrec_jax {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("trian",), "alterrec has no command 'trian'; did you mean 'train'?"),
        (("--config=best",), "alterrec has no command '--config=best'"),
        (("paper", "alhpa"), "alterrec paper has no command 'alhpa'; did you mean 'alpha'?"),
        (("\x1b[2J",), r"\x1b[2J"),
    ],
)
def test_an_unknown_command_is_one_line(
    arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *arguments) == 1
    told = capsys.readouterr().err
    assert words in told and told.startswith("error: ") and told.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "module"),
    [(("train", "--seed=1"), "experiments.train"), (("paper", "k1", "--seed=1"), "experiments.paper.k1")],
)
def test_a_command_is_run_as_python_does_with_its_own_flags(
    arguments: tuple[str, ...], module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(runpy, "run_module", lambda name, **how: ran.append((name, how, sys.argv[1:])))
    assert run(monkeypatch, *arguments) == 0
    assert ran == [(module, {"run_name": "__main__", "alter_sys": True}, ["--seed=1"])]
