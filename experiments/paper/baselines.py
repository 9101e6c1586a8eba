"""The models of the comparison that only count, by the names that tables give them."""

from collections.abc import Callable

from alterrec_jax.data.dataset import Dataset, Sessions
from alterrec_jax.data.targets import Targets
from alterrec_jax.evaluation.protocol import Protocol
from alterrec_jax.models.counting import (
    Rows,
    cooccurrence_rows,
    count_cooccurrence,
    popularity_rows,
    session_cooccurrence_rows,
)
from alterrec_jax.models.session_knn import choose, session_knn_rows
from alterrec_jax.runtime.console import log

Baseline = Callable[[Dataset, Protocol, Sessions, Targets, str], Rows]
"""Given a dataset, a protocol, sessions, some of their targets, and the metric that validation chooses by."""


def _popularity(dataset: Dataset, protocol: Protocol, sessions: Sessions, targets: Targets, metric: str) -> Rows:
    return popularity_rows(dataset)


def _last_item(dataset: Dataset, protocol: Protocol, sessions: Sessions, targets: Targets, metric: str) -> Rows:
    return cooccurrence_rows(count_cooccurrence(dataset, sessions), sessions, targets)


def _whole_session(dataset: Dataset, protocol: Protocol, sessions: Sessions, targets: Targets, metric: str) -> Rows:
    return session_cooccurrence_rows(count_cooccurrence(dataset, sessions), sessions, targets)


def _session_knn(dataset: Dataset, protocol: Protocol, sessions: Sessions, targets: Targets, metric: str) -> Rows:
    settings = choose(dataset, protocol, metric)
    log(f"V-SkNN: validation chose {settings}")
    return session_knn_rows(dataset, sessions, targets, **settings._asdict())


BASELINES: dict[str, Baseline] = {
    "Popularity": _popularity,
    "Association rules (last item)": _last_item,
    "Co-occurrence (whole session)": _whole_session,
    "V-SkNN": _session_knn,
}
