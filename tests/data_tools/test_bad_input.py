"""Every kind of bad input gets one clear line, and leaves nothing behind."""

import gzip
import pathlib
import shutil
from typing import Any

import polars as pl
import pytest

from alterrec_jax.errors import UserError
from data_tools.pipeline import prepare
from tests.data_tools.examples import FakeEncoder, options, prepared, random_clicks, write_csv, write_logs


def refusal(folder: pathlib.Path, **settings: Any) -> str:
    """The line that the user gets; nothing may be left at the place of the dataset."""
    with pytest.raises(UserError) as caught:
        prepare(options(folder, **settings), FakeEncoder())
    assert not (folder / "out").exists() and not list(folder.glob("*partial"))
    return str(caught.value)


@pytest.fixture
def logs(tmp_path: pathlib.Path) -> dict[str, Any]:
    return {**write_logs(tmp_path, random_clicks(0)), "order_column": "time"}


@pytest.mark.parametrize(
    ("tail", "line"),
    [
        (b"s1,", "column 'item_id' is empty in 1 of 238 rows, first in data row 238;"),
        (b",i01,3\n", "column 'session_id' is empty in 1 of 238 rows, first in data row 238;"),
        (b"s1,i01,\n", "column 'time' is empty in 1 of"),
        (b"s1,i01,soon\n", "with 'soon'; write numbers, or dates like 2024-03-31"),
        (b"s1,i01,nan\n", "column 'time' is empty in 1 of"),
        (b"s1,i01,inf\n", "holds an infinity in data row 238;"),
        (b"s1,i01,3,4,5\n", "cannot be read (line 239: 5 fields, where line 1 names 3)"),
        (b'"s1,i01', "cannot be read (line 239: a quotation mark is opened and not closed)"),
        (b's1,i0"1,3\n', "cannot be read (line 239: a quotation mark is opened and not closed)"),
        (b's1,i0"1,3\ns1,i0"1,3\n', "cannot be read (line 239: a quotation mark inside a field;"),
        ("s1,ä,3\n".encode("latin-1"), "cannot be read (line 239: not UTF-8)"),
        (b"s1,i77,3\n", "log.csv (data row 238) has no row in"),
    ],
)
def test_bad_rows(tmp_path: pathlib.Path, logs: dict[str, Any], tail: bytes, line: str) -> None:
    with open(logs["interactions"], "ab") as file:
        file.write(tail)
    assert line in refusal(tmp_path, **logs)


@pytest.mark.parametrize(
    ("times", "row", "bad"),
    [
        (["03/04/2024", "28/04/2024"], 1, "03/04/2024"),
        (["2024-04-03", "03/04/2024"], 2, "03/04/2024"),
        (["2024-04-03 18:05:00", "2024-13-03 18:05:00"], 2, "2024-13-03 18:05:00"),
        (["2024-04-03 at noon", "2024-04-03"], 1, "2024-04-03 at noon"),
        (["2024/04/03", "2024/04/04"], 1, "2024/04/03"),
        (["2024-4-3", "2024-4-4"], 1, "2024-4-3"),
        (["1711", "2024-04-03", "3"], 2, "2024-04-03"),
    ],
)
def test_an_order_that_is_neither_numbers_nor_iso_dates(
    tmp_path: pathlib.Path, logs: dict[str, Any], times: list[str], row: int, bad: str
) -> None:
    clicks = [("s1", "i01", time) for time in times]
    logs["interactions"] = write_csv(tmp_path / "log.csv", ("session_id", "item_id", "time"), clicks)
    line = refusal(tmp_path, **logs)
    assert f"column 'time' is neither all numbers nor all ISO dates, first in data row {row} with '{bad}'" in line
    assert "write numbers, or dates like 2024-03-31 or 2024-03-31 18:05:00" in line


@pytest.mark.parametrize("kind", ["gz", "parquet", "csv"])
def test_truncated_files(tmp_path: pathlib.Path, logs: dict[str, Any], kind: str) -> None:
    whole = tmp_path / "whole"
    if kind == "gz":
        whole.write_bytes(gzip.compress(pathlib.Path(logs["interactions"]).read_bytes()))
    elif kind == "parquet":
        pl.read_csv(logs["interactions"]).write_parquet(whole)
    cut = whole.read_bytes()[:-40] if kind != "csv" else b""
    whole.write_bytes(cut)
    assert "cannot be read" in refusal(tmp_path, **{**logs, "interactions": str(whole)})


