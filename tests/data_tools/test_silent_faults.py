"""Faults of a log that nothing used to notice: copies, missing ids, mixed units, stray quotation marks."""

import pathlib
from typing import Any

import numpy as np
import polars as pl
import pytest

from alterrec_jax.data.dataset import Dataset
from data_tools import csv_lines, order_checks
from tests.data_tools.examples import Click, as_items, prepared, random_clicks, write_csv, write_logs
from tests.data_tools.test_bad_input import refusal

HEADER = ("session_id", "item_id", "time")
EPOCH = 1_711_900_000  # 2024-03-31, in seconds


def clicks_at(start: int = EPOCH, sessions: int = 30) -> list[Click]:
    """Sessions of five different items, at times that rise by a minute."""
    return [
        (f"s{s:02d}", f"i{(s + 3 * i) % 20:02d}", start + 60 * (5 * s + i)) for s in range(sessions) for i in range(5)
    ]


def steps(dataset: Dataset) -> dict[str, tuple[int, int]]:
    return {step["step"]: (step["interactions"], step["sessions"]) for step in dataset.manifest["steps"]}


@pytest.mark.parametrize("order_column", ["time", ""])
@pytest.mark.parametrize("copy", ["appended", "behind each row"])
def test_a_log_with_every_row_twice(tmp_path: pathlib.Path, copy: str, order_column: str) -> None:
    clicks = random_clicks(3, times=1000)
    if not order_column:
        clicks = [(session, item, 0) for session, item, _ in clicks]
    once = prepared(tmp_path, **write_logs(tmp_path, clicks), order_column=order_column, duplicates="keep")
    doubled = clicks * 2 if copy == "appended" else [click for click in clicks for _ in range(2)]
    logs = {**write_logs(tmp_path, doubled), "order_column": order_column}
    (tmp_path / "once").mkdir()
    (tmp_path / "out").rename(tmp_path / "once" / "out")
    line = refusal(tmp_path, **logs)
    first = (len(clicks) + 1, 1) if copy == "appended" else (2, 1)
    assert f"{len(clicks):,} of {len(doubled):,} rows" in line and "--duplicates=drop" in line
    assert (f"data rows {first[0]} like {first[1]}," if order_column else f"first data rows {first[0]}, ") in line
    dropped = prepared(tmp_path, **logs, duplicates="drop")
    assert steps(dropped)["row that stands there already"] == (-len(clicks), 0)
    for split in once.splits:
        assert as_items(dropped, split) == as_items(once, split)
    kept = prepared(tmp_path, **logs, duplicates="keep")
    assert steps(kept)["before the split"][0] > 1.9 * steps(once)["before the split"][0]
    assert kept.manifest["found"]["duplicates"] == {
        "rule": "keep",
        "duplicates": len(clicks),
        "rows": len(doubled),
    }


def test_items_that_come_again_are_no_copies(tmp_path: pathlib.Path) -> None:
    """People reload pages; without an order, one such session is not a log that was written twice."""
    rng = np.random.default_rng(1)
    clicks = [
        (f"s{s}", f"i{item:02d}", 0) for s in range(40) for item in rng.integers(0, 6, 6) for _ in range(1 + s % 2)
    ]
    clicks = [click for click in clicks if click[0] != "s0"] + [
        ("s0", item, 0) for item in ("i00", "i00", "i01", "i01")
    ]
    uneven = [(session, "i07", 0) for session in {session for session, _, _ in clicks if session != "s0"}]
    found = prepared(tmp_path, **write_logs(tmp_path, clicks + uneven)).manifest["found"]
    assert found["duplicates"]["duplicates"] == 0


@pytest.mark.parametrize("word", ["NaN", "NULL", "nan", "None", "", "  ", r"\N"])
def test_a_word_for_nothing_is_no_id(tmp_path: pathlib.Path, word: str) -> None:
    clicks = clicks_at()
    lost = [(word, item, time) for _, item, time in clicks[:15]] + [
        (session, word, 0) for session, _, _ in clicks[15:17]
    ]
    logs = {**write_logs(tmp_path, [*clicks, *lost]), "order_column": "time"}
    line = refusal(tmp_path, **logs)
    assert "column 'session_id' is empty in 15 of 167 rows, first in data row 151; fill them, or drop" in line
    dataset = prepared(tmp_path, **logs, missing_ids="drop")
    assert steps(dataset)["row without a session or item id"] == (-17, 0)
    assert steps(dataset)["before the split"] == (150, 30)


