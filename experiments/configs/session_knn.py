"""V-SkNN, which only counts: nothing is trained.

    python -m experiments.evaluate --config=session_knn --data_dir=DIR

`popularity`, `cooccurrence` and `session_cooccurrence` stand beside every evaluated model anyway.
"""

from ml_collections import ConfigDict

from alterrec_jax.config_files import overridable
from alterrec_jax.models.session_knn import SessionKNNConfig


def get_config() -> ConfigDict:
    """The configuration of the system."""
    return overridable(SessionKNNConfig())
