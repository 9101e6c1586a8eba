"""Levels of prices within categories, by hand; what has none; and catalogues that have too few prices."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

from alterrec_jax.contract import CatalogueInfo, Reads
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.features import catalogue_info, context_shapes, make_context
from alterrec_jax.data.price_levels import (
    LEAST_ITEMS,
    RELATIVE_PRICE,
    price_levels,
    relative_prices,
    require_prices,
)
from alterrec_jax.errors import UserError
from tests.conftest import CATALOGUE


def levels_of(prices: list[float | None], category: list[str | None], levels: int, least_items: int) -> list[int]:
    """Of items in some categories."""
    items = pl.DataFrame({"price": prices, "category": category}, schema={"price": pl.Float64, "category": pl.String})
    return price_levels(jnp.asarray(relative_prices(items, least_items)), levels).tolist()  # type: ignore[no-any-return]


def test_levels_are_those_of_a_calculation_by_hand() -> None:
    # m = 22, s = 43.618; F = 0.7055 for 1, then 0.6963, 0.6870, 0.6775, and 0.0375 for 100: four share the first level.
    assert levels_of([1, 2, 3, 4, 100], ["a"] * 5, 10, 5) == [1, 1, 1, 1, 11]
    # m = 3.2, s = 1.924; r = 0, 0.161, 0.415, 0.692, 1.
    assert levels_of([1, 2, 3, 4, 6], ["a"] * 5, 10, 5) == [1, 2, 5, 7, 11]
    # Three at equal distances: the middle one stands at the mean, where r is a half.
    assert levels_of([3, 1, 2], ["a"] * 3, 10, 3) == [11, 1, 6]
    assert levels_of([3, 1, 2], ["a"] * 3, 2, 3) == [3, 1, 2]


def test_categories_are_apart_and_unknown_ones_together() -> None:
    prices: list[float | None] = [1, 1000, 2, 2000, 3, 3000, 5, 7]
    category = ["a", None, "a", None, "a", None, "few", "few"]
    assert levels_of(prices, category, 10, 3) == [1, 1, 6, 6, 11, 11, 0, 0]


def test_what_has_no_place_among_prices_has_level_zero() -> None:
    prices: list[float | None] = [1, 2, None, 3, 4, 4, 4, None]
    assert levels_of(prices, ["a"] * 4 + ["b"] * 4, 10, 3) == [1, 6, 0, 11, 0, 0, 0, 0]
    assert levels_of(prices, ["a"] * 4 + ["b"] * 4, 10, 4) == [0] * 8, "of an item without a price nothing is counted"
    assert levels_of([0.1] * 12, ["a"] * 12, 10, LEAST_ITEMS) == [0] * 12
    assert levels_of([None] * 3, ["a"] * 3, 10, 1) == [0] * 3


def test_prices_that_are_far_apart_overflow_nothing() -> None:
    found = relative_prices(pl.DataFrame({"price": [1.0] * 99_999 + [2.0, 1e12]}))
    assert np.isfinite(found).all() and (found[:-1] == 1).all() and found[-1] == 2


def test_a_model_gets_the_catalogues_prices_in_float32(dataset: Dataset) -> None:
    reads = Reads(features=(RELATIVE_PRICE,))
    found = np.asarray(make_context(dataset, reads, "bfloat16").features[RELATIVE_PRICE])
    shape = context_shapes(dataset, reads, "bfloat16").features[RELATIVE_PRICE]
    assert (found.shape, found.dtype) == (shape.shape, shape.dtype) == ((CATALOGUE, 1), np.float32)
    items = dataset.items.head(CATALOGUE)
    for place, (price, category) in enumerate(items["price", "category"].iter_rows()):
        among = [p for p, c in items["price", "category"].iter_rows() if c == category and p is not None]
        expected = 0.0
        if price is not None and len(among) >= LEAST_ITEMS:
            mean = sum(among) / len(among)
            deviation = math.sqrt(sum((p - mean) ** 2 for p in among) / (len(among) - 1))
            own, low, high = (
                1 / (1 + math.exp((p - mean) * math.pi / math.sqrt(3) / deviation))
                for p in (price, min(among), max(among))
            )
            expected = 1 + (own - low) / (high - low)
        assert found[place, 0] == pytest.approx(expected, rel=1e-6)
    assert 0 in found and (found > 0).any()
    dear = pl.when(pl.int_range(pl.len()) < CATALOGUE).then("price").otherwise(1e6)
    others = dataclasses.replace(dataset, items=dataset.items.with_columns(price=dear))
    np.testing.assert_array_equal(make_context(others, reads, "float32").features[RELATIVE_PRICE], found)
    prices = dataset.items["price"].head(CATALOGUE)
    assert catalogue_info(dataset).price_coverage == pytest.approx(1 - prices.null_count() / CATALOGUE)


def test_few_prices_are_refused_with_what_there_is_and_the_remedy() -> None:
    def asked(share: float, sparse: bool = False) -> None:
        require_prices(CatalogueInfo(7, price_coverage=share), "cohhn", "network.sparse_prices", sparse)

    asked(0.5)
    asked(0.01, sparse=True)
    column = "the column price has one for 30% of the catalogue's items"
    flags = "prepare the dataset with --price_column or --interaction_price_column"
    with pytest.raises(UserError, match=f"cohhn needs prices, but {column}.*{flags}; --config.network.sparse_prices"):
        asked(0.3)
    with pytest.raises(UserError, match=f"for 0% of .*{flags}$"):
        asked(0, sparse=True)


def test_a_dataset_without_prices_is_named_with_the_flag_that_brings_them(dataset: Dataset) -> None:
    without = dataclasses.replace(dataset, items=dataset.items.drop("price"))
    assert catalogue_info(without).price_coverage == 0
    with pytest.raises(UserError, match=f"needs {RELATIVE_PRICE} of the items, .*--interaction_price_column"):
        make_context(without, Reads(features=(RELATIVE_PRICE,)), "float32")