def test_null_values_are_the_users(tmp_path: pathlib.Path) -> None:
    clicks = [("NULL" if session == "s01" else session, item, time) for session, item, time in clicks_at()]
    clicks += [("unknown", item, time) for _, item, time in clicks[:9]]
    logs = {**write_logs(tmp_path, clicks), "order_column": "time"}
    dataset = prepared(tmp_path, **logs, null_values="unknown", missing_ids="drop")
    assert steps(dataset)["row without a session or item id"] == (-9, 0)
    assert "NULL" in dataset.splits["test"].session_ids.to_list()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_texts_and_features_that_say_nothing(tmp_path: pathlib.Path, kind: str) -> None:
    logs = write_logs(tmp_path, clicks_at())
    rows = [(f"i{i:02d}", f"thing {i}", "red", 1.5, f"A > {i}") for i in range(20)]
    rows[0], rows[1] = ("i00", "NaN", "NULL", "nan", "N/A"), ("i01", " None ", "", "", "")
    columns = ("item_id", "title", "brand", "price", "path")
    if kind == "csv":
        logs["items"] = write_csv(tmp_path / "items.csv", columns, rows)
    else:
        logs["items"] = str(tmp_path / "items.parquet")
        table = pl.DataFrame(rows, schema=columns, orient="row", strict=False, schema_overrides={"price": pl.String})
        price = table["price"].str.strip_chars().replace("", "NaN").cast(pl.Float64)
        table.with_columns(price, pl.col("brand").cast(pl.Categorical)).write_parquet(logs["items"])
    dataset = prepared(
        tmp_path, **logs, order_column="time", price_column="price", brand_column="brand", category_column="path"
    )
    found = {row["item_id"]: row for row in dataset.items.iter_rows(named=True)}
    for item in ("i00", "i01"):
        assert found[item]["text"] == "" and found[item]["name"] == item
        assert found[item]["price"] is found[item]["brand"] is found[item]["category"] is None
    assert dataset.manifest["items_without_text"] == 2
    prices = 1 if kind == "csv" else 2
    assert dataset.manifest["found"]["null_values"] == {"brand": 1, "path": 1, "price": prices, "title": 2}


def test_errors_count_the_rows_of_the_file(tmp_path: pathlib.Path) -> None:
    """Rows that were dropped for want of an id are rows all the same."""
    rows = [(session, item, time, "1.5") for session, item, time in clicks_at()]
    rows[:2] = [("", *row[1:]) for row in rows[:2]]
    rows[5] = (*rows[5][:3], "cheap")
    logs = write_logs(tmp_path, [])
    logs["interactions"] = write_csv(tmp_path / "log.csv", (*HEADER, "paid"), rows)
    settings = {**logs, "missing_ids": "drop"}
    assert "holds 'cheap' in data row 6" in refusal(tmp_path, **settings, interaction_price_column="paid")
    assert "first in data row 6 with 'cheap'" in refusal(tmp_path, **settings, order_column="paid")


def test_ids_as_floats(tmp_path: pathlib.Path) -> None:
    """pandas makes floats of whole numbers where one is missing: 7.0 is item 7, and NaN is none."""
    logs = write_logs(tmp_path, [])
    pl.DataFrame({"item_id": range(20), "title": "x"}).write_parquet(logs["items"])
    clicks = clicks_at()
    table = pl.DataFrame(clicks, schema=HEADER, orient="row").with_columns(
        pl.col("item_id").str.slice(1).cast(pl.Float64)
    )
    table[4, "item_id"] = float("nan")
    table.write_parquet(logs["interactions"])
    assert "column 'item_id' is empty in 1 of 150 rows, first in data row 5" in refusal(tmp_path, **logs)
    table.with_columns(pl.col("item_id").fill_nan(2.0**60)).write_parquet(tmp_path / "large.parquet")
    large = {**logs, "interactions": str(tmp_path / "large.parquet")}
    assert "above 9007199254740992 different ids become one" in refusal(tmp_path, **large)
    dataset = prepared(tmp_path, **logs, order_column="time", missing_ids="drop")
    assert set(dataset.items["item_id"]) == {str(item) for item in range(20)}


