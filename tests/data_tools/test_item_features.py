"""Prices, categories, attributes, images and further vectors: from files and training interactions to the folder."""

import hashlib
import pathlib
from typing import Any

import numpy as np
import polars as pl
import pytest

from alterrec_jax.data.dataset import Dataset, load_dataset
from alterrec_jax.errors import UserError
from data_tools import item_features
from data_tools.further_vectors import named_values
from data_tools.images import with_hashes
from data_tools.item_features import FeatureColumns, frequent_attributes, positive_prices, read_features
from data_tools.pipeline import prepare
from tests.data_tools.examples import FakeEncoder, as_items, options, prepared, random_clicks, write_csv

ITEMS = 20
HEADER = ("item_id", "title", "cost", "path", "maker", "colour", "file", "words")
SETTINGS = {
    "order_column": "time",
    "category_column": "path",
    "brand_column": "maker",
    "attribute_columns": "maker, path,colour",
    "image_words_column": "words",
}


def item_rows() -> list[tuple[Any, ...]]:
    """Twenty items; item 3 has nothing but a title, and item 4 a colour of its own."""
    rows = [
        (f"i{i:02d}", f"Thing {i}", 1 + i / 4, f"Home &gt; Kitchen {i % 2}", f"maker {i % 3}", "red", f"{i}.png", "pan")
        for i in range(ITEMS)
    ]
    rows[3] = ("i03", "Thing 3", "", "", "", "", "", "")
    rows[4] = (*rows[4][:5], "only mine", *rows[4][6:])
    return rows


@pytest.fixture
def logs(tmp_path: pathlib.Path) -> dict[str, Any]:
    """Options for logs whose items all occur, with a price in each interaction that depends on the session."""
    clicks = random_clicks(4, sessions=80)
    clicks += [(f"s{i:02d}", f"i{i:02d}", time) for time in (50, 51) for i in range(ITEMS)]
    rows = [(*click, 1 + row % 5) for row, click in enumerate(clicks)]
    return {
        "interactions": write_csv(tmp_path / "log.csv", ("session_id", "item_id", "time", "paid"), rows),
        "items": write_csv(tmp_path / "items.csv", HEADER, item_rows()),
    }


def column(dataset: Dataset, name: str) -> dict[str, Any]:
    """The values of a column, by the ids of the items."""
    return dict(dataset.items["item_id", name].iter_rows())


def test_columns_become_features(tmp_path: pathlib.Path, logs: dict[str, Any]) -> None:
    found = prepared(tmp_path, **logs, **SETTINGS, price_column="cost", catalogue="all")
    assert column(found, "price") == {f"i{i:02d}": None if i == 3 else 1 + i / 4 for i in range(ITEMS)}
    assert column(found, "category") == {f"i{i:02d}": None if i == 3 else f"Kitchen {i % 2}" for i in range(ITEMS)}
    assert column(found, "brand")["i05"] == "maker 2" and column(found, "brand")["i03"] is None
    assert column(found, "image_words")["i05"] == "pan" and column(found, "image_words")["i03"] is None
    assert column(found, "attributes")["i05"] == ["maker=maker 2", "path=Home", "path=Kitchen 1", "colour=red"]
    assert column(found, "attributes")["i03"] is None
    notes = found.manifest["attributes"]
    assert notes["price"] == {
        "column": "cost",
        "rule": item_features.PRICE_RULE,
        "not_positive": 0,
        "coverage": 0.95,
        "catalogue_coverage": 0.95,
    }
    assert {name: note["column"] for name, note in notes.items()} == {
        "price": "cost",
        "category": "path",
        "brand": "maker",
        "image_words": "words",
        "attributes": "maker,path,colour",
    }
    assert all(note["catalogue_coverage"] == 0.95 for note in notes.values())


def test_an_attribute_needs_five_training_interactions(tmp_path: pathlib.Path, logs: dict[str, Any]) -> None:
    found = prepared(tmp_path, **logs, **SETTINGS)
    names, counts = found.items["item_id"].to_list(), found.train_counts
    rows = {row[0]: row for row in item_rows()}
    of_colour = {"red": 0, "only mine": 0, "": 0}
    for name, count in zip(names, counts, strict=True):
        of_colour[rows[name][5]] += int(count)
    assert of_colour["red"] > 100
    assert ("colour=only mine" in column(found, "attributes")["i04"]) == (of_colour["only mine"] >= 5)


