"""No held-out session reaches what is trained, in any system that reads a graph, statistics or a fit of its own."""

import dataclasses
import pathlib
from collections.abc import Callable

import jax
import numpy as np
import polars as pl
import pytest

from alterrec_jax.config import RunConfig
from alterrec_jax.contract import CatalogueInfo
from alterrec_jax.data.dataset import Dataset, Sessions
from alterrec_jax.data.features import catalogue_info
from alterrec_jax.data.graphs import GRAPHS
from alterrec_jax.serving.trained_model import load_trained
from alterrec_jax.training.trainer import Trainer
from tests.conftest import CATALOGUE, ITEMS
from tests.models.families import TINY

COUNTED = ("relative_price",)  # features that are statistics
HELD_OUT = ("validation", "test")


def reads_statistics(config: RunConfig) -> bool:
    """Whether a system reads what is counted, of sessions or of items, or is fitted by no step."""
    system = config.build(
        CatalogueInfo(CATALOGUE, {"category": 5, "brand": 8, "attributes": 4}, users=5, price_coverage=1.0)
    )
    features = {*system.reads.features, *system.reads.optional}
    fitted = any(network.fit is not None for network in system.networks.values())
    return bool(system.reads.graphs) or fitted or not features.isdisjoint(COUNTED)


def held_out(dataset: Dataset, change: Callable[[Sessions], Sessions]) -> Dataset:
    """The dataset with a change to its validation and to its test sessions."""
    changed = {name: change(sessions) for name, sessions in dataset.splits.items() if name in HELD_OUT}
    return dataclasses.replace(dataset, splits={**dataset.splits, **changed})


def picked(sessions: Sessions, chosen: np.ndarray) -> Sessions:
    """Some sessions of a split, in some order."""
    parts = [sessions[number] for number in chosen]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    names = pl.Series(chosen)
    return dataclasses.replace(
        sessions,
        items=np.concatenate(parts),
        offsets=offsets,
        first_target=sessions.first_target[chosen],
        session_ids=sessions.session_ids.gather(names),
        user_ids=sessions.user_ids.gather(names),
    )


def all_but_one_deleted(sessions: Sessions) -> Sessions:
    """The first session: without any there is nothing to validate."""
    return picked(sessions, np.arange(1))


def permuted(sessions: Sessions) -> Sessions:
    """The same sessions in another order, each from its end to its beginning."""
    turned = picked(sessions, np.random.default_rng(3).permutation(len(sessions)))
    ends = np.repeat(turned.offsets[:-1] + turned.offsets[1:] - 1, turned.lengths)
    return dataclasses.replace(turned, items=turned.items[ends - np.arange(len(turned.items))])


def replaced(sessions: Sessions) -> Sessions:
    """Sessions of the same lengths of other items."""
    drawn = np.random.default_rng(5).integers(0, ITEMS, len(sessions.items))
    return dataclasses.replace(sessions, items=drawn.astype(sessions.items.dtype))


CHANGES = (all_but_one_deleted, permuted, replaced)
NAMES = [name for name, config in TINY.items() if reads_statistics(config)]


def trained(config: RunConfig, dataset: Dataset, workdir: pathlib.Path) -> list[np.ndarray]:
    """Every parameter after one epoch of the last stage, which is the best one whatever validation says."""
    epochs = 1 + getattr(config, "independent_epochs", 0)
    Trainer(dataclasses.replace(config, epochs=epochs), dataset, workdir).run()
    return [np.asarray(leaf) for leaf in jax.tree.leaves(load_trained(workdir).params)]


def differences(config: RunConfig, dataset: Dataset, workdir: pathlib.Path) -> dict[str, bool]:
    """Of each change to the held-out sessions, whether any trained array has other bits then."""
    first = trained(config, dataset, workdir / "as it is")
    found = {}
    for change in CHANGES:
        again = trained(config, held_out(dataset, change), workdir / change.__name__)
        found[change.__name__] = not all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_held_out_sessions_change_no_bit_of_what_is_trained(
    name: str, dataset: Dataset, tmp_path: pathlib.Path
) -> None:
    assert differences(TINY[name], dataset, tmp_path) == dict.fromkeys((c.__name__ for c in CHANGES), False)


def test_a_graph_of_held_out_sessions_too_is_seen(
    dataset: Dataset, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leak that is planted: the graph counts the test sessions, as some released code does."""
    name = "cooccurrence"
    config = TINY["srim"]
    assert name in config.build(catalogue_info(dataset)).reads.graphs
    own, seen = GRAPHS[name], {"dataset": dataset}

    def leaking(train: Sessions, items: int) -> object:
        test = seen["dataset"].splits["test"]
        both = dataclasses.replace(
            train,
            items=np.concatenate([train.items, test.items]),
            offsets=np.concatenate([train.offsets, train.offsets[-1] + test.offsets[1:]]),
        )
        return own(both, items)

    monkeypatch.setitem(GRAPHS, name, leaking)  # type: ignore[arg-type]
    first = trained(config, dataset, tmp_path / "as it is")
    for change in CHANGES:
        seen["dataset"] = held_out(dataset, change)
        again = trained(config, seen["dataset"], tmp_path / change.__name__)
        same = all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
        assert same == (change is permuted), "a permuted session holds the same items, whose order no graph reads"
