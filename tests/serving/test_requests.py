"""Requests as lines: what is one, how lines arrive, what is answered, and that the example has the same rules."""

import io
import json
import pathlib
import runpy
import signal
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from alterrec_jax.serving.recommend import Recommender
from alterrec_jax.serving.requests import ERROR, Answerer, arriving, encoded, parse
from tests.conftest import CATALOGUE
from tests.examples import alterrec_or_part, random_model

ROOT = pathlib.Path(__file__).parents[2]
REQUESTS = [
    b'{"session": []}',
    b'\xef\xbb\xbf{"session": ["a", "b"]}\r',  # as some editors of Windows leave it
    b'{"only": [], "exclude": ["a"], "session": ["\\ud800", "a"]}',
]
NO_REQUESTS = {
    b"[\n": "not JSON (Expecting value: column 2 (char 1)); write",
    b'{"session": ["a"]} {}': "not JSON (Extra data",
    b"\xff": "not JSON ('utf-8' codec can't decode",
    b'{"session": ' + b"1" * 5000 + b"}": "not JSON (Exceeds the limit",
    b"[" * 100_000: "not JSON (maximum recursion depth",
    b'["a"]': 'no object with a "session"',
    b'{"only": ["a"]}': 'no object with a "session"',
    b'{"session": "i001"}': 'no list of item ids, which are strings: "session";',
    b'{"session": ["a", NaN]}': 'no list of item ids, which are strings: "session";',
    b'{"session": {"a": 1}, "exclude": null, "only": [["a"]]}': '"session", "exclude", "only"; write {"session"',
    b'{"session": 5, "onyl": [], "k": 3}': 'no such field: "onyl", "k"; write {"session"',
}


@pytest.fixture(scope="module")
def recommender(dataset: Dataset) -> Recommender:
    """A model of random parameters, on a few sessions at a time."""
    mean = dict(encoder="mean", dim=3)
    config = alterrec_or_part("id", mean, {}, {}, weight=1.0, max_length=7)
    return Recommender(random_model(config, dataset), True, sessions_at_once=3)


def answerer_of(recommender: Recommender, **options: Any) -> Answerer:
    """For items that are called a number, and named likewise."""
    ids = [f"i{number}" for number in range(CATALOGUE)]
    return Answerer(recommender, ids, [f"thing {number}" for number in range(CATALOGUE)], 5, **options)


class Pipe(io.BytesIO):
    """A stream that arrives in pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        super().__init__()
        self._pieces = iter(pieces)

    def read1(self, size: int | None = -1, /) -> bytes:
        """The next piece, whatever the size."""
        return next(self._pieces, b"")


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    """The functions of the example."""
    return runpy.run_path(str(ROOT / "experiments" / "serve.py"))


@pytest.mark.parametrize("line", REQUESTS)
def test_what_a_request_is(line: bytes, example: dict[str, Any]) -> None:
    assert parse(line) == json.loads(line.decode("utf-8-sig")) == example["read"](line)


@pytest.mark.parametrize("line", NO_REQUESTS)
def test_what_is_none_is_told_in_the_same_words_by_the_example(line: bytes, example: dict[str, Any]) -> None:
    with pytest.raises(UserError) as error:
        parse(line)
    assert NO_REQUESTS[line] in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ValueError) as of_example:
        example["read"](line)
    assert str(of_example.value) == str(error.value)


def test_a_folder_that_is_no_export_is_told_in_one_line_by_the_example(
    example: dict[str, Any], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["serve.py", str(tmp_path)])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit, match=r"error: .*export\.json"):
        example["main"]()


def test_lines_come_as_soon_as_they_are_there() -> None:
    stream = Pipe([b"a\nb", b"b", b"\n", b"\n\n \r\nc\nd\ne\n", b"f"])
    assert list(arriving(stream, 2)) == [
        [(1, b"a")],
        [(2, b"bb")],
        [(6, b"c"), (7, b"d")],
        [(8, b"e")],
        [(9, b"f")],
    ]
    assert list(arriving(io.BytesIO(b""), 2)) == []


def test_an_answer_is_made_before_the_next_request_arrives(recommender: Recommender) -> None:
    asked = []

    def pieces() -> Iterator[bytes]:
        for item in range(3):
            asked.append(item)
            yield json.dumps({"session": [f"i{item}"]}).encode() + b"\n"

    for count, answer in enumerate(answerer_of(recommender)(Pipe(pieces())), 1):
        assert answer["session"] == [f"i{count - 1}"] and len(asked) == count


def test_a_stream_is_answered_line_by_line(recommender: Recommender) -> None:
    lines = [
        '{"session": ["i3", "i7", "i3"]}',
        '{"session": ["i3", "lost", "i7", "i3", "lost"], "exclude": ["i5", "sold"]}',
        "",
        '{"session": "i3"}',
        '{"session": ["lost"], "only": ["i8", "gone", "i9"]}',
        "{",
        '{"session": ["i3"], "only": ["gone"]}',
    ]
    stream, answerer = io.BytesIO("\n".join(lines).encode()), answerer_of(recommender)
    whole, without, no_list, few, no_json, none = answerer(stream)
    (plain,), (excluded,) = recommender([[3, 7, 3]], 5), recommender([[3, 7, 3]], 5, exclude=[[5]])
    for answer, wanted in ((whole, plain), (without, excluded)):
        assert answer["recommendations"] == [
            {"id": f"i{one.item}", "score": one.score, "name": f"thing {one.item}", "by": "id"} for one in wanted
        ]
    assert (whole["unknown"], without["unknown"]) == ([], ["lost", "sold"])
    assert without["session"] == ["i3", "lost", "i7", "i3", "lost"]
    assert (no_list["line"], no_json["line"]) == (4, 6) and "recommendations" not in no_list
    assert "no list of item ids" in no_list["error"] and "not JSON" in no_json["error"]
    assert few["unknown"] == ["lost", "gone"] and {one["id"] for one in few["recommendations"]} == {"i8", "i9"}
    assert none["recommendations"] == []
    assert (answerer.answered, answerer.failed) == (6, 2)


def test_unknown_ids_may_be_errors(recommender: Recommender) -> None:
    stream = io.BytesIO(b'{"session": ["i3"]}\n{"session": ["x"], "exclude": ["y", "x"]}\n')
    answerer = answerer_of(recommender, unknown=ERROR)
    known, unknown = answerer(stream)
    assert len(known["recommendations"]) == 5 and answerer.failed == 1
    assert unknown == {"line": 2, "error": "unknown item ids", "unknown": ["x", "y"]}


def test_a_count_that_is_impossible_is_refused_before_anything_is_read(recommender: Recommender) -> None:
    with pytest.raises(UserError, match="--k=0"):
        Answerer(recommender, [], [], 0)


def test_a_terminal_shows_an_answer_and_does_not_obey_it() -> None:
    answer = {"id": "\x1b[2J", "name": "\x9b31m \u202egnp \ud800 \u2028\x7f café 本"}
    line = encoded(answer)
    assert json.loads(line) == answer and line.count(b"\n") == 1
    shown = line.decode().rstrip("\n")
    assert shown.isprintable() and "café 本" in shown