def test_frequent_attributes_by_hand() -> None:
    attributes = pl.Series([["a", "b"], ["a"], None, ["c"], [], ["b", "c"]], dtype=pl.List(pl.String))
    counts = np.array([2, 3, 9, 4, 9, 0])
    #   a: 2 + 3; b: 2 + 0; c: 4 + 0
    assert frequent_attributes(attributes, counts, 5).to_list() == [["a"], ["a"], None, [], [], []]
    assert frequent_attributes(attributes, counts, 4).to_list() == [["a"], ["a"], None, ["c"], [], ["c"]]
    assert frequent_attributes(attributes, counts, 6).to_list() == [[], [], None, [], [], []]


def test_paths_and_lists(tmp_path: pathlib.Path) -> None:
    rows = {
        "item_id": ["a", "b", "c", "d"],
        "path": ["A>B > C &amp; D", " lone ", None, " > "],
        "kinds": [["x > y", " z "], [None, ""], None, ["z", "z"]],
        "number": [7, 8, None, 7],
    }
    pl.DataFrame(rows).write_parquet(tmp_path / "items.parquet")
    path = str(tmp_path / "items.parquet")
    found, _ = read_features(path, FeatureColumns(category="path", attributes=("path", "kinds", "number")))
    assert found["category"].to_list() == ["C & D", "lone", None, None]
    assert found["attributes"].to_list() == [
        ["path=A", "path=B", "path=C & D", "kinds=x > y", "kinds=z", "number=7"],
        ["path=lone", "number=8"],
        None,
        ["kinds=z", "number=7"],
    ]
    assert read_features(path, FeatureColumns(category="kinds"))[0]["category"].to_list() == ["z", None, None, "z"]


def test_prices_that_are_none_are_unknown_and_counted() -> None:
    values = pl.Series(["2.5", "", " 3 ", "0", "-1", "nan", "inf", None])
    prices, unknown = positive_prices(values, "items file f", "cost")
    assert prices.to_list() == [2.5, None, 3.0, None, None, None, None, None] and unknown == 4
    prices, unknown = positive_prices(pl.Series([2, 0, None]), "items file f", "cost")
    assert prices.to_list() == [2.0, None, None] and unknown == 1 and prices.dtype == pl.Float64


def test_the_price_of_an_item_is_its_median_over_training(tmp_path: pathlib.Path, logs: dict[str, Any]) -> None:
    shares = {"validation_fraction": 0.2, "test_fraction": 0.2}
    found = prepared(tmp_path, **logs, order_column="time", interaction_price_column="paid", split="temporal", **shares)
    held_out = {*found.splits["validation"].session_ids, *found.splits["test"].session_ids}
    trained = set(found.splits["train"].session_ids)
    paid: dict[str, list[int]] = {}
    for session, item, _, price in pl.read_csv(logs["interactions"]).iter_rows():
        if session in trained:
            paid.setdefault(item, []).append(price)
    assert held_out and not held_out & trained
    for item, price in column(found, "price").items():
        assert price == (np.median(paid[item]) if item in paid else None), item
    assert found.manifest["attributes"]["price"]["rule"].startswith("median over training interactions")


def without(path: str, sessions: set[str], *, every: bool) -> None:
    """Deletes the sessions from a log, or (not `every`) gives them other items and prices in another order."""
    table = pl.read_csv(path)
    held_out = pl.col("session_id").is_in(sessions)
    if every:
        table.filter(~held_out).write_csv(path)
        return
    changed = (
        table.filter(held_out)
        .with_columns(pl.col("item_id").shuffle(seed=1), pl.col("paid") * 7)
        .sample(fraction=1.0, shuffle=True, seed=2)
    )
    pl.concat([changed, table.filter(~held_out)]).write_csv(path)


