"""The ranking protocol, and the views of a model that it compares."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from alterrec_jax.config import ProtocolConfig
from alterrec_jax.contract import View
from alterrec_jax.data.dataset import Dataset, Sessions
from alterrec_jax.data.targets import Targets, select_targets
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.metrics import KS, summarise
from alterrec_jax.evaluation.ranking import Ranks, rank_targets
from alterrec_jax.evaluation.recommended import Recommended
from alterrec_jax.sharding import mesh

QueryProvider = Callable[[Sessions, Targets], Iterable[Mapping[str, Any]]]
"""Given sessions and some of their targets, in order: batches of component -> float32 [b, dim] queries, each the
session embedding of the items before a target, divided by the component's temperature."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What is ranked against what: one choice for validation, test and recommendation.

    Attributes:
      targets: "last": the last item of each session; "all_prefixes": every item after the first.
      exclude_session_items: whether what a session holds before the target is no candidate. In shopping sessions people
        return to items, so it is by default; the literature on reviews leaves out what a user has.
      ks: the cut-offs of the metrics.
    """

    targets: str = "all_prefixes"
    exclude_session_items: bool = False
    ks: tuple[int, ...] = KS

    def select(self, dataset: Dataset, split: str) -> Targets:
        """The targets of a split; a UserError if there is none."""
        targets = select_targets(dataset.splits[split], self.targets)
        if not len(targets):
            raise UserError(f"the {split} split of {dataset.path} has no session of two items or more to rank")
        return targets


def protocol_of(config: ProtocolConfig, dataset: Dataset) -> Protocol:
    """The protocol that a configuration asks for, on a dataset."""
    return Protocol(config.targets, config.excludes_session_items(dataset.exclude_session_items))


def weight_sweep(fusion: View, weights: Iterable[float]) -> dict[str, View]:
    """A fusion of two components under several weights of the first (alpha), named by them: {"0": ..., "0.25": ...}.

    Raises:
      UserError: a weight is outside [0, 1], or not two components are fused.
    """
    if len(fusion) != 2:
        raise UserError(f"--alpha weighs the first of two networks, but the main view is made of {', '.join(fusion)}")
    first, second = fusion
    found: dict[str, View] = {}
    for weight in weights:
        if not 0 <= weight <= 1:
            raise UserError(f"alpha is {weight}, but it weighs {first} scores against {second} scores: 0 to 1")
        found[repr(float(weight)).removesuffix(".0")] = {first: weight, second: 1 - weight}
    return found


def rank_split(
    dataset: Dataset,
    split: str,
    targets: Targets,
    provider: QueryProvider,
    tables: Mapping[str, Any],
    views: Mapping[str, View],
    protocol: Protocol,
    batch_size: int | None = None,
    recommended: Recommended | None = None,
) -> dict[str, Ranks]:
    """Ranks targets of a split under every view; see `ranking.rank_targets`."""
    rows = mesh.padded(dataset.catalogue_size, mesh.MODEL)
    if sizes := {name: len(table) for name, table in tables.items() if len(table) != rows}:
        raise ValueError(f"tables must hold the {dataset.catalogue_size} items of the catalogue, these do not: {sizes}")
    sessions = dataset.splits[split]
    exclude = sessions if protocol.exclude_session_items else None
    queries = provider(sessions, targets)
    return rank_targets(
        queries,
        tables,
        views,
        targets,
        catalogue=dataset.catalogue_size,
        exclude=exclude,
        batch_size=batch_size,
        recommended=recommended,
    )


def validate(
    dataset: Dataset,
    provider: QueryProvider,
    tables: Mapping[str, Any],
    views: Mapping[str, View],
    protocol: Protocol,
    batch_size: int | None = None,
) -> dict[str, dict[str, float]]:
    """The metrics of each view on the validation split, as a trainer wants them after an epoch.

    Args:
      dataset: what the model was trained on.
      provider: encodes prefixes; see `QueryProvider`.
      tables: of each component, float32 [catalogue, dim].
      views: of each view, the weights of its components.
      protocol: what is ranked against what.
      batch_size: as of `ranking.rank_targets`.

    Returns:
      of each view, "hits@10" and so on.

    Raises:
      UserError: the split has no target, or a score is not finite.
    """
    targets = protocol.select(dataset, "validation")
    ranks = rank_split(dataset, "validation", targets, provider, tables, views, protocol, batch_size)
    return {view: summarise(rank.above, rank.equal, protocol.ks) for view, rank in ranks.items()}