@pytest.mark.parametrize("factor", [1000, 10**6, 10**9])
@pytest.mark.parametrize("kind", ["csv", "datetime"])
def test_mixed_units_stop(tmp_path: pathlib.Path, factor: int, kind: str) -> None:
    clicks = [(s, i, time * (factor if row % 5 == 3 else 1)) for row, (s, i, time) in enumerate(clicks_at())]
    logs = {**write_logs(tmp_path, clicks), "order_column": "time"}
    if kind == "datetime":
        logs["interactions"] = str(tmp_path / "log.parquet")
        table = pl.DataFrame(clicks, schema=HEADER, orient="row")
        unit = pl.Datetime("ns" if factor == 10**9 else "us")
        table.with_columns(pl.col("time").cast(unit)).write_parquet(logs["interactions"])
    line = refusal(tmp_path, **logs)
    unit_name = {1000: "milli", 10**6: "micro", 10**9: "nano"}[factor]
    assert "column 'time' mixes units: seconds since 1970 in 120 rows, first in data row 1 with" in line
    assert f"{unit_name}seconds since 1970 in 30 rows, first in data row 4 with" in line


@pytest.mark.parametrize(
    "values",
    [
        pl.Series(range(1, 5001)),
        pl.Series([0, 1, 2, 1000, 2000, 1_000_000]),
        pl.Series([0, EPOCH, EPOCH + 5]),
        pl.Series([10**power for power in range(19)]),  # numbers of all sizes, which are no times
        pl.Series(np.random.default_rng(0).integers(0, 10**13, 5000)),
        pl.Series([0.25, 1e3, 1e12]),
        pl.Series(["2024-01-01", "2024-01-02"]).str.to_date(),
        pl.Series(["1969-01-01 00:00:00", "2024-01-02 10:00:00"]).str.to_datetime(),
    ],
)
def test_honest_orders_are_not_refused(values: pl.Series) -> None:
    order_checks.require_one_unit(values, "time", "log.csv", pl.Series(range(len(values))))


def test_dates_among_times_stop(tmp_path: pathlib.Path) -> None:
    days = ["2024-03-31 18:05:00", "2024-03-31", "2024-03-30 00:00:00", "2024-04-01"]
    clicks = [(session, item, days[row % 4]) for row, (session, item, _) in enumerate(clicks_at())]
    logs = {**write_logs(tmp_path, []), "order_column": "time"}
    write_csv(tmp_path / "log.csv", HEADER, clicks)
    line = refusal(tmp_path, **logs)
    assert "a date without a time in 75 of 150 rows, first in data row 2 with '2024-03-31'" in line
    assert "a time in the others, first in data row 1 with '2024-03-31 18:05:00'" in line


