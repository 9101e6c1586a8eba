"""Nothing half-written is ever taken for whole: files and folders are replaced in one piece or not at all."""

import contextlib
import hashlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

from alterrec_jax.errors import UserError
from alterrec_jax.runtime import files

KILLED = """
import os, pathlib, sys
from alterrec_jax.runtime import files
with files.{function}(pathlib.Path(sys.argv[1]){ours}) as partial:
    ({file}).write_text("half")
    os._exit(9)
"""


def names(folder: pathlib.Path) -> list[str]:
    """What lies in a folder."""
    return sorted(entry.name for entry in folder.iterdir())


def die_while_writing(function: str, path: pathlib.Path) -> None:
    """Starts a process that dies in the middle of writing."""
    file = "partial" if function == "replacing" else "partial / 'part.txt'"
    ours = "" if function == "replacing" else ", ['old']"
    script = KILLED.format(function=function, file=file, ours=ours)
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == 9


def test_a_file_is_written_and_replaced(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    files.write_text(path, "first")
    files.write_text(path, "zweites, größer")
    assert path.read_text(encoding="utf-8") == "zweites, größer"
    assert names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failing_block_leaves_the_old_file(tmp_path: pathlib.Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), files.replacing(path) as partial:
        partial.write_text("half")
        assert path.read_text() == "old"
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_failing_block_leaves_no_file_where_there_was_none(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError), files.replacing(tmp_path / "a.txt") as partial:
        partial.write_text("half")
        raise ValueError
    assert names(tmp_path) == []


def test_a_process_that_dies_leaves_the_old_file_and_the_next_one_writes(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    die_while_writing("replacing", path)
    assert path.read_text() == "old"
    files.write_text(path, "new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_is_written_and_replaced(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "folder"
    for name in ("first", "second"):
        with files.replacing_directory(path, ["deep"]) as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / name).write_text(name)
    assert names(path / "deep") == ["second"]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failing_block_leaves_the_old_folder(tmp_path: pathlib.Path, error: type[BaseException]) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(error), files.replacing_directory(path, ["old"]) as folder:
        (folder / "half").write_text("half")
        raise error
    assert names(path) == ["old"]
    assert names(tmp_path) == ["folder"]


def test_a_process_that_dies_leaves_the_old_folder_and_the_next_one_writes(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old")
    die_while_writing("replacing_directory", path)
    assert names(path) == ["old"]
    with files.replacing_directory(path, ["old"]) as folder:
        (folder / "new").write_text("new")
    assert names(path) == ["new"], "nothing of the dead process's work may be in it"
    assert names(tmp_path) == ["folder"]


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: pathlib.Path) -> None:
    (tmp_path / "disk" / "folder").mkdir(parents=True)
    for name in ("file", "folder"):
        (tmp_path / name).symlink_to(tmp_path / "disk" / name)
    files.write_text(tmp_path / "file", "new")
    with files.replacing_directory(tmp_path / "folder", []) as folder:
        (folder / "new").write_text("new")
    assert (tmp_path / "disk" / "file").read_text() == (tmp_path / "disk" / "folder" / "new").read_text() == "new"
    assert (tmp_path / "file").is_symlink() and (tmp_path / "folder").is_symlink()
    assert names(tmp_path) == ["disk", "file", "folder"] and names(tmp_path / "disk") == ["file", "folder"]


@pytest.mark.parametrize("name", [".", "folder", "folder/..", "pipe"])
def test_a_file_replaces_nothing_but_a_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")  # stands for a device: on a real one, a failure of this test would destroy it
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="is not a regular file, and is not replaced by one; name another file"):
        files.write_text(name, "new")
    assert names(tmp_path) == ["folder", "pipe"] and not names(tmp_path / "folder")
    assert (tmp_path / "pipe").is_fifo()


def test_json_survives_and_is_not_written_when_it_would_not_be_json(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.json"
    value = {"number": 0.1, "text": "größer", "list": [1, None, True]}
    files.write_json(path, value)
    assert files.read_json(path, "record") == value == json.loads(path.read_text(encoding="utf-8"))
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError):
            files.write_json(path, {"number": bad})
    assert files.read_json(path, "record") == value


@pytest.mark.parametrize("content", [None, b"", b'{"a": 1', b'{"a": "\xff"}'])
def test_missing_or_damaged_json_is_an_error_that_names_it(tmp_path: pathlib.Path, content: bytes | None) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="dataset manifest") as caught:
        files.read_json(path, "dataset manifest")
    assert str(path) in str(caught.value)


