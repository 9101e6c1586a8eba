"""Requests for recommendations as lists in Python, answered as a table; `requests` answers them as lines of JSON."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from alterrec_jax.errors import UserError, nearest
from alterrec_jax.runtime.console import log
from alterrec_jax.serving import requests
from alterrec_jax.serving.recommend import Recommender

_COLUMNS = {
    "session": pl.Int64,
    "rank": pl.Int64,
    "item_id": pl.String,
    "name": pl.String,
    "score": pl.Float64,
    "by": pl.String,
}
_SHOWN = 5  # of ids that are unknown


class TableAnswerer:
    """Answers requests by a recommender; `alterrec_jax.run.Run.recommend` says what they are and what comes out."""

    def __init__(self, recommender: Recommender, ids: Sequence[str], names: Sequence[str]):
        """Takes what answers are made of: ids and names of all items, by the recommender's numbers."""
        self._recommender, self._ids, self._names = recommender, ids, names
        self._number = {item: row for row, item in enumerate(ids)}

    def __call__(self, sessions: Any, k: int, exclude: Any, only: Any, unknown: str) -> pl.DataFrame:
        """A row for each recommended item."""
        if unknown not in requests.UNKNOWN:
            raise UserError(f"unknown is '{unknown}'; {nearest(str(unknown), requests.UNKNOWN)}")
        asked = self._read(sessions, exclude, only)
        for row, one in enumerate(asked):
            if one.unknown and unknown == requests.ERROR:
                raise UserError(f"session {row} has ids unknown to the run: {_few(one.unknown)}; leave them out")
        if strange := dict.fromkeys(item for one in asked for item in one.unknown):
            log(f"note: left out {len(strange):,} ids unknown to the run: {_few([*strange])}")
        found = self._recommender(
            [one.session for one in asked],
            k,
            exclude=[one.exclude for one in asked],
            only=[one.only for one in asked],
        )
        rows = [
            (row, rank, self._ids[best.item], self._names[best.item], best.score, best.by)
            for row, some in enumerate(found)
            for rank, best in enumerate(some, 1)
        ]
        return pl.DataFrame(rows, _COLUMNS, orient="row")

    def _read(self, sessions: Any, exclude: Any, only: Any) -> list[requests.Request]:
        read = [_ids(session, f"session {row}") for row, session in enumerate(_listed(sessions, "sessions"))]
        lists = zip(read, _each(exclude, "exclude", len(read)), _each(only, "only", len(read)), strict=True)
        fields = [dict(zip(requests.FIELDS, three, strict=True)) for three in lists]
        return [
            requests.numbered({name: ids for name, ids in one.items() if ids is not None}, self._number)
            for one in fields
        ]


def _listed(value: Any, what: str) -> list[Any]:
    """What a list, a column or an array holds."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise UserError(f"{what} is {value!r}, which is no list; sessions is a list of lists of item ids")
    return [*value]


def _ids(value: Any, what: str) -> list[str]:
    """A list of item ids.

    Raises:
      UserError: it is none.
    """
    ids = _listed(value, what)
    if wrong := [item for item in ids if not isinstance(item, str)]:
        raise UserError(f"{what} holds {wrong[0]!r}; item ids are texts, as dataset.items['item_id'] has them")
    return ids


def _each(value: Any, what: str, sessions: int) -> list[list[str] | None]:
    """For each session its list of ids, or None: from ids for all of them, or a list for each."""
    if value is None:
        return [None] * sessions
    listed = _listed(value, what)
    if all(isinstance(item, str) for item in listed):
        return [listed] * sessions
    if len(listed) != sessions:
        raise UserError(f"{what} has {len(listed)} lists for {sessions} sessions; give one for each, or ids for all")
    return [None if ids is None else _ids(ids, f"{what} {row}") for row, ids in enumerate(listed)]


def _few(ids: Sequence[str]) -> str:
    """The first ids in words."""
    shown = ", ".join(f"'{item}'" for item in ids[:_SHOWN])
    return f"{shown} and {len(ids) - _SHOWN:,} more" if len(ids) > _SHOWN else shown
