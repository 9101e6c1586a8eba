"""What time makes of a log, repeats that are collapsed, and the core of training: against slow oracles and by hand."""

import collections
import datetime
import pathlib
import random
from typing import Any

import numpy as np
import polars as pl
import pytest

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from data_tools import catalogue, sessions, splits
from data_tools.flat_sessions import FlatSessions
from data_tools.tally import Tally
from tests.data_tools.examples import Click, as_items, options, prepared, random_clicks, write_csv, write_logs
from tests.data_tools.test_inputs import sessions_of, steps_of

START = 1_700_000_000  # seconds since 1970, in November 2023
BY_TIME = {"order_column": "time", "split": "ratio", "validation_fraction": 0.2, "test_fraction": 0.2}
BY_GAP = {**BY_TIME, "user_column": "session_id", "session_gap": "30m"}


def minutes_as(unit: str, minutes: int) -> Any:
    if unit == "date":
        return (datetime.datetime(2024, 3, 31) + datetime.timedelta(minutes=minutes)).isoformat(" ")
    scale = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    return (START + 60 * minutes) * scale


def by_hand(clicks: list[Click], gap: int) -> dict[str, list[str]]:
    """The sessions of each user, by a loop."""
    found: dict[str, list[str]] = collections.defaultdict(list)
    number, last = collections.Counter[str](), dict[str, int]()
    for user, item, time in sorted(clicks, key=lambda click: click[2]):
        number[user] += user not in last or time - last[user] > gap
        last[user] = time
        found[f"{user}-{number[user]}"].append(item)
    return {name: items for name, items in found.items() if len(items) > 1}


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "date"])
def test_a_gap_makes_sessions(tmp_path: pathlib.Path, unit: str) -> None:
    clicks = random_clicks(4, times=200)
    timed = [(user, item, minutes_as(unit, time)) for user, item, time in clicks]
    dataset = prepared(tmp_path, **write_logs(tmp_path, timed), **BY_GAP)
    assert sessions_of(dataset) == by_hand(clicks, 30)
    for part in dataset.splits.values():
        assert [name.rsplit("-", 1)[0] for name in part.session_ids] == part.user_ids.to_list()
    assert dataset.manifest.get("time_unit") == (None if unit == "date" else unit)
    assert dataset.manifest["sessions_are"] == "interactions of a 'session_id' until one comes more than 30m later"


def test_a_unit_that_cannot_be_known_is_asked_for(tmp_path: pathlib.Path) -> None:
    clicks = random_clicks(4, times=200)
    logs = write_logs(tmp_path, clicks)
    with pytest.raises(UserError, match=r"column 'time' \(numbers from 0 to 199\) cannot be known; give --time_unit=s"):
        prepared(tmp_path, **logs, **BY_GAP)
    given = prepared(tmp_path, **logs, **{**BY_GAP, "session_gap": "20s"}, time_unit="s")
    assert sessions_of(given) == by_hand(clicks, 20)
    mixed = [("u", "i00", START), ("u", "i01", START * 1000)]
    with pytest.raises(UserError, match="mixes units"):
        prepared(tmp_path, **write_logs(tmp_path, mixed), **BY_GAP)
    dates = [("u", "i00", "2024-01-01"), ("u", "i01", "2024-01-02")]
    with pytest.raises(UserError, match="'time' holds dates; leave it out"):
        prepared(tmp_path, **write_logs(tmp_path, dates), **BY_GAP, time_unit="s")


def test_a_gap_of_a_parquet_of_unsigned_numbers_and_days(tmp_path: pathlib.Path) -> None:
    """A later user begins earlier: a difference below zero is no gap, and does not wrap."""
    seconds = pl.Series([START + 7200, START + 7260, START, START + 60, START + 9000], dtype=pl.UInt32)
    days = pl.Series([datetime.date(2024, 3, day) for day in (8, 9, 1, 2, 5)])
    user = pl.Series(["a", "a", "b", "b", "b"])
    expected = ["a-1", "a-1", "b-1", "b-1", "b-2"]
    for order, gap in ((seconds, "30m"), (days, "1d")):
        assert sessions.by_gap(user, order, options(tmp_path, session_gap=gap)).to_list() == expected


