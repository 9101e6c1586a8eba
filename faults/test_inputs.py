"""Mutated CSV, Parquet, JSON lines and .npy: each is read for what it says, or refused in one line."""

import contextlib
import faulthandler
import json
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from alterrec_jax.data.dataset import Dataset, load_dataset
from alterrec_jax.errors import UserError
from alterrec_jax.serving.requests import arriving, parse
from data_tools.options import NULL_VALUES, Options
from data_tools.pipeline import prepare
from faults.conftest import COUNTS
from tests.data_tools.examples import FakeEncoder, options, random_clicks, write_logs

# What has broken readers before: quotes, ends of lines, byte order marks, numbers at their limits.
TOKENS = (
    b'"', b"'", b",", b";", b"\t", b"\n", b"\r\n", b"\r", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe2\x80\xa8",
    b"NaN", b"inf", b"-1", b"1e999", b"9223372036854775808", b"{", b"}", b"[", b"]", b"null", b"\\ud800", b" ",
    b"NULL", b"\x1b[2J",
)  # fmt: skip
KINDS = ("interactions.csv", "items.csv", "interactions.parquet", "items.parquet", "sessions.jsonl", "dataset")
SETTINGS = {
    "split": "leave_one_out",
    "order_column": "time",
    "text_columns": "title,brand",
    # Or hardly any mutation would get beyond the ids.
    "drop_unknown_items": True,
    "missing_ids": "drop",
    "duplicates": "drop",
}


@st.composite
def edits(draw: st.DrawFn) -> list[tuple[str, float, float, bytes]]:
    """A few changes, most of them small: what, where and how far (as shares of the content), and what to put there."""
    kind = st.sampled_from(("flip", "cut", "drop", "insert", "repeat", "end"))
    share = st.floats(0, 1, allow_nan=False)
    one = st.tuples(kind, share, share.map(lambda value: value**6), st.sampled_from(TOKENS) | st.binary(max_size=4))
    return draw(st.lists(one, min_size=1, max_size=3))