@pytest.mark.parametrize("every", [True, False])
def test_held_out_sessions_leave_no_mark(tmp_path: pathlib.Path, logs: dict[str, Any], every: bool) -> None:
    """Prices, attributes and coverage of the catalogue are the same bits without them, or with others."""
    names = [f"s{i:02d}" for i in range(80)]
    parts = {name: ("test", "validation", "train", "train")[i % 4] for i, name in enumerate(names)}
    table = pl.read_csv(logs["interactions"])
    table.with_columns(pl.col("session_id").replace_strict(parts).alias("part")).write_csv(logs["interactions"])
    np.save(tmp_path / "image.npy", np.arange(ITEMS * 3, dtype=np.float32).reshape(ITEMS, 3))
    settings = {
        **SETTINGS,
        "interaction_price_column": "paid",
        "split": "column",
        "split_column": "part",
        "vectors": (f"image={tmp_path / 'image.npy'}",),
    }
    before = prepared(tmp_path, **logs, **settings)
    # One held-out session of each part stays, for a dataset needs one.
    gone = {name for name, part in parts.items() if part != "train"} - {"s00", "s01"}
    without(logs["interactions"], gone, every=every)
    after = prepared(tmp_path, **logs, **settings)
    size = before.catalogue_size
    assert after.catalogue_size == size > 10
    assert as_items(before, "train") == as_items(after, "train")
    assert as_items(before, "test") != as_items(after, "test")
    for name in ("item_id", "category", "brand", "attributes", "image_words"):
        assert before.items[name][:size].to_list() == after.items[name][:size].to_list(), name
    price = [dataset.items["price"][:size].fill_null(-1).to_numpy().tobytes() for dataset in (before, after)]
    assert price[0] == price[1]
    np.testing.assert_array_equal(before.vectors["image"][:size], after.vectors["image"][:size])
    covered = [
        {name: note["catalogue_coverage"] for name, note in (d.manifest["attributes"] | d.manifest["vectors"]).items()}
        for d in (before, after)
    ]
    assert covered[0] == covered[1] and len(covered[0]) == 6
    assert before.manifest["protocol"] == after.manifest["protocol"]


def test_further_vectors_follow_their_items(tmp_path: pathlib.Path, logs: dict[str, Any]) -> None:
    logs["items"] = write_csv(tmp_path / "items.csv", HEADER, item_rows()[::-1])
    image = np.arange(1, ITEMS * 3 + 1, dtype=np.float64).reshape(ITEMS, 3)
    image[7] = 0  # of item 12, for the file begins with the last
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "other.npy", np.full((ITEMS, 1), 2, np.float32))
    given = (f"image={tmp_path / 'image.npy'},other={tmp_path / 'other.npy'}",)
    found = prepared(tmp_path, **logs, order_column="time", min_item_count=4, vectors=given)
    rows = [ITEMS - 1 - int(name[1:]) for name in found.items["item_id"]]
    np.testing.assert_array_equal(found.vectors["image"], image[rows].astype(np.float32))
    assert found.vectors["other"].shape == (len(rows), 1)
    assert found.has_vector("image").tolist() == [row != 7 for row in rows] and 7 in rows
    note = found.manifest["vectors"]["image"]
    assert (note["file"], note["width"]) == ("image_vectors.npy", 3)
    assert note["coverage"] == (len(rows) - 1) / len(rows)
    assert "image.npy" in found.manifest["source_files"]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("text=a.npy", "'text' is the name of the vectors of the text columns"),
        ("a.npy", "--vectors=a.npy names no file; write --vectors=NAME=FILE.npy"),
        ("image=", "names no file"),
        ("Image=a.npy", "'Image' is no name"),
        ("../x=a.npy", "'../x' is no name"),
        ("a=b.npy,a=c.npy", "names 'a' twice"),
    ],
)
def test_names_of_vectors(given: str, line: str) -> None:
    assert named_values(["a=b.npy, c=d.npy", "e=f=g.npy"], "vectors", "FILE.npy") == {
        "a": "b.npy",
        "c": "d.npy",
        "e": "f=g.npy",
    }
    with pytest.raises(UserError) as caught:
        named_values([given], "vectors", "FILE.npy")
    assert line in str(caught.value)


