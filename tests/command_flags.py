"""The flags of every command of the project, in one process: each command is imported as if it were the only one."""

import contextlib
import importlib
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pytest
from absl import flags

from alterrec_jax.models.registry import read_config
from tests.docs.pages import ROOT

FLAGS = flags.FLAGS
_PACKAGES = ("experiments", "data_tools", "benchmarks", "docs")


class Interface(NamedTuple):
    """What a command understands.

    Attributes:
      flags: by name.
      positional: whether one argument may stand without a flag's name.
    """

    flags: Mapping[str, flags.Flag]
    positional: bool


def command_modules() -> list[str]:
    """Every module that `python -m` runs."""
    paths = [path for package in _PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    commands = [path for path in paths if '__name__ == "__main__"' in path.read_text(encoding="utf-8")]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in commands]


@contextlib.contextmanager
def nothing_imported() -> Iterator[None]:
    """Within it, no command is imported and no flag of one defined; afterwards those of before are again."""
    before = {name: found for name, found in sys.modules.items() if name.split(".")[0] in _PACKAGES}
    with _ours_hidden():
        for name in before:
            del sys.modules[name]
        known = set(FLAGS)
        try:
            yield
        finally:
            for name in [name for name in sys.modules if name.split(".")[0] in _PACKAGES]:
                del sys.modules[name]
            sys.modules.update(before)
            _remove(set(FLAGS) - known)


def interface(module: str) -> Interface:
    """Imports a command anew, among no flags of other commands."""
    with nothing_imported():
        known = set(FLAGS)
        source = pathlib.Path(importlib.import_module(module).__file__ or "").read_text(encoding="utf-8")
        return Interface({name: FLAGS[name] for name in FLAGS if name not in known}, "positional=" in source)


def parse(of: Interface, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parses the words of a command as absl does when it runs, and checks the configuration that they make.

    Raises:
      flags.Error, UserError, AttributeError, KeyError: as the command would refuse them.
      AssertionError: a word is no flag.
    """
    was_parsed = FLAGS.is_parsed()
    monkeypatch.setattr(sys, "argv", ["command", *words])  # where ml_collections looks for overrides
    with _ours_hidden():
        known = set(FLAGS)
        for name, flag in of.flags.items():
            FLAGS[name] = flag
        try:
            rest = FLAGS(["command", *words])[1:]
            assert len(rest) <= of.positional, f"{rest} without a flag's name"
            if "config" in of.flags and FLAGS["config"].value is not None:
                read_config(FLAGS["config"].value.to_dict()).check()
        finally:
            for name in set(FLAGS) - known:
                FLAGS[name].unparse()
            _remove(set(FLAGS) - known)
            FLAGS.unparse_flags()
            if was_parsed:
                FLAGS.mark_as_parsed()


@contextlib.contextmanager
def _ours_hidden() -> Iterator[None]:
    """Without the flags that modules of ours have defined in this process so far."""
    defined, keys = _of_ours(FLAGS.flags_by_module_dict()), _of_ours(FLAGS.key_flags_by_module_dict())
    _remove({flag.name for _, flag in defined})
    try:
        yield
    finally:
        for module, flag in defined:
            FLAGS[flag.name] = flag
            FLAGS.register_flag_by_module(module, flag)
        for module, flag in keys:
            FLAGS.register_key_flag_for_module(module, flag)


def _of_ours(modules: Mapping[str, list[flags.Flag]]) -> list[tuple[str, flags.Flag]]:
    # Not by our packages: absl books flags of a module that disclaims them on whoever imports it.
    return [(module, flag) for module, found in modules.items() if not module.startswith("absl.") for flag in found]


def _remove(names: set[str]) -> None:
    for name in names & set(FLAGS):
        delattr(FLAGS, name)
