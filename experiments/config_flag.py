"""The flag --config: a Python file with get_config(), whose fields --config.FIELD=VALUE overrides.

The files of experiments/configs are known by their bare names: --config=best.
"""

from absl import flags
from ml_collections import ConfigDict, config_flags

from alterrec_jax.config_files import run_config_file
from experiments import shipped

flags.disclaim_key_flags()  # a flag defined here belongs to the command that asks for it, and stands in its --help


class _ConfigFile(flags.ArgumentParser):
    """Tells in one line what is wrong with the file, which ml_collections tells in a traceback, late, or not at all."""

    def parse(self, value: str) -> ConfigDict:
        """The configuration that the file makes; a `UserError` where it makes none, or no such name is shipped."""
        return run_config_file(shipped.config_file(value), f"--config={value}")


def define(description: str) -> flags.FlagHolder:
    """Defines the flag."""
    holder = config_flags.DEFINE_config_file("config", None, description)
    flags.FLAGS["config"].parser = _ConfigFile()
    return holder
