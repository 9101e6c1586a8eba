"""Logs as people bring them: other separators, atomic files, rows with lists, and many files."""

import gzip
import pathlib
from typing import Any

import polars as pl
import pytest

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from alterrec_jax.runtime.files import sha256_file
from data_tools import inputs, separated
from tests.data_tools.examples import as_items, prepared, random_clicks, write_csv, write_logs

LISTS = {"a": ["i00", "i01", "i02"], "b": ["i03"], "c": ["i01", "i01", "i04"], "d": ["i02", "i00", "i04", "i03"]}
ALL = {"split": "ratio", "min_session_length": 2, "validation_fraction": 0.3, "test_fraction": 0.3}


def write(path: pathlib.Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def with_separator(path: str, separator: str) -> str:
    written = pathlib.Path(path).with_suffix(".txt")
    pl.read_csv(path, infer_schema=False).write_csv(written, separator=separator)  # which quotes what holds it
    return str(written)


def sessions_of(dataset: Dataset) -> dict[str, list[str]]:
    return {name: items for split in dataset.splits for name, items, _ in as_items(dataset, split)}


def steps_of(dataset: Dataset) -> dict[str, tuple[int, int]]:
    return {step["step"]: (step["interactions"], step["sessions"]) for step in dataset.manifest["steps"]}


def from_lists(folder: pathlib.Path, interactions: str, **settings: Any) -> Dataset:
    items = write_csv(folder / "items.csv", ("item_id", "title"), [(f"i{i:02d}", "x") for i in range(6)])
    return prepared(folder, interactions=interactions, items=items, **{**ALL, **settings})


@pytest.mark.parametrize("separator", ["\t", ";", "|"])
def test_a_separator_is_found_in_each_file(tmp_path: pathlib.Path, separator: str) -> None:
    logs = write_logs(tmp_path, random_clicks(1))
    plain = prepared(tmp_path, **logs, order_column="time")
    logs["interactions"] = with_separator(logs["interactions"], separator)
    found = prepared(tmp_path, **logs, order_column="time")
    assert found.fingerprint == plain.fingerprint
    assert found.manifest["separators"] == {"log.txt": separated.name_of(separator), "items.csv": "comma"}
    logs["items"] = with_separator(logs["items"], separator)
    given = prepared(tmp_path, **logs, order_column="time", separator=separator)
    assert given.fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    ("header", "columns", "expected"),
    [
        ("session_id,item_id", ["session_id"], ","),
        ("session_id;item_id", [], ";"),
        ("session_id", ["session_id"], ","),
        ('"session_id,old"\titem_id', ["item_id"], "\t"),
        ("session_id;item_id,sku", ["session_id", "item_id,sku"], ";"),
        ("session_id,item_id,a|b", ["session_id", "sesion"], ","),
        ("session_id:token\tnew;or,old:token", ["session_id"], "\t"),
    ],
)
def test_the_columns_tell_which_separator_it_is(
    tmp_path: pathlib.Path, header: str, columns: list[str], expected: str
) -> None:
    path = tmp_path / "log.gz"
    path.write_bytes(gzip.compress(f"\ufeff{header}\r\nx,y;z\r\n".encode()))
    assert separated.find(str(path), "interactions", columns) == expected


def test_an_ambiguous_separator_is_named(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path / "log.csv", "session;id,item;id\n1;2,3;4\n")
    with pytest.raises(UserError, match=r"comma \(2 columns\) or semicolon \(3 columns\).*--separator=comma"):
        separated.find(path, "interactions", ["time"])
    with pytest.raises(UserError, match=r"--separator='::' is no separator; give one character, or comma"):
        separated.character("::", "separator")
    assert [separated.character(given, "separator") for given in ("tab", "\\t", "\t", "")] == ["\t", "\t", "\t", ""]


def test_atomic_files_of_recbole(tmp_path: pathlib.Path) -> None:
    clicks = random_clicks(2)
    logs = write_logs(tmp_path, clicks)
    plain = prepared(tmp_path, **logs, order_column="time", text_columns="title,brand")
    rows = "".join(f"{session}\t{item}\t{time}\n" for session, item, time in clicks)
    logs["interactions"] = write(tmp_path / "log.inter", f"session_id:token\titem_id:token\ttimestamp:float\n{rows}")
    table = pl.read_csv(logs["items"])
    titles = "".join(f"{item}\t{title}\t{maker}\n" for item, title, maker in table.iter_rows())
    logs["items"] = write(tmp_path / "log.item", f"item_id:token\ttitle:token_seq\tbrand:token\n{titles}")
    atomic = prepared(tmp_path, **logs, order_column="timestamp", text_columns="title,brand")
    assert atomic.fingerprint == plain.fingerprint
    assert atomic.manifest["separators"] == {"log.inter": "tab", "log.item": "tab"}


