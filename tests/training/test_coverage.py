"""What is said, or refused, of features that are unknown for all items or for many."""

import dataclasses
import pathlib
from typing import Any

import polars as pl
import pytest

from alterrec_jax.config import RunConfig
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.features import ID_FEATURES, catalogue_info
from alterrec_jax.errors import UserError
from alterrec_jax.training.checkpoint import read_newest
from alterrec_jax.training.coverage import coverage_notes
from alterrec_jax.training.trainer import Trainer
from tests.conftest import CATALOGUE
from tests.models.families import TINY


def without(dataset: Dataset, share: float, **changed: Any) -> Dataset:
    """The dataset without the texts of some of its items."""
    vectors = dataset.text_vectors.copy()
    vectors[: round(share * len(vectors))] = 0
    return dataclasses.replace(dataset, vectors={"text": vectors}, **changed)


def notes_of(config: RunConfig, dataset: Dataset) -> list[str]:
    """For the system that a configuration builds."""
    return coverage_notes(config.build(catalogue_info(dataset)), dataset)


@pytest.mark.parametrize("name", TINY)
def test_of_what_is_known_nothing_is_said(name: str, dataset: Dataset) -> None:
    tagged = pl.when(pl.col("attributes").list.len() > 0).then("attributes").otherwise(pl.lit(["tag=0"]))
    large = pl.when(pl.col("category") == "kind 0").then("category").otherwise(pl.lit("the other kind"))
    filled = pl.col("brand").fill_null("a maker"), pl.col("price").fill_null(2.5)
    items = dataset.items.with_columns(*filled, attributes=tagged, category=large)
    others = set(TINY[name].build(catalogue_info(dataset)).reads.optional).difference(ID_FEATURES)
    vectors = {**dataset.vectors, **dict.fromkeys(others, dataset.text_vectors)}
    assert notes_of(TINY[name], dataclasses.replace(dataset, items=items, vectors=vectors)) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("alterrec", "the network text ranks all items equally, for text is unknown, or the same, for each of them"),
        ("alterrec of three", "the network text ranks all items equally"),
        ("nfrec", "text is unknown, or the same, for every item: it teaches nothing"),
        ("llm2sasrec", "text is unknown, or the same, for every item"),
        ("sasrec", None),
        ("core", None),
    ],
)
def test_no_text_at_all_is_said_with_what_to_do(name: str, said: str | None, dataset: Dataset) -> None:
    found = [note for note in notes_of(TINY[name], without(dataset, 1)) if "brand" not in note]
    assert len(found) == (said is not None)
    if said:
        assert said in found[0] and found[0].startswith("note: ") and "--text_columns" in found[0]


def test_a_network_alone_that_ties_all_items_is_refused(dataset: Dataset) -> None:
    pair: Any = TINY["alterrec"]
    mining = dataclasses.replace(pair.mining, negatives="full")
    config = dataclasses.replace(pair, networks={"text": pair.networks["text"]}, mining=mining).check()
    with pytest.raises(UserError, match="network text ranks all items equally.*--config=sasrec_beauty"):
        notes_of(config, without(dataset, 1))
    assert notes_of(config, dataset) == []


def test_items_without_text_are_counted_from_a_tenth_on(dataset: Dataset) -> None:
    assert notes_of(TINY["alterrec"], without(dataset, 0.07)) == []
    (note,) = notes_of(TINY["alterrec"], without(dataset, 0.6))
    assert "19 of 29 items (66%) have no text; the network text ranks these equally" in note
    (note,) = notes_of(TINY["nfrec"], without(dataset, 0.6))
    assert "19 of 29 items (66%) have no text. Prepare more of it by --text_columns" in note
    brands = dataset.items["brand"].head(CATALOGUE).null_count()
    (note,) = notes_of(TINY["alterrec of three"], dataset)
    assert f"{brands} of 29 items" in note and "have no brand. " in note


def test_where_no_item_has_a_text_the_other_network_learns(
    dataset: Dataset, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair: Any = TINY["alterrec"]
    networks = {name: dataclasses.replace(network, encoder="mean") for name, network in pair.networks.items()}
    Trainer(dataclasses.replace(pair, networks=networks, epochs=2), without(dataset, 1), tmp_path / "pair").run()
    assert "note: the network text ranks all items equally" in (said := capsys.readouterr().err)
    assert "note: the network id has no peer that ranks anything: its turns are on uniform negatives" in said
    history = read_newest(tmp_path / "pair").meta["run_state"]["history"]
    assert [(record["network"], record["objective"]) for record in history] == [("id", "random")] * 2
    assert all(record["loss"] > 0 and record["gradient_norm"] > 0 for record in history)
    assert history[-1]["loss"] < history[0]["loss"]
    # The fused ranking is that of the network which learned.
    for record in history:
        assert record["fused_hits@20"] == record["id_hits@20"]