def test_since_and_until_are_half_open(tmp_path: pathlib.Path) -> None:
    clicks = random_clicks(5, times=60)
    for unit, since, until in (
        ("s", "2023-11-14T22:23:20", "2023-11-14T23:53:20+01:00"),
        ("s", str(START + 600), str(START + 60 * 40)),
        ("ms", "2023-11-14T22:23:20Z", str((START + 60 * 40) * 1000)),
        ("date", "2024-03-31T00:10:00", "2024-03-31T00:40"),
    ):
        timed = [(name, item, minutes_as(unit, time)) for name, item, time in clicks]
        logs = write_logs(tmp_path, timed)
        dataset = prepared(tmp_path, **logs, **BY_TIME, since=since, until=until)
        inside = [click for click in clicks if 10 <= click[2] < 40]
        assert sessions_of(dataset) == {n.rsplit("-", 1)[0]: items for n, items in by_hand(inside, 99).items()}
        steps = steps_of(dataset)
        late, left = [click for click in clicks if click[2] >= 40], [click for click in clicks if click[2] >= 10]
        sessions_left = len({name for name, _, _ in left})
        early = (len(left) - len(clicks), sessions_left - len({name for name, _, _ in clicks}))
        assert steps[f"before --since={since}"] == early
        gone = len({name for name, _, _ in inside}) - sessions_left
        assert steps[f"at or after --until={until}"] == (-len(late), gone)


def test_a_date_is_read_in_the_zone_of_the_column(tmp_path: pathlib.Path) -> None:
    hours = pl.Series("order", [datetime.datetime(2024, 3, 31, hour) for hour in (21, 22, 23)])
    berlin = hours.dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Berlin")  # two hours ahead that day
    days = pl.Series("order", [datetime.date(2024, 3, 31), datetime.date(2024, 4, 1)])

    def left(order: pl.Series, since: str) -> int:
        raw = pl.DataFrame({"session": ["a"] * len(order), "order": order})
        return len(sessions.within(raw, options(tmp_path, since=since, order_column="time"), Tally()))

    assert left(berlin, "2024-04-01") == 2 and left(berlin, "2024-03-31T23:00Z") == 1
    assert left(hours, "2024-03-31T22:00") == 2 and left(days, "2024-04-01") == 1
    with pytest.raises(UserError, match="has a time zone, and 'time' has none"):
        left(hours, "2024-03-31T22:00Z")
    with pytest.raises(UserError, match="is a number, and 'time' holds dates"):
        left(hours, "2024")
    with pytest.raises(UserError, match=r"no interaction is left by --since=2025-01-01; 'time' is from 2024-03-31 21"):
        left(hours, "2025-01-01")


def test_repeats_collapse_to_the_first(tmp_path: pathlib.Path) -> None:
    clicks = [(name, f"i0{item}", time) for name in "abc" for time, item in enumerate([1, 1, 1, 2, 1, 3, 3])]
    clicks += [("d", "i03", 9), ("d", "i03", 9), ("d", "i04", 10)]
    both = {"collapse_repeats": True, "duplicates": "keep"}  # d says the same twice
    dataset = prepared(tmp_path, **write_logs(tmp_path, clicks), **BY_TIME, **both)
    found = sessions_of(dataset)
    assert found == {**dict.fromkeys("abc", ["i01", "i02", "i01", "i03"]), "d": ["i03", "i04"]}
    assert steps_of(dataset)["the same item again, right after itself"] == (-10, 0)
    assert dataset.manifest["order"]["tied_interactions"] == 0  # d had two of one time, and has one of them
    assert not dataset.manifest["order"]["positions"]


def core_by_hand(rows: set[tuple[int, int, int]], k: int, shortest: int) -> set[tuple[int, int, int]]:
    while True:
        items = collections.Counter(item for _, item, _ in rows)
        lengths = collections.Counter(session for session, _, _ in rows)
        kept = {row for row in rows if items[row[1]] >= k and lengths[row[0]] >= shortest}
        if kept == rows:
            return rows
        rows = kept


@pytest.mark.parametrize("seed", range(4))
def test_the_core_of_training(seed: int) -> None:
    chance = random.Random(seed)
    rows = [(session, int(40 * chance.random() ** 2), n) for session in range(80) for n in range(chance.randint(2, 9))]
    table = pl.DataFrame(rows, schema={"session": pl.UInt32, "item": pl.UInt32, "n": pl.Int64}, orient="row")
    split = pl.Series(["train"] * 60 + ["test"] * 20)
    tally, k, shortest = Tally(), (4, 5, 3, 4)[seed], (6, 2, 2, 2)[seed]
    parts = splits.whole_sessions(FlatSessions.of(table), split)
    kept = catalogue.filter_rare(parts, tally, least=1, core=k, held_out="keep", shortest=shortest)
    train = [row for row in rows if row[0] < 60]
    expected = core_by_hand(set(train), k, max(k, shortest))
    assert expected and len(expected) < len(train)
    of_row = np.repeat(kept["train"].session, kept["train"].lengths).tolist()
    assert [(session, *row) for session, row in zip(of_row, kept["train"].rows.rows(), strict=True)] == [
        row for row in train if row in expected
    ]
    assert len(kept["test"].rows) == len(rows) - len(train)
    outside = next(line for line in tally.lines if "outside its core" in line.step)
    assert outside.interactions == len(expected) - len(train)
    assert outside.sessions == len({row[0] for row in expected}) - len({row[0] for row in train})


