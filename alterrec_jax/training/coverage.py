"""Whether the features of a dataset let a system learn: what they do not is refused, or said before training."""

from alterrec_jax.contract import System, tells_items_apart
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.features import catalogue_info, feature_rows, missing_items, preparation_flag
from alterrec_jax.data.price_levels import LEAST_ITEMS, RELATIVE_PRICE
from alterrec_jax.errors import UserError

WORTH_A_NOTE = 0.1
"""The share of the items without a feature from which on it is said."""

_WHY = {RELATIVE_PRICE: f" (no price, or a category with fewer than {LEAST_ITEMS} prices, or with but one price)"}


def coverage_notes(system: System, dataset: Dataset) -> list[str]:
    """Sentences on features that the system reads, and that say nothing, or nothing of many items.

    Raises:
      UserError: a network is to be trained or mined to which all items are the same.
    """
    catalogue, notes = catalogue_info(dataset), []
    tied = {name for name, network in system.networks.items() if not tells_items_apart(network, catalogue)}
    for name in sorted(tied):
        reads = system.networks[name].reads.features
        what = (
            f"the network {name} ranks all items equally, for {_and(reads)} is unknown, or the same, for each of them"
        )
        flags = " or ".join(preparation_flag(feature) for feature in reads)
        if name in _in_use(system):
            raise UserError(
                f"{what}: nothing can be learned from {dataset.path}; prepare it with other {flags}, or train on item "
                "ids, --config=sasrec_beauty say"
            )
        notes.append(f"note: {what}; it is neither trained nor mined. Prepare the dataset with other {flags}")
    said = {feature for name in tied for feature in system.networks[name].reads.features}
    for feature in (*system.reads.features, *system.reads.optional):
        if feature not in said and feature_rows(dataset, feature) is not None:
            notes += _of_feature(feature, system, dataset, feature in catalogue.constant)
    for feature in system.reads.optional:
        if feature_rows(dataset, feature) is None:
            flag = preparation_flag(feature)
            notes.append(f"note: {dataset.path} has no {feature}, which is left out; {flag} of preparation brings it")
    return notes


def _of_feature(feature: str, system: System, dataset: Dataset, constant: bool) -> list[str]:
    """What is to be said of a feature, if there is something."""
    flag = preparation_flag(feature)
    if constant:
        return [f"note: {feature} is unknown, or the same, for every item: it teaches nothing; prepare other {flag}"]
    missing, items = missing_items(dataset, feature), dataset.catalogue_size
    if missing < WORTH_A_NOTE * items:
        return []
    alone = [
        name
        for name, network in system.networks.items()
        if network.places_new_items and set(network.reads.features) == {feature}
    ]
    why = _WHY.get(feature, "")
    tie = f"; the network {_and(alone)} ranks these equally" if alone else ""
    return [
        f"note: {missing:,} of {items:,} items ({missing / items:.0%}) have no {feature}{why}{tie}. Prepare more of "
        f"it by {flag}, or read the metrics with that in mind"
    ]


def _in_use(system: System) -> set[str]:
    """The networks that some stage trains or mines."""
    peers = {name for stage in system.stages for name, _ in stage.peer}
    trained = {name for stage in system.stages for name in stage.trains}
    return trained | {system.components[peer].trained for peer in peers}


def _and(names: list[str] | tuple[str, ...]) -> str:
    return " and ".join(names)
