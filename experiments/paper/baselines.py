"""The models of the comparison that only count, by the names that tables give them."""

from collections.abc import Callable

from alterrec_jax.data.dataset import Dataset, Sessions
from alterrec_jax.evaluation.baselines import (
    Rows,
    cooccurrence_rows,
    count_cooccurrence,
    popularity_rows,
    session_cooccurrence_rows,
)
from alterrec_jax.evaluation.protocol import Protocol
from alterrec_jax.evaluation.targets import Targets
