"""Tabular logs from files to a dataset, against a slow oracle and by hand."""

import gzip
import pathlib

import numpy as np
import polars as pl
import pytest

from alterrec_jax.data.dataset import SPLITS
from data_tools import item_texts
from tests.data_tools import oracle
from tests.data_tools.examples import as_items, options, prepared, random_clicks, write_csv, write_logs


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rule", ["leave_one_out", "temporal"])
@pytest.mark.parametrize("held_out", ["keep", "drop"])
def test_agrees_with_the_oracle(tmp_path: pathlib.Path, seed: int, rule: str, held_out: str) -> None:
    clicks = random_clicks(seed, times=(3, 30, 200, 5)[seed])
    shortest, longest, least = (2, 0, 1) if seed == 0 else (seed + 1, 6, 2 * seed)
    parts = oracle.split(clicks, rule, shortest=shortest, longest=longest, share=0.2)
    shortest_left = 2 if rule == "leave_one_out" else shortest
    expected = oracle.filtered(parts, least=least, shortest=shortest_left, drop_held_out=held_out == "drop")
    shares = {"validation_fraction": 0.2, "test_fraction": 0.2} if rule == "temporal" else {}
    dataset = prepared(
        tmp_path,
        **write_logs(tmp_path, clicks),
        **shares,
        order_column="time",
        split=rule,
        min_session_length=shortest,
        max_session_length=longest,
        min_item_count=least,
        held_out_rare_items=held_out,
    )
    for split in SPLITS:
        assert as_items(dataset, split) == expected[split], split
    ids, catalogue = oracle.numbering(expected)
    assert dataset.items["item_id"].to_list() == ids
    assert dataset.catalogue_size == catalogue


def test_ties_are_counted_and_keep_the_order_of_the_file(tmp_path: pathlib.Path) -> None:
    clicks = [("a", "i03", 1), ("b", "i00", 5), ("a", "i01", 1), ("a", "i02", 0), ("b", "i01", 6), ("a", "i05", 0)]
    dataset = prepared(tmp_path, **write_logs(tmp_path, clicks), order_column="time")
    assert as_items(dataset, "test")[0] == ("a", ["i02", "i05", "i03", "i01"], 3)
    assert dataset.manifest["order"]["tied_interactions"] == 4
    assert dataset.manifest["order"]["sessions_with_ties"] == 1


def test_random_ties_follow_the_seed(tmp_path: pathlib.Path) -> None:
    logs = write_logs(tmp_path, random_clicks(1))
    runs = [prepared(tmp_path, **logs, ties="random", seed=seed) for seed in (0, 0, 1)]
    assert as_items(runs[0], "test") == as_items(runs[1], "test") != as_items(runs[2], "test")
    assert sorted(as_items(runs[0], "test")[0][1]) == sorted(as_items(runs[2], "test")[0][1])


def test_random_ties_shuffle_within_a_time_only(tmp_path: pathlib.Path) -> None:
    """A log sorted by item within each time: times keep their order, and what is equal loses its own."""
    clicks = [
        (f"s{s}", f"i{i:02d}", time) for s in range(40) for time in (3, 1, 2) for i in range(5 * time, 5 * time + 4)
    ]
    logs, ratio = write_logs(tmp_path, clicks), {"order_column": "time", "split": "ratio"}
    by_file = prepared(tmp_path, **logs, **ratio)
    expected = [f"i{i:02d}" for time in (1, 2, 3) for i in range(5 * time, 5 * time + 4)]
    assert all(items == expected for _, items, _ in as_items(by_file, "train"))
    order = by_file.manifest["order"]
    assert (order["ties"], order["interactions"], order["tied_interactions"]) == ("file", 480, 480)
    assert order["tied_pairs"] == order["tied_pairs_ascending"] == 40 * 9
    shuffled = prepared(tmp_path, **logs, **ratio, ties="random")
    found = [items for _, items, _ in as_items(shuffled, "train")]
    for items in found:
        assert [sorted(items[start : start + 4]) for start in (0, 4, 8)] == [expected[i : i + 4] for i in (0, 4, 8)]
    assert len({tuple(items) for items in found}) == len(found)
    order = shuffled.manifest["order"]
    assert order["tied_pairs"] == 360 and 120 < order["tied_pairs_ascending"] < 240


def test_every_kind_of_file_gives_the_same_dataset(tmp_path: pathlib.Path) -> None:
    logs = write_logs(tmp_path, random_clicks(2))
    plain = prepared(tmp_path, **logs, order_column="time").fingerprint
    packed, columnar = tmp_path / "log.csv.gz", tmp_path / "log.parquet"
    packed.write_bytes(gzip.compress(pathlib.Path(logs["interactions"]).read_bytes()))
    pl.read_csv(logs["interactions"]).write_parquet(columnar)
    for path in (packed, columnar):
        assert prepared(tmp_path, **{**logs, "interactions": str(path)}, order_column="time").fingerprint == plain