@pytest.mark.parametrize(
    ("tail", "line"),
    [
        ("i03,again,x\n", "1 item ids in more than one row, first 'i03' in data rows 4 and 21;"),
        (",nameless,x\n", "column 'item_id' is empty"),
        ('i99,"half a ti', "cannot be read"),
    ],
)
def test_bad_items(tmp_path: pathlib.Path, logs: dict[str, Any], tail: str, line: str) -> None:
    with open(logs["items"], "a", encoding="utf-8") as file:
        file.write(tail)
    assert line in refusal(tmp_path, **logs)


@pytest.mark.parametrize(
    ("value", "kind"),
    [({"de": "Seife"}, "Struct"), ([[1.5]], "List(List(Float64))"), ([7], "List(Int64)"), (b"soap", "Binary")],
)
def test_a_text_column_that_holds_no_text(tmp_path: pathlib.Path, logs: dict[str, Any], value: Any, kind: str) -> None:
    logs["items"] = str(tmp_path / "items.parquet")
    pl.DataFrame({"item_id": ["i00"], "title": [value]}).write_parquet(logs["items"])
    line = refusal(tmp_path, **logs)
    assert f"column 'title' is {kind}" in line and "write it as text, or leave it out" in line


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"session_column": "sesion_id"}, "no column 'sesion_id'; did you mean 'session_id'?"),
        ({"text_columns": "title,brnd"}, "no column 'brnd'; did you mean 'brand'?"),
        ({"text_columns": " , "}, "--text_columns names no column"),
        ({"interactions": "nowhere.csv"}, "interactions file not found: nowhere.csv"),
        ({"items": ""}, "--items is missing"),
        ({"min_item_count": 1000}, "no train session is left"),
        ({"min_session_length": 1}, "--min_session_length is 1; it must be at least 2"),
        ({"split": "ratio", "seed": -1}, "--seed is -1; it must be at least 0"),
        ({"max_session_length": 3, "min_session_length": 4}, "below --min_session_length"),
        ({"split": "temporal", "order_column": ""}, "--split=temporal needs --order_column"),
        ({"split": "ratio", "test_fraction": 1.5}, "--test_fraction is 1.5"),
        ({"split": "ratio", "test_fraction": 0.5, "validation_fraction": 0.5}, "add up to 1"),
        ({"split": "ratio", "test_fraction": 0.001}, "no test session is left"),
        ({"split": "column"}, "--split=column needs --split_column"),
        ({"split": "column", "split_column": "session_id"}, "--session_column and --split_column both name"),
        ({"split": "temporal", "split_column": "time"}, "read by --split=column only, and the split is temporal"),
        ({"test_fraction": 0.1}, "--test_fraction is read by --split=temporal or ratio only"),
        ({"split": "column", "split_column": "time", "validation_fraction": 0.2}, "--validation_fraction is read by"),
        ({"user_column": "item_id"}, "--item_column and --user_column both name 'item_id'; each needs a column of"),
        ({"session_column": "item_id"}, "--session_column and --item_column both name 'item_id'"),
        ({"order_column": "item_id"}, "--item_column and --order_column both name 'item_id'"),
        ({"order_column": "session_id"}, "--session_column and --order_column both name 'session_id'"),
        ({"order_column": "", "user_column": "time"}, "a session has one user"),
        ({"order_column": "", "split": "column", "split_column": "time"}, "a session has one split"),
        ({"source": "elsewhere"}, "--source is 'elsewhere'"),
        ({"source": "complete_journey", "split": "leave_one_out"}, "does not fit complete_journey"),
    ],
)
def test_bad_settings(tmp_path: pathlib.Path, logs: dict[str, Any], settings: dict[str, Any], line: str) -> None:
    assert line in refusal(tmp_path, **{**logs, **settings})


