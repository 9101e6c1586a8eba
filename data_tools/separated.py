"""Files of separated values: which character separates them, and the column names of RecBole's atomic files."""

import csv
import re
from collections.abc import Sequence

import polars as pl

from alterrec_jax.errors import UserError

_NAMES = {"comma": ",", "tab": "\t", "semicolon": ";", "pipe": "|", "space": " "}
_FOUND_BY_ITSELF = (",", "\t", ";", "|")
_TYPED = re.compile(r"(.+):(token|token_seq|float|float_seq)")
_NEVER = "\x01"  # separates nothing: the first line is read whole


def character(given: str, flag: str) -> str:
    """The character that the value of a flag means: itself, or the one of that name; "" stays "".

    Raises:
      UserError: it is neither one character of ASCII nor the name of one, or it is a quote or the end of a line.
    """
    found = "\t" if given == "\\t" else _NAMES.get(given, given)
    if found and (len(found) > 1 or not found.isascii() or found in '"\r\n\0'):
        raise UserError(f"--{flag}='{given}' is no separator; give one character, or {', '.join(_NAMES)}")
    return found


def name_of(separator: str) -> str:
    """A separator in words."""
    return {known: name for name, known in _NAMES.items()}.get(separator, f"'{separator}'")


def find(path: str, what: str, columns: Sequence[str]) -> str:
    """The separator of a file, by its first line: the one that occurs there, or under which most of `columns` stand.

    A line without any is that of a file with one column, which a comma reads.

    Args:
      path: a file of separated values, which may be compressed.
      what: names it in errors.
      columns: the columns that are to be read.

    Raises:
      UserError: several separators are possible; it names them.
      polars.exceptions.PolarsError: the file cannot be read.
    """
    header = _first_line(path)
    if not header.replace("\t", "").replace("\ufffd", "\x00").isprintable():
        return ","  # no line of column names under any separator
    cells = {separator: _cells(header, separator) for separator in _FOUND_BY_ITSELF}
    possible = {separator: names for separator, names in cells.items() if len(names) > 1}
    if len(possible) < 2:
        return next(iter(possible), ",")
    present = {separator: len(set(columns) & set(plain_names(names))) for separator, names in possible.items()}
    best = [separator for separator, count in present.items() if count == max(present.values())]
    if len(best) > 1:
        choices = " or ".join(f"{name_of(separator)} ({len(possible[separator])} columns)" for separator in best)
        raise UserError(
            f"{what} file {path}: its first line may be separated by {choices}; say which, for example "
            f"--separator={name_of(best[0])}"
        )
    return best[0]


def without_types(table: pl.LazyFrame, names: Sequence[str], path: str, what: str) -> pl.LazyFrame:
    """Takes the types off the column names of an atomic file of RecBole, and makes lists of its sequences.

    `item_id:token` becomes item_id; `title:token_seq` and `times:float_seq` become lists of strings, separated by
    spaces. A file that has a column name without a type stays as it is.

    Args:
      table: columns of strings.
      names: its columns.
      path, what: name the file in errors.

    Raises:
      UserError: two columns differ by their types alone.
    """
    plain = plain_names(names)
    if list(names) == plain:
        return table
    if twice := [name for name in plain if plain.count(name) > 1]:
        raise UserError(f"{what} file {path} has two columns '{twice[0]}' that differ by their types; rename one")
    columns = []
    for typed, name in zip(names, plain, strict=True):
        values = pl.col(typed)
        columns.append((values.str.extract_all(r"\S+") if typed.endswith("_seq") else values).alias(name))
    return table.select(columns)


def _first_line(path: str) -> str:
    line = pl.scan_csv(
        path,
        separator=_NEVER,
        has_header=False,
        infer_schema=False,
        n_rows=1,
        quote_char=None,
        encoding="utf8-lossy",
        truncate_ragged_lines=True,
        glob=False,
    ).collect()
    return str(line.item(0, 0) or "") if len(line) else ""


def _cells(line: str, separator: str) -> list[str]:
    """The cells of a line, as a reader of CSV sees them: a separator between quotes separates nothing."""
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:  # a cell beyond the limit of the module: no line of column names
        return []


def plain_names(names: Sequence[str]) -> list[str]:
    """The names without the types of RecBole's atomic files, where all of them have one."""
    typed = [_TYPED.fullmatch(name) for name in names]
    return [match[1] for match in typed if match] if all(typed) else list(names)
