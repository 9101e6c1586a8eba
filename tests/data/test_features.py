"""What a system is given of the items: ids by the values of the catalogue, vectors, new items behind them."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from alterrec_jax.contract import Reads
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.features import catalogue_info, context_shapes, make_context
from alterrec_jax.errors import UserError
from tests.conftest import CATALOGUE, TEXT_WIDTH


def test_ids_number_the_values_of_the_catalogue_and_null_is_unknown(dataset: Dataset) -> None:
    info, brands = catalogue_info(dataset), dataset.items["brand"].head(CATALOGUE).to_list()
    ids = np.asarray(make_context(dataset, Reads(features=("brand",)), "float32").features["brand"])
    known = sorted({brand for brand in brands if brand is not None})
    assert ids.tolist() == [0 if brand is None else 1 + known.index(brand) for brand in brands]
    assert 0 in ids.tolist()
    assert info.items == CATALOGUE and info.classes == {"category": 5, "brand": len(known) + 1, "attributes": 4}


def test_an_item_has_several_attributes_and_its_row_is_filled_up_with_zeros(dataset: Dataset) -> None:
    ids = np.asarray(make_context(dataset, Reads(features=("attributes",)), "float32").features["attributes"])
    wanted = [None if i % 6 == 1 else list(range(1, 1 + i % 4)) for i in range(CATALOGUE)]
    assert ids.shape == (CATALOGUE, 3) and ids.dtype == np.int32
    assert ids.tolist() == [[*(row or []), 0, 0, 0][:3] for row in wanted]
    none = dataset.items.with_columns(attributes=pl.lit(None, pl.List(pl.String)))
    without = dataclasses.replace(dataset, items=none)
    assert not np.asarray(
        make_context(without, Reads(features=("attributes",)), "float32").features["attributes"]
    ).any()
    assert catalogue_info(without).constant == {"attributes"} and catalogue_info(without).classes["attributes"] == 1


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_what_is_the_same_for_every_item_is_known(dataset: Dataset, value: float) -> None:
    assert catalogue_info(dataset).constant == frozenset()
    vectors = dataset.text_vectors.copy()
    vectors[:CATALOGUE] = value  # items that cannot be recommended do not count
    items = dataset.items.with_columns(category=pl.lit("all"), brand=pl.lit(None, pl.String))
    same = dataclasses.replace(dataset, vectors={"text": vectors, "image": dataset.text_vectors}, items=items)
    assert catalogue_info(same).constant == {"text", "category", "brand"}
    vectors[CATALOGUE - 1, 0] += 1
    assert catalogue_info(same).constant == {"category", "brand"}


def test_new_items_stand_behind_the_catalogue(dataset: Dataset) -> None:
    new = np.ones((3, TEXT_WIDTH), np.float32)
    found = make_context(dataset, Reads(features=("text",)), "float32", {"text": new}).features["text"]
    np.testing.assert_array_equal(found[:CATALOGUE], dataset.text_vectors[:CATALOGUE])
    np.testing.assert_array_equal(found[CATALOGUE:], new)


def test_shapes_are_those_of_what_is_made(dataset: Dataset) -> None:
    reads = Reads(features=("text", "category", "attributes"), optional=("image",), graphs=("cooccurrence",))
    made, shapes = make_context(dataset, reads, "bfloat16"), context_shapes(dataset, reads, "bfloat16")
    assert "image" not in made.features
    for kind in ("features", "graphs"):
        assert getattr(made, kind).keys() == getattr(shapes, kind).keys()
    for name, array in made.features.items():
        assert (array.shape, array.dtype) == (shapes.features[name].shape, shapes.features[name].dtype)


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("image", "data_tools.label_images or --vectors=image=FILE.npy"),
        ("text_and_image", "data_tools.label_images"),
        ("text2", "--vectors=text2="),
    ],
)
def test_what_is_needed_and_lacking_is_named_with_the_flag_that_brings_it(
    dataset: Dataset, name: str, flag: str
) -> None:
    with pytest.raises(UserError, match=f"this system needs {name} of the items, .*{flag}"):
        make_context(dataset, Reads(features=(name,)), "float32")
