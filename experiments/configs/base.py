"""How a configuration file is made: a typed record, turned into what absl flags can override."""

from ml_collections import ConfigDict

from alterrec_jax.config import FamilyConfig, to_mapping


def overridable(config: FamilyConfig) -> ConfigDict:
    """The configuration with its fields and types fixed, for `--config.field=value`."""
    return ConfigDict(to_mapping(config))
