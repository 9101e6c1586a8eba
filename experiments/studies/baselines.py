"""The systems of the comparison that only count, by the names that tables give them."""

from collections.abc import Callable

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.evaluation.protocol import Protocol
from alterrec_jax.evaluation.tuning import choose
from alterrec_jax.models.counting import (
    CooccurrenceConfig,
    CountedConfig,
    PopularityConfig,
    SessionCooccurrenceConfig,
)
from alterrec_jax.models.session_knn import SessionKNNConfig
from alterrec_jax.runtime.console import log

Baseline = Callable[[Dataset, Protocol, str], CountedConfig]
"""Given a dataset, a protocol, and the metric that validation chooses by: the system, its settings chosen."""


def _session_knn(dataset: Dataset, protocol: Protocol, metric: str) -> SessionKNNConfig:
    chosen = choose(dataset, protocol, metric)
    log(f"V-SkNN: validation chose neighbours={chosen.neighbours} idf={chosen.idf} remind={chosen.remind}")
    return chosen


BASELINES: dict[str, Baseline] = {
    "Popularity": lambda *_: PopularityConfig(),
    "Association rules (last item)": lambda *_: CooccurrenceConfig(),
    "Co-occurrence (whole session)": lambda *_: SessionCooccurrenceConfig(),
    "Co-occurrence, own items first": lambda *_: SessionCooccurrenceConfig(own_items_first=True),
    "V-SkNN": _session_knn,
}
