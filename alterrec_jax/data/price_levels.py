"""Where an item's price stands among those of its category, and the levels that models cut that into.

Of the items of a category that have a price, with mean m and standard deviation s (of a sample), CoHHN takes prices to
follow a logistic distribution:

    F(x) = 1 / (1 + exp(pi (x - m) / (sqrt(3) s))),  r(x) = (F(x) - F(lowest)) / (F(highest) - F(lowest))
    level = floor(K r) + 1

F falls, but r rises: from 0, of the cheapest item, which has level 1, to 1, of the dearest, which has level K + 1.
Level 0 is "unknown": an item without a price, of a category with fewer than `LEAST_ITEMS` prices, or with one price
only. Items whose category is unknown are a category; without a column for it all items are one.

The released code drops items that would have level 0, and makes F of all items that a shop ever listed; here it is of
the catalogue alone, whose prices are those of training where they come from interactions.
"""

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from alterrec_jax.contract import CatalogueInfo
from alterrec_jax.errors import UserError

RELATIVE_PRICE = "relative_price"
"""The feature that models read: float32 [item, 1], 1 + r(x), 0 where unknown. It does not depend on K."""

PRICE_FLAGS = "--price_column or --interaction_price_column"
LEAST_ITEMS = 10
LEAST_COVERAGE = 0.5


def relative_prices(items: pl.DataFrame, least_items: int = LEAST_ITEMS) -> np.ndarray:
    """float32 [item, 1], the feature `RELATIVE_PRICE`.

    Args:
      items: of the catalogue alone; columns price (float, above 0 or null) and, if known, category (str or null).
      least_items: prices that a category needs.
    """
    from scipy.special import expit

    category = pl.col("category") if "category" in items.columns else pl.lit("all").alias("category")
    price = pl.col("price")
    statistics = [price.count(), price.mean(), price.std(), price.min(), price.max()]
    found = items.select(price, category).select(
        price, *(one.over("category").alias(str(place)) for place, one in enumerate(statistics))
    )
    columns = (found[name].to_numpy().astype(np.float64) for name in found.columns)
    prices, count, mean, deviation, lowest, highest = columns
    known = ~np.isnan(prices) & (count >= least_items) & (lowest < highest) & (deviation > 0)
    scale = np.pi / (np.sqrt(3) * np.where(known, deviation, 1))

    def falling(values: np.ndarray) -> np.ndarray:
        return np.asarray(expit(scale * (mean - values)))

    with np.errstate(invalid="ignore"):
        ratio = (falling(prices) - falling(lowest)) / (falling(highest) - falling(lowest))
    return np.where(known, 1 + ratio, 0).astype(np.float32)[:, None]


def price_levels(relative: jax.Array, levels: int) -> jax.Array:
    """int32 [item], from 0, "unknown", to `levels` + 1, of the dearest.

    Args:
      relative: the feature `RELATIVE_PRICE`.
      levels: K.
    """
    found = relative[:, 0]
    return jnp.where(found > 0, jnp.floor((found - 1) * levels) + 1, 0).astype(jnp.int32)


def price_coverage(items: pl.DataFrame) -> float:
    """The share of some items that have a price; 0 without a column of them."""
    return 1 - items["price"].null_count() / len(items) if "price" in items.columns else 0.0


def require_prices(catalogue: CatalogueInfo, model: str, field: str, sparse: bool) -> None:
    """Refuses a catalogue too few of whose items have a price.

    Args:
      catalogue: what is known of it.
      model: the name of who needs prices.
      field: the name of the setting that allows few of them.
      sparse: its value.

    Raises:
      UserError: fewer than `LEAST_COVERAGE` have one and few are not allowed, or none has.
    """
    share = catalogue.price_coverage
    if share >= LEAST_COVERAGE or (sparse and share > 0):
        return
    unless = f"; --config.{field}=True trains all the same" if share > 0 else ""
    raise UserError(
        f"{model} needs prices, but the column price has one for {share:.0%} of the catalogue's items, of which "
        f"{LEAST_COVERAGE:.0%} must have one; prepare the dataset with {PRICE_FLAGS}{unless}"
    )
