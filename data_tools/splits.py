"""Which session, or which part of it, belongs to train, validation and test.

A split is made before anything is counted, so that no filter can carry knowledge of held-out data into training.
"""

import numpy as np
import polars as pl

from alterrec_jax.data.dataset import SPLITS
from alterrec_jax.errors import UserError

LONG_ENOUGH_TO_HOLD_OUT = 3  # under leave_one_out: one item to see, one for validation, one for test


def check_fractions(validation: float, test: float) -> None:
    """Stops where the shares leave nothing for one of the splits.

    Raises:
      UserError: a share is not in (0, 1), or both leave nothing to train on.
    """
    for name, share in (("validation_fraction", validation), ("test_fraction", test)):
        if not 0 < share < 1:
            raise UserError(f"--{name} is {share}; it is a share of the sessions and must lie between 0 and 1")
    if validation + test >= 1:
        total = validation + test
        raise UserError(f"--validation_fraction and --test_fraction add up to {total:g}; leave a share to train on")


def by_time(sessions: pl.DataFrame, validation: float, test: float) -> pl.Series:
    """The latest sessions are test, those before them validation, the others train.

    Args:
      sessions: columns session_id (str) and time (any ordered type, no nulls). Equal times are ordered by session_id.
      validation, test: shares of the sessions; the number of sessions is rounded to the nearest, ties to even.

    Returns:
      The split of each session (str).
    """
    places = np.empty(len(sessions), np.int64)
    places[sessions.select(pl.arg_sort_by("time", "session_id")).to_series().to_numpy()] = np.arange(len(sessions))
    return _cut(places, validation, test)


def at_random(sessions: int, validation: float, test: float, seed: int) -> pl.Series:
    """A seeded random choice of sessions for test and validation; the others are train."""
    return _cut(np.random.default_rng(seed).permutation(sessions), validation, test)


def by_column(values: pl.Series) -> pl.Series:
    """The user's own split, checked.

    Raises:
      UserError: a value is not one of train, validation and test.
    """
    strange = values.filter(~values.is_in(SPLITS) | values.is_null())
    if len(strange):
        raise UserError(
            f"--split_column holds '{strange[0]}' ({len(strange)} sessions have such a value); "
            f"write {', '.join(SPLITS[:-1])} or {SPLITS[-1]} there"
        )
    return values


def tied_across(times: pl.Series, chosen: pl.Series) -> int:
    """How many sessions end at the same time as a session of another split.

    Args:
      times: when each session ended.
      chosen: the split of each session.
    """
    table = pl.DataFrame({"time": times, "split": chosen})
    return table.filter(pl.col("split").n_unique().over("time") > 1).height


def whole_sessions(interactions: pl.DataFrame, of_session: pl.DataFrame) -> pl.DataFrame:
    """Gives each interaction the split of its session.

    Args:
      interactions: columns session and item (uint32), and any others.
      of_session: columns session (uint32) and split, one row for each session of the interactions.

    Returns:
      The columns of the interactions, split, and first_target (int32, always 1).
    """
    labelled = interactions.join(of_session, on="session", how="left", maintain_order="left")
    return labelled.with_columns(pl.lit(1, pl.Int32).alias("first_target"))


def leave_one_out(interactions: pl.DataFrame) -> pl.DataFrame:
    """All but the last two items of a session train; validation is it without its last item, test the whole.

    In validation and test only the last item is a target, for the earlier ones were trained on. A session with fewer
    than three items trains only, with all its items.

    Args:
      interactions: columns session and item (uint32), and any others; sessions in one piece and in order.

    Returns:
      The columns of the interactions, split, and first_target (int32).
    """
    columns = interactions.columns
    length = pl.len().over("session").cast(pl.Int32)
    place = pl.int_range(pl.len(), dtype=pl.Int32).over("session")
    table = interactions.with_columns(length.alias("length"), place.alias("place"))
    held_out = table.filter(pl.col("length") >= LONG_ENOUGH_TO_HOLD_OUT)
    parts = {
        "train": (
            table.filter((pl.col("length") < LONG_ENOUGH_TO_HOLD_OUT) | (pl.col("place") < pl.col("length") - 2)),
            pl.lit(1, pl.Int32),
        ),
        "validation": (held_out.filter(pl.col("place") < pl.col("length") - 1), pl.col("length") - 2),
        "test": (held_out, pl.col("length") - 1),
    }
    return pl.concat(
        part.select(*columns, pl.lit(name).alias("split"), first_target.cast(pl.Int32).alias("first_target"))
        for name, (part, first_target) in parts.items()
    )


def _cut(places: np.ndarray, validation: float, test: float) -> pl.Series:
    """Splits by place [sessions] (a permutation of 0 ..): the highest are test."""
    tests, validations = round(len(places) * test), round(len(places) * validation)
    first_test = len(places) - tests
    codes = (places >= first_test - validations).astype(np.int8) + (places >= first_test)
    return pl.Series("split", codes).replace_strict({i: name for i, name in enumerate(SPLITS)}, return_dtype=pl.String)
