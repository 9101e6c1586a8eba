"""Where in a CSV file something is wrong: its lines, which a reader of tables does not tell."""

import gzip
import re
from collections.abc import Iterator, Mapping
from typing import IO

import polars as pl

from alterrec_jax.errors import UserError
from data_tools import separated

_GZIP = b"\x1f\x8b"
_BLOCK = 1 << 24  # bytes
_LONGEST_RECORD = 10_000  # lines; a quotation mark that is open for longer was never closed
_SAMPLE = 10_000  # rows that tell what an id looks like
_LIKE_ROWS = 0.9  # of the lines of a field that swallowed rows


def header(path: str, separator: str = ",") -> list[str]:
    """The names in the first line as they stand there; Polars renames those that come twice."""
    first = pl.read_csv(path, has_header=False, n_rows=1, infer_schema=False, separator=separator, glob=False)
    return [name or "" for name in first.row(0)]


def first_fault(path: str, separator: str = ",") -> str:
    """What is wrong with a CSV file that could not be read, and in which line; "" where nothing is found.

    A loop over lines, for a file that is refused anyway.
    """
    mark = re.escape(separator.encode())
    field = rb'(?:"(?:[^"]|"")*"|[^"' + mark + rb"\r\n]*)"
    record = re.compile(field + rb"(?:" + mark + field + rb")*\r?\n?")
    fields, odd = 0, ""
    try:
        with _open(path) as file:
            for line, content in _records(file):
                if content.count(b'"') % 2:
                    return f"line {line}: a quotation mark is opened and not closed"
                try:
                    content.decode()
                except UnicodeDecodeError:
                    return f"line {line}: not UTF-8"
                if b'"' in content and not odd and not record.fullmatch(content):
                    odd = f"line {line}: a quotation mark inside a field; quote the whole field and double the mark"
                    if b"\n" in content.rstrip():
                        return odd
                count = re.sub(rb'"(?:[^"]|"")*"', b"", content).count(separator.encode()) + 1
                fields = fields or count
                if count > fields:
                    return f"line {line}: {count} fields, where line 1 names {fields}"
    except (OSError, EOFError):
        return ""
    return odd  # within one line such marks are often read as they stand, so that another fault comes first


def require_no_swallowed_rows(path: str, what: str, rows: int, ids: Mapping[str, pl.Series], separator: str) -> None:
    """Stops where a stray quotation mark made several rows of a CSV file into one field.

    A text of several lines is no fault. A field is one where its lines, cut at the separators, are rows of the
    file: as many fields, and ids in the places of the ids.

    Args:
      path, what: the file.
      rows: how many were read.
      ids: of the columns that hold ids, what was read.
      separator: between fields; "" for a Parquet file, which has no lines.

    Raises:
      UserError: names the first such field, and the line that it begins in.
    """
    if not separator or _line_breaks(path) <= rows + 1:
        return
    table = pl.scan_csv(path, infer_schema=False, glob=False, separator=separator)
    typed = table.collect_schema().names()
    names = separated.plain_names(typed)
    table = table.rename(dict(zip(typed, names, strict=True)))
    shapes = {names.index(column): _shape(values) for column, values in ids.items()}
    broken = table.with_row_index("row").filter(pl.any_horizontal(pl.all().exclude("row").str.contains("\n")))
    found = broken.collect(engine="streaming")
    for place, column in enumerate(names):
        texts = found.select("row", pl.col(column).alias("text")).filter(pl.col("text").str.contains("\n"))
        swallowed = _like_rows(texts, place, len(names), shapes, separator)
        if len(swallowed):
            row = int(swallowed["row"][0])
            before = table.head(row).select(pl.all().str.count_matches("\n").sum()).collect(engine="streaming")
            line = row + 2 + sum(count or 0 for count in before.row(0))
            raise UserError(
                f"{what} file {path}, line {line}: a quotation mark opens a field of column '{column}' that goes on "
                f"for {swallowed['lines'][0]} lines, which look like rows of their own ({len(swallowed)} such fields); "
                "remove the mark, or double it and quote the whole field"
            )


def _like_rows(
    texts: pl.DataFrame, place: int, columns: int, shapes: Mapping[int, str], separator: str
) -> pl.DataFrame:
    """Those of the fields (columns row and text) whose lines are rows of the file: columns row and lines."""
    lines = texts.with_columns(pl.col("text").str.split("\n").alias("line")).with_columns(
        pl.col("line").list.len().alias("lines"), pl.int_ranges(pl.col("line").list.len()).alias("number")
    )
    lines = lines.drop("text").explode("line", "number")
    first, last = pl.col("number") == 0, pl.col("number") == pl.col("lines") - 1
    # The first line lacks what stands before the field, the last one what comes after it.
    before, after = pl.when(first).then(place).otherwise(0), pl.when(last).then(columns - 1 - place).otherwise(0)
    fields = pl.col("line").str.strip_chars_end("\r").str.split(separator)
    fits = fields.list.len() == columns - before - after
    like = [  # null where the line does not reach to the id
        pl.when(before <= column).then(fields.list.get(column - before, null_on_oob=True).str.contains(shape))
        for column, shape in shapes.items()
    ]
    unlike, seen = pl.any_horizontal(one.eq(False) for one in like), pl.any_horizontal(like)
    judged = lines.select(
        "row", "lines", (fits & ~unlike.fill_null(False)).alias("like"), seen.fill_null(False).alias("seen")
    )
    per_field = judged.group_by("row", maintain_order=True).agg(
        pl.col("lines").first(), pl.col("like").mean(), pl.col("seen").any()
    )
    return per_field.filter((pl.col("like") >= _LIKE_ROWS) & pl.col("seen"))


def _shape(ids: pl.Series) -> str:
    """A pattern of what ids look like: their lengths, and the kinds of their characters."""
    some = ids.drop_nulls().head(_SAMPLE).cast(pl.String)
    if some.is_empty():
        return "^$"
    kinds = "".join(
        kind for kind in (r"\d", r"\p{Lu}", r"\p{Ll}", r"\p{Lo}", " ") if some.str.contains(f"[{kind}]").any()
    )
    others = some.str.replace_all(r"[\d\p{L}\s]", "").str.join("")[0]
    kinds += re.escape("".join(sorted(set(others))))
    lengths = some.str.len_chars().to_list()
    return f"^[{kinds}]{{{min(lengths)},{max(lengths)}}}$"


def _line_breaks(path: str) -> int:
    with _open(path) as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK), b""))


def _records(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """The first line and the bytes of each record: lines up to one at whose end no quotation mark is open."""
    begun, parts, odd = 1, list[bytes](), False
    for number, line in enumerate(file, 1):
        if not parts:
            begun = number
        parts.append(line)
        odd ^= line.count(b'"') % 2 == 1
        if not odd or len(parts) >= _LONGEST_RECORD:
            yield begun, b"".join(parts)
            parts, odd = [], False
    if parts:
        yield begun, b"".join(parts)


def _open(path: str) -> IO[bytes]:
    with open(path, "rb") as file:
        packed = file.read(2) == _GZIP
    return gzip.open(path, "rb") if packed else open(path, "rb")  # type: ignore[return-value]
