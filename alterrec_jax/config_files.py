"""Configuration files: Python with a `get_config()`, made of typed records, in a form that absl flags can override."""

import importlib.machinery
import traceback
import types
from typing import Any

from ml_collections import ConfigDict

from alterrec_jax.config import FamilyConfig, to_mapping
from alterrec_jax.errors import UserError


def overridable(config: FamilyConfig) -> ConfigDict:
    """The configuration with its fields and types fixed, for `--config.field=value`."""
    return ConfigDict(to_mapping(config))


def run_config_file(path: str, shown: str) -> ConfigDict:
    """The configuration that a file makes, locked.

    Args:
      path: of a Python file with `get_config()`.
      shown: names the file in errors.

    Raises:
      UserError: there is no such file, it fails, or it makes no configuration.
    """
    module: Any = types.ModuleType("config")
    try:
        importlib.machinery.SourceFileLoader("config", path).exec_module(module)
        config = module.get_config() if hasattr(module, "get_config") else None
    except Exception as error:
        raise UserError(f"{shown} fails: {type(error).__name__}: {error}{_line(error, path)}") from None
    if not isinstance(config, ConfigDict):
        raise UserError(f"{shown} has no get_config() that returns a ConfigDict; see experiments/configs")
    return config.lock()


def _line(error: Exception, path: str) -> str:
    """Where in the file it failed; a syntax error says so itself."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f" (line {lines[-1]})" if lines else ""
