"""Which files the interactions of a user are in, whether they agree, and how they are read, a file at a time."""

import dataclasses
import functools
import glob
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import polars as pl

from alterrec_jax.errors import UserError, nearest
from data_tools import csv_lines, list_rows, missing, separated, tables
from data_tools.list_rows import POSITION, WHAT
from data_tools.options import SESSION_ID, Options

_NAMES = ("item", "session", "user", "split")  # what a column can name
_Select = Callable[[pl.LazyFrame, int], pl.LazyFrame]


@dataclasses.dataclass(frozen=True)
class Columns:
    """What is read of the files.

    Attributes:
      names: columns that name something (item, session, user, split) by what they are called in the result: text.
      values: further columns likewise, read as they are; but an order of texts that are all numbers, or all dates or
        times, as these.
      list_separator: between the items of a text; "" where they are lists already.
      null_values: texts that count as missing.
    """

    names: Mapping[str, str]
    values: Mapping[str, str]
    list_separator: str
    null_values: Sequence[str]

    @property
    def ids(self) -> tuple[str, str]:
        """The names that each row needs: of its item; and of its session, or of the user where time makes sessions."""
        return "item", "user" if "session" not in self.names and "user" in self.names else "session"


@dataclasses.dataclass(frozen=True)
class Interactions:
    """The files of interactions, opened and not yet read.

    Attributes:
      paths: the files, in the order in which they are read.
      shown: names them in errors.
      separators: of each file; "" of a Parquet.
      parts: a lazy table of each file.
      session_column: "" where a row is a session, or where time is to make the sessions.
      listed: the columns that hold a list, whose row is a session; the item column is one of them, or there are none.
    """

    paths: tuple[str, ...]
    shown: str
    separators: tuple[str, ...]
    parts: tuple[pl.LazyFrame, ...]
    session_column: str
    listed: tuple[str, ...]

    def collect(self, columns: Columns) -> tuple[pl.DataFrame, int]:
        """Reads columns of all files, a file at a time, one row an interaction.

        Returns:
          The columns by their new names, names as categories, and `tables.ROW` (uint32), counted through the files.
          Where rows are lists: also session, and position (uint32, from 0 in each row) unless the order is a list too.
          And how many rows hold an empty list, which are left out.

        Raises:
          UserError: a file is damaged or a stray quotation mark swallows rows of it, ids are inexact, lists of a row
            differ in length, or two rows with lists are of one session.
        """
        for path, part, separator in zip(self.paths, self.parts, self.separators, strict=True):
            tables.require_no_surplus(path, WHAT, separator)
            missing.require_exact_ids(part, columns.names.values(), path, WHAT)
        select = functools.partial(self._select, columns, {name: tables.categories() for name in _NAMES})
        readings = (self._read(select, columns, reading) for reading in self._order_readings(select, columns))
        frames, empty = next(filter(None, readings), None) or self._read(select, columns, None) or ([], 0)
        table = tables.concat(frames)
        if table.is_empty():
            raise UserError(f"{WHAT} file {self.shown} has no rows")
        if self.listed:
            if self.session_column:
                list_rows.require_one_row(table, self.session_column, self.shown)
            if columns.values.get("order") in self.listed:
                table = table.drop(POSITION)
        return table, empty

    def _select(
        self, columns: Columns, types: Mapping[str, pl.DataType], part: pl.LazyFrame, before: int
    ) -> pl.LazyFrame:
        """The columns of a file before which so many rows stand, one row an interaction."""
        row = (pl.col(tables.ROW) + before).cast(pl.UInt32)
        found = [pl.col(shown).cast(pl.String).cast(types[name]).alias(name) for name, shown in columns.names.items()]
        found += [*(pl.col(shown).alias(name) for name, shown in columns.values.items()), row]
        part = tables.with_rows(part)
        if self.listed:
            part = list_rows.one_item_a_row(part, columns.names["item"], self.listed, columns.list_separator)
            found.append(pl.col(POSITION))
            if not self.session_column:
                found.append(pl.format("row-{}", row).cast(types["session"]).alias("session"))
        wanted = list(dict.fromkeys([*columns.names.values(), *columns.values.values()]))
        return missing.as_null(part, wanted, columns.null_values, ids=columns.names.values()).select(found)

    def _order_readings(self, select: _Select, columns: Columns) -> Iterator[tables.Reading]:
        """How an order of texts may be read, by the first of them."""
        first = select(self.parts[0], 0)
        if "order" in columns.values and first.collect_schema()["order"] == pl.String:
            some = first.select("order", *columns.ids).drop_nulls().head(1)
            found = tables.collect(some, self.paths[0], WHAT, self.separators[0] or ",")["order"]
            yield from tables.order_readings(found[0]) if len(found) else ()

    def _read(
        self, select: _Select, columns: Columns, reading: tables.Reading | None
    ) -> tuple[list[pl.DataFrame], int] | None:
        """The tables of all files, and how many empty lists they have; None where an order cannot be read like that."""
        frames, empty, rows = [], 0, 0
        for path, part, separator in zip(self.paths, self.parts, self.separators, strict=True):
            selected = select(part, rows)
            if reading:
                selected = selected.with_columns(reading(pl.col("order")))
            frame = tables.collect(selected, path, WHAT, separator or ",")
            unread = pl.col("order").is_null() & pl.all_horizontal(pl.col(*columns.ids).is_not_null())
            if reading and frame.select(unread.any()).item():
                return None
            before, rows = rows, int(frame[tables.ROW].max() or rows)  # type: ignore[arg-type]
            if not self.listed:
                ids = {shown: frame[name] for name, shown in columns.names.items() if name != "split"}
                csv_lines.require_no_swallowed_rows(path, WHAT, rows - before, ids, separator)
            if self.listed:
                empty, frame = empty + frame[POSITION].null_count(), frame.drop_nulls(POSITION)
            frames.append(frame)
        return frames, empty


