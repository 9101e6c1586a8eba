"""Configurations and search spaces by their bare names."""

import pathlib

import pytest

from alterrec_jax.errors import UserError
from experiments import shipped
from experiments.config_flag import _ConfigFile


def test_a_bare_name_is_a_configuration_of_the_package(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "best").write_text("raise ValueError")
    assert pathlib.Path(shipped.config_file("best")).parts[-3:] == ("experiments", "configs", "best.py")
    assert _ConfigFile().parse("best").model == "alterrec"
    assert pathlib.Path(shipped.space_file("paper")).parts[-3:] == ("experiments", "spaces", "paper.json")


@pytest.mark.parametrize("value", ["best.py", "./best", "somewhere/best", "/somewhere/best.py", "./best.py"])
def test_what_looks_like_a_path_is_one(value: str) -> None:
    assert shipped.config_file(value) == value


@pytest.mark.parametrize(
    ("value", "words"),
    [("bets", "did you mean 'best'"), ("base", "'base' ("), ("", "mine.py"), ("paper.json", "by its path")],
)
def test_an_unknown_name_is_told_with_the_nearest(value: str, words: str) -> None:
    with pytest.raises(UserError, match="no configuration is called ") as told:
        shipped.config_file(value)
    assert words in str(told.value) and "experiments/configs" in str(told.value)