@pytest.mark.parametrize("unit", ["ms", "us", "ns", "seconds"])
def test_midnights_among_times_are_counted(unit: Any) -> None:
    seconds = pl.Series(
        [EPOCH // 86_400 * 86_400 + 86_400 * day for day in range(30)] + [EPOCH + 7 * i for i in range(70)]
    )

    def typed(values: pl.Series) -> pl.Series:
        return values if unit == "seconds" else pl.from_epoch(values, "s").cast(pl.Datetime(unit))

    assert order_checks.midnights(typed(seconds)) == {"rows": 100, "midnight": 30}
    assert order_checks.midnights(typed(seconds[:30])) == {}  # days only
    assert order_checks.midnights(typed(seconds[10:])) == {"rows": 90, "midnight": 20}
    assert order_checks.midnights(typed(seconds[20:])) == {}
    assert order_checks.midnights(typed(seconds // 3600 * 3600)) == {}  # cut to the hour


def test_two_columns_of_one_name(tmp_path: pathlib.Path) -> None:
    logs = write_logs(tmp_path, clicks_at())
    rows = [(session, item, time, "i05") for session, item, time in clicks_at()]
    logs["interactions"] = write_csv(tmp_path / "log.csv", (*HEADER, "item_id"), rows)
    assert "line 1: columns 2 and 4 are both called 'item_id'; rename one" in refusal(tmp_path, **logs)
    # Columns that nobody reads may be called anything.
    write_csv(tmp_path / "log.csv", (*HEADER, "", ""), [(*click, "", "") for click in clicks_at()])
    assert len(prepared(tmp_path, **logs).splits["test"]) == 30
    write_csv(tmp_path / "log.csv", (*HEADER, "item_id_duplicated_0"), [(*click, "") for click in clicks_at()])
    assert len(prepared(tmp_path, **logs).splits["test"]) == 30


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("swallowed", [1, 4])
def test_a_stray_quote_that_swallows_items(tmp_path: pathlib.Path, swallowed: int, end: str) -> None:
    logs = write_logs(tmp_path, clicks_at())
    rows = [f"i{i:02d},thing {i},maker {i}" for i in range(30)]
    rows[2] = '"i02","a text\nof two lines, and more","maker 2"'  # which shifts the lines below it, and is none of it
    rows[20], rows[20 + swallowed] = 'i20,"thing 20,maker 20', f'i{20 + swallowed},thing 12",maker'
    (tmp_path / "items.csv").write_text(end.join(["item_id,title,brand", *rows, ""]), newline="")
    line = refusal(tmp_path, **logs)
    assert "items.csv, line 23: a quotation mark opens a field of column 'title' that goes on" in line
    assert f"for {swallowed + 1} lines" in line
    text = pathlib.Path(logs["items"]).read_text().splitlines()
    assert text[22].startswith("i20,")


def test_a_stray_quote_that_swallows_interactions(tmp_path: pathlib.Path) -> None:
    logs = write_logs(tmp_path, clicks_at())
    rows = [f"{session},tea {row},{item},{time}" for row, (session, item, time) in enumerate(clicks_at())]
    rows[7], rows[11] = rows[7].replace("tea", '"12 tea'), rows[11].replace("tea 11", 'tea 11"')
    (tmp_path / "log.csv").write_text("\n".join(["session_id,query,item_id,time", *rows, ""]))
    assert "log.csv, line 9: a quotation mark opens a field of column 'query'" in refusal(tmp_path, **logs)


def test_texts_of_several_lines_are_read(tmp_path: pathlib.Path) -> None:
    logs = write_logs(tmp_path, clicks_at())
    text = "Soap, hand made\nWith oil, honey, and oats\n\n- 100 g, wrapped\nVegan, kind, cheap"
    rows = [(f"i{i:02d}", text, f"{i}\nmakers") for i in range(20)]
    logs["items"] = write_csv(tmp_path / "items.csv", ("item_id", "title", "brand"), rows)
    assert prepared(tmp_path, **logs).items["text"][0].startswith("Soap, hand made With oil")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("a,b\n1,2\n\n3,4,5\n", "line 4: 3 fields, where line 1 names 2"),
        ('a,b\n"1\n2",3\n4,5,6\n', "line 4: 3 fields, where line 1 names 2"),
        ('a,b\n1,"2\n3,4\n', "line 2: a quotation mark is opened and not closed"),
        ('a,b\n1,2\n3,4" x\n5,6" y\n', "line 3: a quotation mark inside a field"),
        ('a,b\n1,"2""3"\n', ""),
    ],
)
def test_the_line_of_a_fault(tmp_path: pathlib.Path, content: str, fault: str) -> None:
    (tmp_path / "x.csv").write_text(content)
    assert csv_lines.first_fault(str(tmp_path / "x.csv")).startswith(fault)
    if not fault:
        assert csv_lines.first_fault(str(tmp_path / "x.csv")) == ""


@pytest.mark.parametrize(
    ("clicks", "settings", "cause"),
    [
        ([("a", "i01", 1), ("b", "i02", 2)], {}, "by 'session with fewer than 2 items' (2 sessions)"),
        ([("a", "i01", 1), ("a", "i02", 2)], {}, "none of 1 sessions has three items"),
        ([("a", f"i0{i}", i) for i in range(3)], {}, "all 1 sessions are so short that nothing to train on is left"),
        (clicks_at(), {"min_item_count": 99}, "item with fewer than 99 training interactions' took 90 interactions"),
        (clicks_at(), {"split": "ratio", "test_fraction": 0.001}, "of 30 sessions leave it none; change the shares"),
        (clicks_at(), {"split": "column", "split_column": "part"}, "'part' says validation of none of 30 sessions"),
    ],
)
def test_the_cause_where_no_session_is_left(
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    clicks: list[Click],
    settings: dict[str, Any],
    cause: str,
) -> None:
    logs = write_logs(tmp_path, [])
    logs["interactions"] = write_csv(tmp_path / "log.csv", (*HEADER, "part"), [(*click, "train") for click in clicks])
    line = refusal(tmp_path, **logs, **settings)
    assert " session is left: " in line and cause in line
    assert "before the split" in capsys.readouterr().err  # the steps are shown
