"""Which session, or which part of it, belongs to train, validation and test.

A split is made before anything is counted, so that no filter can carry knowledge of held-out data into training.
"""

import dataclasses

import numpy as np
import polars as pl

from alterrec_jax.data.dataset import SPLITS
from alterrec_jax.errors import UserError
from data_tools.flat_sessions import FlatSessions

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
    table = pl.LazyFrame({"time": times, "split": chosen})
    of_time = table.group_by("time").agg(pl.len(), (pl.col("split").min() != pl.col("split").max()).alias("tied"))
    return int(of_time.filter("tied").select(pl.col("len").sum()).collect(engine="streaming").item())


def whole_sessions(sessions: FlatSessions, chosen: pl.Series) -> dict[str, FlatSessions]:
    """The sessions of each split, by the split that was chosen for each (str)."""
    return {split: sessions.where((chosen == split).to_numpy()) for split in SPLITS}


def leave_one_out(sessions: FlatSessions) -> dict[str, FlatSessions]:
    """All but the last two items of a session train; validation is it without its last item, test the whole.

    In validation and test only the last item is a target, for the earlier ones were trained on. A session with fewer
    than three items trains only, with all its items.
    """
    long = sessions.lengths >= LONG_ENOUGH_TO_HOLD_OUT
    trained = np.ones(len(sessions.rows), bool)
    ends = sessions.stops[long]
    trained[ends - 1] = trained[ends - 2] = False
    test = sessions.where(long)
    before_last = np.ones(len(test.rows), bool)
    before_last[test.stops - 1] = False
    return {
        "train": sessions.where_rows(trained),
        "validation": _last_is_target(test.where_rows(before_last)),
        "test": _last_is_target(test),
    }


def _last_is_target(sessions: FlatSessions) -> FlatSessions:
    return dataclasses.replace(sessions, first_target=(sessions.lengths - 1).astype(np.int32))


def _cut(places: np.ndarray, validation: float, test: float) -> pl.Series:
    """Splits by place [sessions] (a permutation of 0 ..): the highest are test."""
    tests, validations = round(len(places) * test), round(len(places) * validation)
    first_test = len(places) - tests
    codes = (places >= first_test - validations).astype(np.int8) + (places >= first_test)
    return pl.Series("split", codes).replace_strict({i: name for i, name in enumerate(SPLITS)}, return_dtype=pl.String)