def test_dates_order_a_session_and_ids_keep_their_zeros(tmp_path: pathlib.Path) -> None:
    rows = [("007", "0002", "2024-02-10"), ("007", "0001", "2024-01-09"), ("007", "0003", "2024-10-01")]
    rows += [("008", "0003", "2024-01-01"), ("008", "0001", "2024-01-02"), ("008", "0002", "2024-01-02")]
    dataset = prepared(
        tmp_path,
        interactions=write_csv(tmp_path / "log.csv", ("session_id", "item_id", "day"), rows * 2),
        items=write_csv(tmp_path / "items.csv", ("sku", "title"), [(f"000{i}", f"thing {i}") for i in range(5)]),
        items_id_column="sku",
        order_column="day",
        duplicates="keep",
    )
    assert as_items(dataset, "test")[0] == ("007", ["0001", "0001", "0002", "0002", "0003", "0003"], 5)


@pytest.mark.parametrize(
    "times",
    [
        ["2024-02-10 10:00:00", "2024-02-09 00:00:00", "2024-02-10 10:00:00.5"],
        ["2024-02-10T10:00:00Z", "2024-02-10T11:00:00+02:00", "2024-02-10T10:00:00.5Z"],
        ["2024-02-10T10:00", "2024-02-10T09:59", "2024-02-10T10:01"],
    ],
)
def test_every_iso_form_orders_a_session(tmp_path: pathlib.Path, times: list[str]) -> None:
    rows = [("s", f"i{item}", time) for item, time in enumerate(times)]
    dataset = prepared(
        tmp_path,
        interactions=write_csv(tmp_path / "log.csv", ("session_id", "item_id", "time"), rows * 2),
        items=write_csv(tmp_path / "items.csv", ("item_id", "title"), [(f"i{item}", "x") for item in range(3)]),
        order_column="time",
        duplicates="keep",
    )
    assert as_items(dataset, "test") == [("s", ["i1", "i1", "i0", "i0", "i2", "i2"], 5)]


def test_held_out_sessions_cannot_change_training(tmp_path: pathlib.Path) -> None:
    clicks = random_clicks(3, times=1000)
    settings = {"order_column": "time", "split": "temporal", "min_item_count": 5}
    before = prepared(tmp_path, **write_logs(tmp_path, clicks), **settings)
    held_out = {*before.splits["validation"].session_ids, *before.splits["test"].session_ids}
    swapped = [(session, "i19" if session in held_out else item, time) for session, item, time in clicks]
    after = prepared(tmp_path, **write_logs(tmp_path, swapped), **settings)
    assert as_items(before, "train") == as_items(after, "train")
    size = before.catalogue_size
    assert after.catalogue_size == size
    assert before.items["item_id"][:size].to_list() == after.items["item_id"][:size].to_list()


def test_what_only_a_dropped_training_session_held_is_no_item_of_training(tmp_path: pathlib.Path) -> None:
    clicks = [(session, f"i0{item}", time) for session in "ab" for time, item in enumerate((1, 2, 1, 2, 1))]
    clicks += [("c", f"i0{item}", time) for time, item in enumerate((3, 1, 2))]  # its training piece is i03 alone
    dataset = prepared(tmp_path, **write_logs(tmp_path, clicks), order_column="time", held_out_rare_items="drop")
    assert [name for name, _, _ in as_items(dataset, "train")] == ["a", "b"]
    assert as_items(dataset, "test")[2] == ("c", ["i01", "i02"], 1)
    assert dataset.items["item_id"].to_list() == ["i01", "i02"] and dataset.catalogue_size == 2


def test_catalogue_all_takes_every_row(tmp_path: pathlib.Path) -> None:
    logs = write_logs(tmp_path, random_clicks(4, items=10), items=20)
    dataset = prepared(tmp_path, **logs, catalogue="all", min_item_count=8)
    assert dataset.catalogue_size == len(dataset.items) == 20
    trained = int((dataset.train_counts > 0).sum())
    assert (dataset.train_counts[:trained] > 0).all() and not dataset.train_counts[trained:].any()


def test_unknown_items_are_dropped_and_counted_on_demand(tmp_path: pathlib.Path) -> None:
    clicks = random_clicks(5)
    dataset = prepared(tmp_path, **write_logs(tmp_path, clicks, items=12), drop_unknown_items=True)
    steps = {step["step"]: step["interactions"] for step in dataset.manifest["steps"]}
    assert steps["read"] == len(clicks)
    assert steps["item without a row in the items"] == -sum(item >= "i12" for _, item, _ in clicks)