def test_hash_of_a_file_is_that_of_its_bytes(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(range(256)) * 1000)
    assert files.sha256_file(path) == hashlib.sha256(bytes(range(256)) * 1000).hexdigest()


def test_what_stands_beside_a_replaced_folder_stays(tmp_path: pathlib.Path) -> None:
    beside = ("data.old", "data.bak", "data.partial", ".data", ".data.partial")
    for name in ("data", *beside):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    with files.replacing_directory(tmp_path / "data", ["file"]) as partial:
        (partial / "file").write_text("new")
    found = {path.name: (path / "file").read_text() for path in tmp_path.iterdir()}
    assert found == {"data": "new"} | {name: name for name in beside}


@pytest.mark.parametrize("fails", [False, True])
def test_what_stands_beside_a_replaced_file_stays(tmp_path: pathlib.Path, fails: bool) -> None:
    for name in ("a.txt", "a.txt.partial", ".a.txt.partial"):
        (tmp_path / name).write_text(name)
    with contextlib.suppress(ValueError), files.replacing(tmp_path / "a.txt") as partial:
        partial.write_text("new")
        if fails:
            raise ValueError
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    beside = {name: name for name in ("a.txt.partial", ".a.txt.partial")}
    assert found == {"a.txt": "a.txt" if fails else "new"} | beside


def test_two_writers_of_a_file_do_not_share_what_they_write(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.txt"
    with files.replacing(path) as first, open(first, "w") as file:
        file.write("first, ")
        with files.replacing(path) as second:
            assert second != first
            second.write_text("second")
        assert path.read_text() == "second"
        file.write("whole")
    assert path.read_text() == "first, whole"
    assert names(tmp_path) == ["a.txt"]


def test_two_writers_of_a_folder_do_not_share_what_they_write(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "folder"
    with files.replacing_directory(path, ["items", "sessions"]) as first:
        (first / "items").write_text("first")
        with files.replacing_directory(path, ["items", "sessions"]) as second:
            (second / "items").write_text("second")
            (second / "sessions").write_text("second")
        (first / "sessions").write_text("first")
        assert {file.read_text() for file in path.iterdir()} == {"second"}
    assert {file.read_text() for file in path.iterdir()} == {"first"}
    assert names(tmp_path) == ["folder"]


def test_what_is_not_ours_is_not_lost_with_a_folder(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "ours").write_text("old")
    with (
        pytest.raises(UserError, match=r"holds 'log.csv' and 1 more, which would be lost"),
        files.replacing_directory(path, ["ours"]) as folder,
    ):
        for name in ("log.csv", "run"):
            (path / name).write_text("mine")
        (folder / "ours").write_text("new")
    assert names(path) == ["log.csv", "ours", "run"] and (path / "ours").read_text() == "old"
    assert names(tmp_path) == ["folder"]


def test_a_partial_folder_that_vanishes_costs_nothing(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(OSError), files.replacing_directory(path, ["old"]) as folder:
        folder.rmdir()
    assert names(path) == ["old"] and names(tmp_path) == ["folder"]


def test_a_folder_that_a_dead_process_had_taken_away_is_put_back(tmp_path: pathlib.Path) -> None:
    """As it dies between the two renames."""
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old")
    script = (
        "import os, pathlib, sys; from alterrec_jax.runtime import files; replace = os.replace; os.replace = "
        "lambda old, new: (replace(old, new), os._exit(9))\n"
        "with files.replacing_directory(pathlib.Path(sys.argv[1]), ['old']): pass"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == 9
    assert not path.exists()
    with pytest.raises(ValueError), files.replacing_directory(path, ["old"]):
        assert names(path) == ["old"]
        raise ValueError
    assert names(path) == ["old"] and names(tmp_path) == ["folder"]


def test_links_inside_of_a_folder_are_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "plain").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    files.require_no_links(tmp_path, ["plain", "absent"])
    with pytest.raises(UserError, match=r"link is a link to .*nowhere, and nothing is written through links"):
        files.require_no_links(tmp_path, ["plain", "link"])
