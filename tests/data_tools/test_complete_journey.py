"""Complete Journey from the installed package."""

import numpy as np
import polars as pl
import pytest

from alterrec_jax.data.dataset import Dataset
from data_tools import description
from data_tools.sources import complete_journey
from tests.data_tools.examples import as_items, prepared


@pytest.fixture(scope="module")
def last_week(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("journey")
    return prepared(folder, source="complete_journey", weeks=3, min_item_count=3)


def test_baskets_are_what_the_package_holds(last_week: Dataset) -> None:
    rows = pl.read_parquet(complete_journey._package_data() / "transactions.parquet")
    held_out = {name: set(items) for split in ("validation", "test") for name, items, _ in as_items(last_week, split)}
    for name, items in list(held_out.items())[:20]:
        basket = rows.filter((pl.col("basket_id") == int(name)) & (pl.col("quantity") > 0))
        assert items == set(basket["product_id"].cast(pl.String))
    split = last_week.splits["test"]
    basket = rows.filter(pl.col("basket_id") == int(split.session_ids[0]))
    assert split.user_ids[0] == str(basket["household_id"][0])


def test_the_split_is_by_time(last_week: Dataset) -> None:
    rows = pl.read_parquet(complete_journey._package_data() / "transactions.parquet")
    times = dict(rows.select(pl.col("basket_id").cast(pl.String), "transaction_timestamp").unique().iter_rows())
    of_split = {name: [times[s] for s in part.session_ids] for name, part in last_week.splits.items()}
    assert max(of_split["train"]) <= min(of_split["validation"])
    assert max(of_split["validation"]) <= min(of_split["test"])
    before = {step["step"]: step["sessions"] for step in last_week.manifest["steps"]}["before the split"]
    assert len(of_split["test"]) == len(of_split["validation"]) == round(before * 0.05)


def test_the_order_in_a_basket_is_not_the_product_ids(last_week: Dataset) -> None:
    sessions = [[int(item) for item in items] for _, items, _ in as_items(last_week, "test") if len(items) > 3]
    assert np.mean([items == sorted(items) for items in sessions]) < 0.05
    assert "random inside a basket" in last_week.manifest["order"]["rule"]
    assert last_week.manifest["order"]["ordered"] is False and not last_week.ordered
    assert "; encoder=auto is the mean here" in description.as_text(description.describe(last_week))


def test_items_have_texts_and_short_names(last_week: Dataset) -> None:
    assert last_week.manifest["items_without_text"] == 0
    # As published, capitals and all: texts of new items are read by the same rule, and must not differ from these.
    assert last_week.items["text"].str.contains("National|Private").all()
    assert last_week.manifest["text_encoders"]["text"]["columns"] == list(complete_journey.TEXT_COLUMNS)
    assert (last_week.items["name"] == last_week.items["name"].str.to_lowercase()).all()
    assert last_week.items["name"].str.len_chars().max() < 80  # type: ignore[operator]
    assert all(len(set(items)) == len(items) for _, items, _ in as_items(last_week, "train"))


def test_prices_are_those_of_the_shelf_in_training(last_week: Dataset) -> None:
    rows = pl.read_parquet(complete_journey._package_data() / "transactions.parquet")
    trained = rows.filter(
        pl.col("basket_id").cast(pl.String).is_in(last_week.splits["train"].session_ids.to_list())
        & (pl.col("quantity") > 0)
    )
    prices = dict(last_week.items["item_id", "price"].iter_rows())
    for item in last_week.items["item_id"][: last_week.catalogue_size : 500]:
        bought = trained.filter(pl.col("product_id") == int(item))
        each = (bought["sales_value"] + bought["retail_disc"]) / bought["quantity"]
        assert prices[item] == pytest.approx(np.median([price for price in each if price > 0]))
    assert last_week.items["price"][last_week.catalogue_size :].null_count() == len(last_week.items) - (
        last_week.catalogue_size
    )


def test_products_bring_their_attributes(last_week: Dataset) -> None:
    products = pl.read_parquet(complete_journey._package_data() / "products.parquet")
    first = last_week.items.row(0, named=True)
    published = products.filter(pl.col("product_id") == int(first["item_id"])).row(0, named=True)
    assert (first["category"], first["brand"]) == (published["product_type"], published["brand"])
    assert set(first["attributes"]) <= {f"{name}={published[name]}" for name in complete_journey.ATTRIBUTE_COLUMNS}
    assert f"brand={published['brand']}" in first["attributes"]
    notes = last_week.manifest["attributes"]
    assert set(notes) == {"price", "category", "brand", "attributes"}
    assert all(0.95 < note["catalogue_coverage"] <= 1 for note in notes.values())


def test_no_basket_holds_a_product_twice(last_week: Dataset) -> None:
    assert last_week.exclude_session_items and last_week.manifest["protocol"]["repeats"] == 0
    alone = last_week.splits["test"].alone
    assert alone is not None and not alone.any()
    order = last_week.manifest["order"]
    assert 0.48 < order["tied_pairs_ascending"] / order["tied_pairs"] < 0.52