@pytest.mark.parametrize(
    ("array", "line"),
    [
        (np.ones((ITEMS - 1, 3)), f"--vectors=image: {{path}} have shape (19, 3), but there are {ITEMS} items"),
        (np.ones(ITEMS), "have shape (20,)"),
        (np.ones((ITEMS, 3), np.int64), "hold int64, not floating-point numbers"),
        (np.where(np.arange(ITEMS) == 5, np.nan, 1.0)[:, None], "a NaN or an infinity in row 5"),
        (np.where(np.arange(ITEMS) == 6, 1e300, 1.0)[:, None], "a NaN or an infinity in row 6"),
    ],
)
def test_vectors_that_do_not_fit(tmp_path: pathlib.Path, logs: dict[str, Any], array: np.ndarray, line: str) -> None:
    path = tmp_path / "image.npy"
    np.save(path, array)
    message = refusal(tmp_path, **logs, order_column="time", vectors=(f"image={path}",))
    assert line.format(path=path) in message and "in the order of --items" in message


def refusal(folder: pathlib.Path, **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        prepare(options(folder, **settings), FakeEncoder())
    assert not (folder / "out").exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"price_column": "title"}, "column 'title' holds 'Thing 0' in data row 1 (20 such rows), which is no number"),
        ({"price_column": "csot"}, "no column 'csot'; did you mean 'cost'?"),
        ({"interaction_price_column": "session_id"}, "--session_column and --interaction_price_column both name"),
        ({"interaction_price_column": "payed"}, "did you mean 'paid'?"),
        ({"interaction_price_column": "paid", "price_column": "cost"}, "both give the price; leave one out"),
        ({"image_column": "file"}, "--image_column and --image_dir belong together"),
        ({"image_dir": "."}, "--image_column and --image_dir belong together"),
        ({"image_column": "file", "image_dir": "nowhere"}, "--image_dir=nowhere is no folder"),
        ({"vectors": ("image=nowhere.npy",)}, "--vectors=image: file nowhere.npy is missing"),
        ({"vectors": (f"image={__file__}",)}, "cannot be read (it is no .npy file); write float32 [rows of --items"),
    ],
)
def test_bad_settings(tmp_path: pathlib.Path, logs: dict[str, Any], settings: dict[str, Any], line: str) -> None:
    assert line in refusal(tmp_path, **logs, order_column="time", **settings)


def test_images_are_found_and_hashed(tmp_path: pathlib.Path, logs: dict[str, Any]) -> None:
    (tmp_path / "pictures").mkdir()
    for i in range(0, ITEMS, 2):
        (tmp_path / "pictures" / f"{i}.png").write_bytes(b"picture %d" % i)
    settings = {"image_column": "file", "image_dir": str(tmp_path / "pictures"), "catalogue": "all"}
    found = prepared(tmp_path, **logs, order_column="time", **settings)
    for item, name, digest in found.items["item_id", "image", "image_sha256"].iter_rows():
        i = int(item[1:])
        expected = (f"{i}.png", hashlib.sha256(b"picture %d" % i).hexdigest()) if i % 2 == 0 else (None, None)
        assert (name, digest) == expected
    note = found.manifest["attributes"]["image"]
    assert note["missing_files"] == 9 and note["coverage"] == 0.5  # item 3 names none


@pytest.mark.parametrize(
    ("name", "line"), [("../up.png", "lies outside of --image_dir"), ("a.png", "check --image_dir")]
)
def test_images_elsewhere(tmp_path: pathlib.Path, name: str, line: str) -> None:
    (tmp_path / "up.png").write_bytes(b"x")
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match=line):
        with_hashes(pl.DataFrame({"image": [name]}), str(tmp_path / "in"))
    absolute, missing = with_hashes(pl.DataFrame({"image": [str(tmp_path / "up.png"), None]}), str(tmp_path))
    assert absolute["image"].to_list() == ["up.png", None] and missing == 0


def test_without_features_the_items_are_as_before(tmp_path: pathlib.Path, logs: dict[str, Any]) -> None:
    found = load_dataset(prepared(tmp_path, **logs, order_column="time").path)
    assert found.items.columns == ["item_id", "name", "text"] and found.manifest["attributes"] == {}
    assert list(found.vectors) == ["text"] and found.manifest["vectors"] == {}