def test_steps_add_up(tmp_path: pathlib.Path) -> None:
    dataset = prepared(
        tmp_path,
        **write_logs(tmp_path, random_clicks(6)),
        split="ratio",
        min_item_count=6,
        min_session_length=3,
        max_session_length=5,
        held_out_rare_items="drop",
    )
    steps = dataset.manifest["steps"]
    border = [step["step"] for step in steps].index("before the split")
    assert sum(step["interactions"] for step in steps[:border]) == steps[border]["interactions"]
    assert sum(step["sessions"] for step in steps[:border]) == steps[border]["sessions"]
    for split in SPLITS:
        mine = [step for step in steps[border + 1 :] if step["step"].startswith(f"{split}: ")]
        for name in ("interactions", "sessions"):
            assert sum(step[name] for step in mine) == dataset.manifest["counts"][split][name]


def test_text_is_cleaned_and_vectors_belong_to_their_items(tmp_path: pathlib.Path) -> None:
    logs = write_logs(tmp_path, random_clicks(7))
    rows = [(f"i{i:02d}", "  Salt &amp;\n pepper " if i else "", "ACME" if i % 2 else "") for i in range(20)]
    logs["items"] = write_csv(tmp_path / "items.csv", ("item_id", "title", "brand"), rows)
    dataset = prepared(tmp_path, **logs, text_columns="title,brand", catalogue="all")
    of_item = dict(zip(dataset.items["item_id"], dataset.items["text"], strict=True))
    assert of_item["i00"] == "" and of_item["i01"] == "Salt & pepper, ACME" and of_item["i02"] == "Salt & pepper"
    assert dataset.items.filter(pl.col("item_id") == "i00")["name"].to_list() == ["i00"]
    assert dataset.manifest["items_without_text"] == 1
    expected = [[len(text), ord(text[0]), 1.0] if text else [0.0] * 3 for text in dataset.items["text"]]
    np.testing.assert_array_equal(dataset.text_vectors, np.array(expected, np.float32))
    assert dataset.manifest["text_encoders"]["text"]["columns"] == ["title", "brand"]


def test_codes_for_a_terminal_are_no_text() -> None:
    texts = [
        "\x1b[31mRed\x1b[0m \x07soap",
        "\x1b]0;title\x07pan",
        "a\tb\r\nc\x85d\x00e",
        "a\u202egnp.b",
        "\x9b31mx",
        "नमस्ते\u200d",
    ]
    cleaned = pl.DataFrame({"text": texts}).select(item_texts.clean(pl.col("text"))).to_series()
    assert cleaned.to_list() == ["Red soap", "pan", "a b c de", "agnp.b", "31mx", "नमस्ते\u200d"]


def test_lists_of_strings_are_joined(tmp_path: pathlib.Path) -> None:
    logs = write_logs(tmp_path, random_clicks(7))
    kinds = [["Home &amp; Kitchen", None, "Pans"], [], None, ["Pans"]]
    logs["items"] = str(tmp_path / "items.parquet")
    rows = {"item_id": [f"i{i:02d}" for i in range(20)], "title": ["pan"] * 20, "categories": kinds * 5}
    pl.DataFrame(rows).write_parquet(logs["items"])
    dataset = prepared(tmp_path, **logs, text_columns="title,categories", catalogue="all", name_column="categories")
    found = dataset.items.sort("item_id").head(4)
    assert found["text"].to_list() == ["pan, Home & Kitchen Pans", "pan", "pan", "pan, Pans"]
    assert found["name"].to_list() == ["Home & Kitchen Pans", "i01", "i02", "Pans"]


def test_the_split_column_is_obeyed(tmp_path: pathlib.Path) -> None:
    names = {"a": "train", "b": "validation", "c": "test"}
    rows = [(session, f"i{i}", names[session]) for i in range(3) for session in names]
    dataset = prepared(
        tmp_path,
        interactions=write_csv(tmp_path / "log.csv", ("session_id", "item_id", "part"), rows),
        items=write_csv(tmp_path / "items.csv", ("item_id", "title"), [(f"i{i}", "x") for i in range(3)]),
        split="column",
        split_column="part",
        user_column="session_id",
    )
    for session, split in names.items():
        assert as_items(dataset, split) == [(session, ["i0", "i1", "i2"], 1)]
        assert dataset.splits[split].user_ids.to_list() == [session]


def test_options_know_their_defaults(tmp_path: pathlib.Path) -> None:
    dataset = prepared(tmp_path, **write_logs(tmp_path, random_clicks(8)))
    arguments = dataset.manifest["arguments"]
    assert arguments["split"] == "leave_one_out" and "out" not in arguments
    assert set(dataset.manifest["source_files"]) == {"log.csv", "items.csv"}
    assert options(tmp_path).min_session_length == 2
