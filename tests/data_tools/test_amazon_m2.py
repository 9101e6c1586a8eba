"""Amazon-M2 from small files of exactly the official form."""

import pathlib
from typing import Any

import numpy as np
import polars as pl
import pytest

from alterrec_jax.errors import UserError
from data_tools.pipeline import prepare
from tests.data_tools.examples import FakeEncoder, as_items, options, prepared, write_csv

_PRODUCTS = ("id", "locale", "title", "price", "brand", "color", "size", "model", "material", "author", "desc")
_IDS = [f"B09{number:07d}" for number in range(30)]
_SILENT = _IDS[29]  # has a row, but neither title nor description


def _product(item: str, locale: str, title: str, desc: str) -> tuple[str, ...]:
    return (item, locale, title, "9.99", "acme", "", "", "", "", "", desc)


def _sessions(count: int, longest: int = 25) -> list[list[str]]:
    rng = np.random.default_rng(0)
    return [[_IDS[item] for item in rng.integers(0, 28, rng.integers(2, longest))] for _ in range(count)]


def _official(items: list[str]) -> str:
    """As the published file prints it: by NumPy, long lists over several lines."""
    return str(np.array(items, dtype=object))


@pytest.fixture
def files(tmp_path: pathlib.Path) -> dict[str, Any]:
    products = [_product(item, "ES", f"título {item}", "") for item in _IDS[:28]]
    products += [_product(_IDS[28], "ES", "", "sólo descripción"), _product(_SILENT, "ES", "", "")]
    products += [_product(item, "DE", f"Titel {item}", "") for item in _IDS[:3]]
    rows = [(_official(s[:-1]), s[-1], "ES") for s in _sessions(40)]
    rows += [(_official(_IDS[:2]), _IDS[2], "DE")]
    rows += [(_official([_IDS[0], _SILENT]), _IDS[1], "ES"), (_official([_IDS[0]]), "B0UNKNOWN0", "ES")]
    rows += [(_official([_IDS[28], _IDS[28]]), _IDS[0], "ES")]
    assert any("\n" in row[0] for row in rows)
    return {
        "source": "amazon_m2",
        "locale": "ES",
        "interactions": write_csv(tmp_path / "sessions_train.csv", ("prev_items", "next_item", "locale"), rows),
        "items": write_csv(tmp_path / "products_train.csv", _PRODUCTS, products),
    }


def test_sessions_of_one_market_with_texts(tmp_path: pathlib.Path, files: dict[str, Any]) -> None:
    dataset = prepared(tmp_path, **files)
    ours = {name: items for split in dataset.splits for name, items, _ in as_items(dataset, split)}
    expected = {f"train-{row + 1}": items for row, items in enumerate(_sessions(40))}
    assert ours == {**expected, "train-44": [_IDS[28], _IDS[28], _IDS[0]]}
    assert [len(dataset.splits[split]) for split in ("train", "validation", "test")] == [33, 4, 4]
    texts = dict(zip(dataset.items["item_id"], dataset.items["text"], strict=True))
    assert texts[_IDS[28]] == "sólo descripción" and texts[_IDS[0]] == f"título {_IDS[0]}"
    steps = {step["step"]: step["sessions"] for step in dataset.manifest["steps"]}
    assert steps["read, of the market"] == 43 and steps["session with an item without text"] == -2


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("truth", ["own column", "own file"])
def test_the_official_test_sessions(tmp_path: pathlib.Path, files: dict[str, Any], kind: str, truth: str) -> None:
    sessions = [[_IDS[3], _IDS[4], _IDS[5]], [_IDS[6], _IDS[7]], [_IDS[0], _IDS[1]]]
    locales = ["ES", "ES", "DE"]
    table = pl.DataFrame({"prev_items": [s[:-1] for s in sessions], "locale": locales})
    answers = pl.DataFrame({"next_item": [s[-1] for s in sessions]})
    if truth == "own column":
        table = pl.concat([table, answers], how="horizontal")
    else:
        answers.write_csv(tmp_path / "truth.csv")
        files["test_truth"] = str(tmp_path / "truth.csv")
    files["test_sessions"] = str(tmp_path / f"test.{kind}")
    if kind == "parquet":
        table.write_parquet(files["test_sessions"])
    else:
        printed = pl.Series("prev_items", [_official(items) for items in table["prev_items"].to_list()])
        table.with_columns(printed).write_csv(files["test_sessions"])
    dataset = prepared(tmp_path, **files)
    assert as_items(dataset, "test") == [("test-1", sessions[0], 1), ("test-2", sessions[1], 1)]
    assert len(dataset.splits["validation"]) == 4 and len(dataset.splits["train"]) == 37


def test_the_counts_stand_beside_the_papers(tmp_path: pathlib.Path, files: dict[str, Any]) -> None:
    printed = prepare(options(tmp_path, **files), FakeEncoder())
    assert "paper, Table 3" in printed and "75,098" in printed and "38,888" in printed


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"locale": "FR"}, "no session of --locale=FR; it has DE, ES"),
        ({"locale": ""}, "--locale is missing"),
        ({"test_sessions": "test.csv", "test_fraction": 0.1}, "--test_fraction is not read with --test_sessions"),
        ({"test_truth": "truth.csv"}, "no use without --test_sessions"),
        ({"text_columns": "titel"}, "did you mean 'title'?"),
    ],
)
def test_bad_settings(tmp_path: pathlib.Path, files: dict[str, Any], change: dict[str, str], line: str) -> None:
    with pytest.raises(UserError, match=line.replace("?", r"\?")):
        prepare(options(tmp_path, **{**files, **change}), FakeEncoder())


def test_bad_files(tmp_path: pathlib.Path, files: dict[str, Any]) -> None:
    def refused(rows: list[tuple[str, ...]], header: tuple[str, ...], **settings: str) -> str:
        path = write_csv(tmp_path / "bad.csv", header, rows)
        changed = {**files, **{name: path if value == "bad" else value for name, value in settings.items()}}
        with pytest.raises(UserError) as caught:
            prepare(options(tmp_path, **changed), FakeEncoder())
        return str(caught.value)

    train = ("prev_items", "next_item", "locale")
    assert "prev_items of data row 2" in refused(
        [("['A']", "B", "ES"), ("['A' 'B", "C", "ES")], train, interactions="bad"
    )
    assert "column 'next_item' is empty in 1 of 2 rows, first in data row 3;" in refused(
        [("['A']", "B", "ES"), ("['A']", "", "DE"), ("['A']", "", "ES")], train, interactions="bad"
    )
    assert "column 'id' is empty in 1 of 2 rows, first in data row 3;" in refused(
        [("A", "ES", "a", ""), ("", "DE", "b", ""), ("", "ES", "c", "")], ("id", "locale", "title", "desc"), items="bad"
    )
    assert "no column next_item" in refused([("['A']", "ES")], ("prev_items", "locale"), test_sessions="bad")
    assert "--test_truth has 1 rows" in refused(
        [("A",)], ("next_item",), test_truth="bad", test_sessions=files["interactions"]
    )
