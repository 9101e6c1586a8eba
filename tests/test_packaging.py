"""pyproject.toml and requirements.txt speak of the same packages, and the version stands in one place."""

import pathlib
import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from alterrec_jax import __version__

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pins(name: str) -> dict[str, str]:
    """The versions of a file of requirements, by package."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pinned = [line.split("==") for line in lines if "==" in line]
    return {canonicalize_name(package): version for package, version in pinned}


def wanted(lines: list[str]) -> dict[str, Requirement]:
    """The requirements of pyproject.toml by package, but for those that name this project's own extras."""
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(one.name): one for one in found if one.name != PROJECT["name"]}


def test_what_a_user_installs_is_what_was_tested_together() -> None:
    lines = [*PROJECT["dependencies"], *(line for name, part in EXTRAS.items() if name != "dev" for line in part)]
    assert wanted(lines).keys() == pins("requirements.txt").keys()
    assert wanted(EXTRAS["dev"]).keys() == pins("requirements-dev.txt").keys()
    pinned = pins("requirements.txt") | pins("requirements-dev.txt")
    too_old = [
        str(one) for name, one in (wanted(lines) | wanted(EXTRAS["dev"])).items() if pinned[name] not in one.specifier
    ]
    assert too_old == []


def test_dev_has_all_extras() -> None:
    (own,) = [Requirement(line) for line in EXTRAS["dev"] if line.startswith(PROJECT["name"])]
    assert own.extras == EXTRAS.keys() - {"dev"}


def test_the_version_stands_in_one_place() -> None:
    assert "version" not in PROJECT and PROJECT["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