def mutated(original: bytes, changes: list[tuple[str, float, float, bytes]]) -> bytes:
    """The content after the changes."""
    content = bytearray(original)
    for kind, place, extent, token in changes:
        start = int(place * len(content))
        stop = min(start + 1 + int(extent * len(content)), len(content))
        if kind == "flip" and start < len(content):
            content[start] ^= 1 << int(extent * 7)
        elif kind == "cut":
            del content[start:]
        elif kind == "drop":
            del content[start:stop]
        elif kind == "insert":
            content[start:start] = token
        elif kind == "repeat":
            content[stop:stop] = content[start:stop]
        elif kind == "end":
            content += token
    return bytes(content)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Logs, as CSV and as Parquet, a dataset made from them, and sessions to recommend for."""
    folder = tmp_path_factory.mktemp("files")
    write_logs(folder, random_clicks(0))
    (folder / "log.csv").rename(folder / "interactions.csv")
    for name in ("interactions", "items"):
        pl.read_csv(folder / f"{name}.csv", infer_schema=False).write_parquet(folder / f"{name}.parquet")
    lines = [json.dumps({"session": [f"i{item:02d}" for item in range(count)]}) + "\n" for count in range(5)]
    (folder / "sessions.jsonl").write_text("".join(lines))
    prepare(given_files(folder, folder), FakeEncoder())
    return folder


def given_files(folder: pathlib.Path, out: pathlib.Path, **changed: str) -> Options:
    """The options that read the logs of a folder, some of them from elsewhere."""
    named = {name: str(folder / f"{name}.csv") for name in ("interactions", "items")} | changed
    return options(out, **named, **SETTINGS)


def read_logs(files: pathlib.Path, folder: pathlib.Path, path: pathlib.Path) -> None:
    """Prepares from mutated logs; what comes out can be loaded, and holds no item that the items file lacks."""
    prepare(given_files(files, folder, **{path.stem: str(path)}), FakeEncoder())
    made = load_dataset(folder / "out")
    assert made.catalogue_size <= len(made.items) and made.items["item_id"].is_unique().all()
    items = path if path.stem == "items" else files / "items.csv"
    raw = items.read_bytes()
    if not raw.startswith(b"PAR1"):  # an id stands in the file as it is, but for quotes and broken UTF-8
        odd = ('"', "\ufffd")
        ids = [item for item in made.items["item_id"] if not any(character in item for character in odd)]
        assert all(item.encode() in raw for item in ids)
    ids_of_all = [*made.items["item_id"], *(name for part in made.splits.values() for name in part.session_ids)]
    assert not {name.strip() for name in ids_of_all} & {"", *NULL_VALUES}
    assert not made.items["text"].str.contains(r"\p{Cc}").any()
    assert len(made.text_vectors) == len(made.items) and np.isfinite(made.text_vectors).all()


def read_sessions(files: pathlib.Path, folder: pathlib.Path, path: pathlib.Path) -> None:
    """Reads JSON lines as `json` does."""
    with path.open("rb") as stream:
        lines = [line for lines in arriving(stream, 2) for _, line in lines]
    assert lines == [line for line in path.read_bytes().split(b"\n") if line.strip()]
    for line in lines:
        assert parse(line) == json.loads(line.decode("utf-8-sig"))


def read_dataset(files: pathlib.Path, folder: pathlib.Path, path: pathlib.Path) -> None:
    """Loads a dataset folder one of whose files is mutated; what is loaded is what was written."""
    same_data(load_dataset(path.parent), load_dataset(files / "out"))


def same_data(found: Dataset, wanted: Dataset) -> None:
    """The same items, sessions and vectors, and the same word of where they come from."""
    assert found.items.equals(wanted.items) and found.manifest == wanted.manifest
    np.testing.assert_array_equal(found.text_vectors, wanted.text_vectors)
    for split, sessions in wanted.splits.items():
        for name, column in vars(sessions).items():
            assert np.array_equal(getattr(found.splits[split], name), column), (split, name)


@contextlib.contextmanager
def nothing_hangs() -> Iterator[None]:
    """Ends the campaign, with what every thread is at, if the block takes longer than any file here could."""
    faulthandler.dump_traceback_later(60, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.mark.parametrize(
    "line",
    ['{"session": ' + "1" * 5000 + "}", "[" * 100_000, '{"session": [' * 50_000, '{"session": ["i01", NaN]}'],
    ids=["thousands of digits", "too deep a list", "too deep an object", "no string"],
)
def test_lines_of_json_that_no_mutation_makes(line: str, files: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "sessions.jsonl"
    path.write_text(line)
    with pytest.raises(UserError, match="write {"):
        read_sessions(files, tmp_path, path)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_mutated_is_read_or_refused(kind: str, files: pathlib.Path, request: pytest.FixtureRequest) -> None:
    out = files / "out"
    parts = sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) if kind == "dataset" else [kind]
    read: Callable[[pathlib.Path, pathlib.Path, pathlib.Path], None] = {
        "dataset": read_dataset,
        "sessions.jsonl": read_sessions,
    }.get(kind, read_logs)
    seen: set[tuple[str, bytes]] = set()
    examples = -(-request.config.getoption("--inputs") // len(KINDS))

    @settings(
        max_examples=examples,
        deadline=None,  # `nothing_hangs` ends what would never come to its deadline
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    @given(name=st.sampled_from(parts), changes=edits())
    def one(name: str, changes: list[tuple[str, float, float, bytes]]) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary)
            if kind == "dataset":
                shutil.copytree(files / "out", folder / "hurt")
                path = folder / "hurt" / name
            else:
                path = folder / kind
                shutil.copyfile(files / kind, path)
            original = path.read_bytes()
            content = mutated(original, changes)
            assume(content != original and (name, content) not in seen)
            seen.add((name, content))
            path.write_bytes(content)
            try:
                with nothing_hangs():
                    read(files, folder, path)
            except UserError as error:
                assert str(error).strip()
                COUNTS[f"mutated {path.suffix} refused ({kind})"] += 1
            else:
                COUNTS[f"mutated {path.suffix} read ({kind})"] += 1

    one()
    assert len(seen) > examples // 2