def test_columns_that_differ_by_their_types_alone(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path / "log.inter", "session_id:token\titem_id:token\titem_id:token_seq\n1\t2\t3\n")
    with pytest.raises(UserError, match="two columns 'item_id' that differ by their types"):
        from_lists(tmp_path, path)


def test_every_form_of_a_row_with_a_list(tmp_path: pathlib.Path) -> None:
    rows = [(name, items, number) for number, (name, items) in enumerate(LISTS.items())]
    kept = {name: items for name, items in LISTS.items() if len(items) > 1}
    parquet = str(tmp_path / "log.parquet")
    pl.DataFrame(rows, schema=["session_id", "item_id", "day"], orient="row").write_parquet(parquet)
    atomic = "".join(f"{name}\t{' '.join(items)}\t{day}\n" for name, items, day in rows)
    atomic = write(tmp_path / "log.inter", f"session_id:token\titem_id:token_seq\tday:float\n{atomic}")
    header = ("session_id", "item_id", "day")
    printed = write_csv(tmp_path / "printed.csv", header, [(n, str(items), d) for n, items, d in rows])
    spaced = write_csv(tmp_path / "spaced.csv", header, [(n, "  ".join(items), d) for n, items, d in rows])
    piped = write_csv(tmp_path / "piped.csv", header, [(n, "|".join(items), d) for n, items, d in rows])
    given = [(parquet, ""), (atomic, ""), (printed, ","), (spaced, "space"), (piped, "pipe")]
    for path, separator in given:
        dataset = from_lists(tmp_path, path, list_separator=separator, order_column="day", split="temporal")
        assert sessions_of(dataset) == kept, path
        assert dataset.splits["test"].session_ids.to_list() == ["d"]  # the latest of three
        assert dataset.manifest["order"]["rule"] == "as the items stand in the lists of column 'item_id'"
        assert dataset.manifest["order"]["tied_interactions"] == 0
        assert steps_of(dataset)["read"] == (11, 4)


def test_a_list_without_a_session_column_is_a_session(tmp_path: pathlib.Path) -> None:
    header, rows = ("items",), [["i00;i01"], [""], ["i02;i03;i03"], ["[]"], ["i04;i05"]]
    path = write_csv(tmp_path / "log.csv", header, rows)
    items = write_csv(tmp_path / "items.csv", ("item_id", "title"), [(f"i{i:02d}", "x") for i in range(6)])
    settings = {"items_id_column": "item_id", "item_column": "items", "list_separator": "semicolon"}
    dataset = prepared(tmp_path, interactions=path, items=items, separator="comma", **settings, **ALL)
    expected = {"row-1": ["i00", "i01"], "row-3": ["i02", "i03", "i03"], "row-5": ["i04", "i05"]}
    assert sessions_of(dataset) == expected and dataset.manifest["sessions_are"] == "a row each"
    assert steps_of(dataset)["read"] == (7, 5) and steps_of(dataset)["row with an empty list"] == (0, -2)


def test_times_and_prices_may_be_lists_too(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "log.parquet")
    times, prices = [[3, 1, 2], [1], [2, 3, 1], [4, 3, 2, 1]], [[3.0, 1, 2], [1.0], [2.0, 2, 1], [4.0, 3, 2, 1]]
    table = pl.DataFrame({"item_id": list(LISTS.values()), "time": times, "paid": prices})
    table.write_parquet(path)
    settings = {"order_column": "time", "interaction_price_column": "paid"}
    found = sessions_of(from_lists(tmp_path, path, **settings))
    assert found["row-1"] == ["i01", "i02", "i00"] and found["row-4"] == LISTS["d"][::-1]
    table.with_columns(pl.col("time").list.head(1)).write_parquet(path)
    with pytest.raises(UserError, match="cannot be read"):
        from_lists(tmp_path, path, **settings)
    table.with_columns(pl.lit(1.5).alias("paid")).write_parquet(path)
    with pytest.raises(UserError, match="'paid' has one price for a whole list"):
        from_lists(tmp_path, path, **settings)
    table.with_columns(pl.col("item_id").list.first()).write_parquet(path)
    with pytest.raises(UserError, match="'time' holds lists; only with lists of items"):
        from_lists(tmp_path, path, order_column="time")