@pytest.mark.parametrize("held_out", ["keep", "drop"])
def test_held_out_sessions_choose_no_item_of_the_core(tmp_path: pathlib.Path, held_out: str) -> None:
    clicks = random_clicks(3, times=1000)
    settings = {"order_column": "time", "split": "temporal", "k_core": 3, "held_out_rare_items": held_out}

    def made(clicks: list[Click]) -> Dataset:
        return prepared(tmp_path, **write_logs(tmp_path, clicks), **settings)

    before = made(clicks)
    outside = {*before.splits["validation"].session_ids, *before.splits["test"].session_ids}
    after = made([(session, "i19" if session in outside else item, time) for session, item, time in clicks])
    assert as_items(before, "train") == as_items(after, "train") and before.catalogue_size == after.catalogue_size
    assert before.manifest["k_core"].startswith("3-core of the training sessions, counted after the split")
    assert min(before.train_counts[: before.catalogue_size]) >= 3
    assert all(len(items) >= 3 for _, items, _ in as_items(before, "train"))


def test_the_steps_of_all_of_it_add_up(tmp_path: pathlib.Path) -> None:
    clicks = [(user, item, START + 60 * time) for user, item, time in random_clicks(6, sessions=200, times=300)]
    dataset = prepared(
        tmp_path,
        **write_logs(tmp_path, clicks, items=18),
        **{**BY_GAP, "session_gap": "1h"},
        drop_unknown_items=True,
        since=str(START + 1200),
        until="2023-11-15T02:33:20",
        collapse_repeats=True,
        k_core=2,
    )
    steps = dataset.manifest["steps"]
    names = [step["step"].split("=")[0] for step in steps]
    border = names.index("before the split")
    assert names[:border] == [
        "read",
        "sessions by time",
        "before --since",
        "at or after --until",
        "item without a row in the items",
        "the same item again, right after itself",
        "session with fewer than 2 items",
    ]
    assert steps[0]["sessions"] == 0 and steps[0]["interactions"] == steps[1]["interactions"]
    for name in ("interactions", "sessions"):
        assert sum(step[name] for step in steps[1:border]) == steps[border][name]
        mine = [step[name] for step in steps[border + 1 :] if step["step"].startswith("train: ")]
        assert sum(mine) == dataset.manifest["counts"]["train"][name]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"session_gap": "30"}, "--session_gap=30 is no duration; write a number and a unit: 90s, 30m, 1.5h or 1d"),
        ({"session_gap": "0m"}, "--session_gap=0m is no duration"),
        ({"session_gap": "30m"}, "--session_gap needs --user_column, and --order_column"),
        ({"session_gap": "30m", "user_column": "session_id", "session_column": "item_id"}, "both make the sessions"),
        ({"session_gap": "30m", "user_column": "session_id", "list_separator": ","}, "leave --session_gap out"),
        ({"since": "nan"}, "--since=nan is neither a number nor a date"),
        ({"until": "03/04/2024"}, "--until=03/04/2024 is neither a number nor a date like 2024-03-31"),
        ({"until": "2024-13-01"}, "--until=2024-13-01 is neither"),
        ({"since": "3", "order_column": ""}, "--since and --until need --order_column"),
        ({"since": "3", "time_unit": "s"}, "--time_unit is read by --session_gap"),
        ({"since": "2024-01-01"}, "cannot be known; give --time_unit"),
        ({"until": "-1"}, "no interaction is left by --until=-1; 'time' is from 0 to 29"),
        ({"k_core": 1}, "--k_core must be at least 2"),
        ({"k_core": 3, "min_item_count": 2}, "leave --min_item_count out beside it"),
        ({"k_core": 1000}, "no train session is left"),
        ({"separator": "ab"}, "--separator='ab' is no separator"),
        ({"list_separator": '"'}, "--list_separator='\"' is no separator"),
    ],
)
def test_settings_that_cannot_be_meant(tmp_path: pathlib.Path, settings: dict[str, Any], line: str) -> None:
    logs = {**write_logs(tmp_path, random_clicks(0)), "order_column": "time"}
    with pytest.raises(UserError) as caught:
        prepared(tmp_path, **{**logs, **settings})
    assert line in str(caught.value)


def test_a_gap_needs_a_name_of_every_user(tmp_path: pathlib.Path) -> None:
    rows = [("u", "i00", START), ("", "i01", START + 9)]
    logs = {
        **write_logs(tmp_path, []),
        "interactions": write_csv(tmp_path / "l.csv", ("user", "item_id", "time"), rows),
    }
    with pytest.raises(UserError, match="column 'user' is empty in 1 of 2 rows"):
        prepared(tmp_path, **logs, **{**BY_GAP, "user_column": "user"})