def open_interactions(options: Options, columns: Sequence[str]) -> Interactions:
    """Finds the files and the columns, and whether rows are lists.

    Args:
      options: of --source=tabular.
      columns: of the interactions that are to be read, besides that of the session.

    Raises:
      UserError: a file or a column is missing, files do not agree, or a list stands where none can be read.
    """
    paths = find_files(options.interactions)
    given = separated.character(options.separator, "separator")
    wanted = [options.session_column] if options.session_column else []
    wanted = list(dict.fromkeys([*wanted, *columns]))
    separators = tuple(tables.separator_of(path, WHAT, wanted, given) for path in paths)
    parts = tuple(tables.scan(path, WHAT, wanted, one) for path, one in zip(paths, separators, strict=True))
    schemas = [part.collect_schema() for part in parts]
    session_column = options.session_column
    if not session_column and not options.session_gap and SESSION_ID in schemas[0]:
        session_column = SESSION_ID
        wanted.append(session_column)
    _require_agreement(paths, schemas, wanted)
    listed = list_rows.listed_columns(options, schemas[0], wanted, paths[0])
    if not session_column and not options.session_gap and not listed:
        known = nearest(SESSION_ID, schemas[0].names())
        raise UserError(f"{WHAT} file {paths[0]} has no column '{SESSION_ID}'; {known} Name it by --session_column")
    many = f"{options.interactions} ({len(paths)} files, whose rows are counted through in sorted order)"
    shown = paths[0] if len(paths) == 1 else many
    return Interactions(tuple(paths), shown, separators, parts, session_column, listed)


def find_files(given: str) -> list[str]:
    """The files that --interactions means, sorted: a file, the files of a folder, or those that a pattern fits.

    Files of a folder whose names begin with a dot or an underscore are not data, and are left out.

    Raises:
      UserError: there is none.
    """
    path = pathlib.Path(given)
    if path.is_file():
        return [given]
    if path.is_dir():
        found = [str(file) for file in path.iterdir() if file.is_file() and not file.name.startswith((".", "_"))]
    else:
        found = [file for file in glob.glob(given, recursive=True) if pathlib.Path(file).is_file()]
    if not found:
        raise UserError(f"{WHAT} file not found: {given}; name a file, a folder with files, or a pattern in quotes")
    return sorted(found)


def names_of(paths: Sequence[str]) -> list[str]:
    """Names for the manifest: those of the files, with as many folders before them as tell them apart."""
    parts = [pathlib.PurePath(path).parts for path in paths]
    for depth in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(set(paths)):
            break
    return names


def _require_agreement(paths: Sequence[str], schemas: Sequence[pl.Schema], wanted: Sequence[str]) -> None:
    first = schemas[0]
    for path, schema in zip(paths, schemas, strict=True):
        if different := sorted(set(first) ^ set(schema)):
            raise UserError(
                f"{WHAT} files {paths[0]} and {path} have different columns: '{different[0]}' is in one of them only; "
                "keep files of other columns elsewhere, or name those to read by a pattern"
            )
        for column in wanted:
            if schema[column] != first[column]:
                raise UserError(
                    f"{WHAT} files {paths[0]} and {path} do not agree: column '{column}' is {first[column]} in one and "
                    f"{schema[column]} in the other; write them with one type"
                )