def test_a_session_is_one_row_with_a_list(tmp_path: pathlib.Path) -> None:
    rows = [("a", "i00 i01"), ("b", "i02 i03"), ("a", "i00 i01 i02")]
    path = write_csv(tmp_path / "log.csv", ("session_id", "item_id"), rows)
    with pytest.raises(UserError, match=r"session 'a' has more than one row with a list \(2 such rows\)"):
        from_lists(tmp_path, path, list_separator=" ")


def test_an_empty_item_of_a_list_is_in_a_row_of_the_file(tmp_path: pathlib.Path) -> None:
    path = write_csv(tmp_path / "log.csv", ("item_id", "day"), [("i00,i01,i02", 1), ("i03,,i04", 2)])
    with pytest.raises(UserError, match="column 'item_id' is empty in 1 of 6 rows, first in data row 2"):
        from_lists(tmp_path, path, list_separator="comma")
    path = write_csv(tmp_path / "log.csv", ("item_id", "day"), [("i00,i01,i02", 1), ("i03,i04", "soon")])
    with pytest.raises(UserError, match="first in data row 2 with 'soon'"):
        from_lists(tmp_path, path, list_separator="comma", order_column="day")


def test_several_files_are_one_log(tmp_path: pathlib.Path) -> None:
    clicks = random_clicks(3)
    logs = write_logs(tmp_path, clicks)
    whole = prepared(tmp_path, **logs, order_column="time")
    folder = tmp_path / "logs"
    folder.mkdir()
    header = ("session_id", "item_id", "time")
    first = write_csv(folder / "part-0.csv", header, clicks[:100])
    second = write(folder / "part-1.tsv", "time\titem_id\tsession_id\n")
    with open(second, "a") as file:
        file.writelines(f"{time}\t{item}\t{session}\n" for session, item, time in clicks[100:])
    write(folder / "_SUCCESS", "")
    write(folder / ".part-0.csv.crc", "crc")
    for given in (str(folder), str(folder / "part-*"), str(tmp_path / "**" / "part-?.*")):
        dataset = prepared(tmp_path, **{**logs, "interactions": given}, order_column="time")
        assert dataset.fingerprint == whole.fingerprint
        expected = {"part-0.csv": sha256_file(first), "part-1.tsv": sha256_file(second)}
        assert dataset.manifest["source_files"] == {**expected, "items.csv": sha256_file(logs["items"])}


def test_rows_with_lists_are_counted_through_the_files(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    for number, (first, second) in enumerate([("i00 i01", ""), ("i02 i03", "i04 i05")]):
        write_csv(folder / f"{number}.csv", ("item_id", "other"), [(first, "x"), (second, "x")])
    found = sessions_of(from_lists(tmp_path, str(folder), list_separator="space"))
    assert found == {"row-1": ["i00", "i01"], "row-3": ["i02", "i03"], "row-4": ["i04", "i05"]}


def test_files_of_one_name_are_told_apart_by_their_folders() -> None:
    assert inputs.names_of(["a/log.csv", "b/log.csv", "items.csv"]) == ["a/log.csv", "b/log.csv", "items.csv"]
    assert inputs.names_of(["x/a/log.csv", "x/items.csv"]) == ["log.csv", "items.csv"]


@pytest.mark.parametrize(
    ("second", "line"),
    [
        ("session_id,item_id,time,day\ns1,i01,3,4\n", "have different columns: 'day' is in one of them only"),
        ("session_id,item_id,time\ns1,i01,\n", r"through in sorted order\): column 'time' .*first in data row 2"),
        ("session_id,item_id,time\ns1,i01,3,4\n", "second.csv cannot be read"),
    ],
)
def test_files_that_do_not_agree(tmp_path: pathlib.Path, second: str, line: str) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    items = write_logs(tmp_path, [])["items"]
    write_csv(folder / "first.csv", ("session_id", "item_id", "time"), [("s1", "i01", 3)])
    write(folder / "second.csv", second)
    with pytest.raises(UserError, match=line):
        prepared(tmp_path, interactions=str(folder), items=items, order_column="time")
    pl.DataFrame({"session_id": ["s1"], "item_id": ["i01"], "time": [3]}).write_parquet(folder / "second.csv")
    with pytest.raises(UserError, match="column 'time' is String in one and Int64 in the other"):
        prepared(tmp_path, interactions=str(folder), items=items, order_column="time")


@pytest.mark.parametrize("given", ["nowhere.csv", "no*.csv", "empty"])
def test_files_that_are_not_there(tmp_path: pathlib.Path, given: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="interactions file not found: .*; name a file, a folder with files, or"):
        inputs.find_files(str(tmp_path / given))