def test_a_file_that_is_no_table(tmp_path: pathlib.Path, logs: dict[str, Any]) -> None:
    (tmp_path / "picture").write_bytes(bytes(range(256)) * 9)
    assert "does not begin with a line of column names" in refusal(
        tmp_path, **{**logs, "interactions": str(tmp_path / "picture")}
    )


def test_a_folder_that_is_no_dataset_is_not_replaced(tmp_path: pathlib.Path, logs: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="holds something that is not a dataset"):
        prepare(options(tmp_path, **{**logs, "out": str(tmp_path)}), FakeEncoder())
    assert pathlib.Path(logs["items"]).exists()


@pytest.mark.parametrize("manifest", ['{"name": "web app", "format_version": 1}', "[]", "{", ""])
def test_a_folder_with_a_manifest_of_another_program_is_not_replaced(
    tmp_path: pathlib.Path, logs: dict[str, Any], manifest: str
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "manifest.json").write_text(manifest)
    assert "holds something that is not a dataset" in refusal(tmp_path, **{**logs, "out": str(tmp_path / "app")})
    assert [path.name for path in (tmp_path / "app").iterdir()] == ["manifest.json"]
    assert (tmp_path / "app" / "manifest.json").read_text() == manifest


@pytest.mark.parametrize("out", [".", "..", "../here", "/"])
def test_the_folder_that_one_stands_in_is_not_replaced(
    tmp_path: pathlib.Path, logs: dict[str, Any], monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    line = refusal(tmp_path, **{**logs, "out": out})
    assert f"--out={out} is the folder that this command runs in or is above it" in line


def test_a_linked_folder_is_replaced_where_it_lies(tmp_path: pathlib.Path, logs: dict[str, Any]) -> None:
    (tmp_path / "disk" / "mine").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "mine")
    for seed in (0, 1):
        assert prepared(tmp_path, **logs, seed=seed).manifest["seed"] == seed
    assert (tmp_path / "out").is_symlink() and [path.name for path in (tmp_path / "disk").iterdir()] == ["mine"]


def test_raw_logs_and_runs_in_a_dataset_folder_are_not_lost(tmp_path: pathlib.Path, logs: dict[str, Any]) -> None:
    prepare(options(tmp_path, **logs), FakeEncoder())
    raw = tmp_path / "out" / "clicks.csv"
    shutil.copyfile(logs["interactions"], raw)
    (tmp_path / "out" / "run").mkdir()
    encoder = FakeEncoder(stop_after=0)  # it is said before anything is read
    with pytest.raises(UserError, match="holds 'clicks.csv' and 1 more, which would be lost"):
        prepare(options(tmp_path, **{**logs, "interactions": str(raw)}), encoder)
    assert raw.read_bytes() == pathlib.Path(logs["interactions"]).read_bytes()
    assert (tmp_path / "out" / "run").is_dir()


def test_a_failed_run_keeps_the_dataset_that_stood_there(tmp_path: pathlib.Path, logs: dict[str, Any]) -> None:
    prepare(options(tmp_path, **logs), FakeEncoder())
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        prepare(options(tmp_path, **logs, text_columns="brand"), FakeEncoder(stop_after=0))
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before


def test_a_full_disk_is_one_line(tmp_path: pathlib.Path, logs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise pl.exceptions.ComputeError("underlying IO error: No space left on device (os error 28)")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    line = refusal(tmp_path, **logs)
    assert "cannot be written" in line and "No space left on device" in line


@pytest.mark.parametrize("name", ["interactions", "items"])
@pytest.mark.parametrize("separator", [",", "|"])
def test_a_row_with_more_values_than_columns_is_refused(
    tmp_path: pathlib.Path, logs: dict[str, Any], name: str, separator: str
) -> None:
    """Also where the last column, in which such a row shows, is not read."""
    path = pathlib.Path(logs[name])
    lines = [line + ",more" for line in path.read_text(encoding="utf-8").splitlines()]
    lines[0] = lines[0].removesuffix("more") + "unread"
    lines[4] += ",and more"
    path.write_text("\n".join(lines).replace(",", separator) + "\n", encoding="utf-8")
    fields = lines[0].count(",") + 1
    line = refusal(tmp_path, **logs)
    assert f"line 5: {fields + 1} fields, where line 1 names {fields}" in line and path.name in line
