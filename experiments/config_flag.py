"""The flag --config: a Python file with get_config(), whose fields --config.FIELD=VALUE overrides.

The files of experiments/configs are known by their bare names: --config=best.
"""

import importlib.machinery
import traceback
import types
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from alterrec_jax.errors import UserError
from experiments import shipped

flags.disclaim_key_flags()  # a flag defined here belongs to the command that asks for it, and stands in its --help


class _ConfigFile(flags.ArgumentParser):
    """Tells in one line what is wrong with the file, which ml_collections tells in a traceback, late, or not at all."""

    def parse(self, value: str) -> ConfigDict:
        """The configuration that the file makes.

        Raises:
          UserError: there is no such file or name, it fails, or it makes no configuration.
        """
        path = shipped.config_file(value)
        module: Any = types.ModuleType("config")
        try:
            importlib.machinery.SourceFileLoader("config", path).exec_module(module)
            config = module.get_config() if hasattr(module, "get_config") else None
        except Exception as error:
            raise UserError(f"--config={value} fails: {type(error).__name__}: {error}{_line(error, path)}") from None
        if not isinstance(config, ConfigDict):
            raise UserError(f"--config={value} has no get_config() that returns a ConfigDict; see experiments/configs")
        return config.lock()


def _line(error: Exception, path: str) -> str:
    """Where in the file it failed; a syntax error says so itself."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f" (line {lines[-1]})" if lines else ""


def define(description: str) -> flags.FlagHolder:
    """Defines the flag."""
    holder = config_flags.DEFINE_config_file("config", None, description)
    flags.FLAGS["config"].parser = _ConfigFile()
    return holder
