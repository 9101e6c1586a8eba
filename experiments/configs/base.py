"""How a configuration file is made: a typed record, turned into what absl flags can override."""

import dataclasses

from ml_collections import ConfigDict

from alterrec_jax.config import AlterRecConfig


def overridable(config: AlterRecConfig) -> ConfigDict:
    """The configuration with its fields and types fixed, for `--config.field=value`."""
    return ConfigDict(dataclasses.asdict(config))
