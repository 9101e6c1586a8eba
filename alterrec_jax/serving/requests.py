"""Requests for recommendations as lines of JSON, answered as they arrive.

A request is {"session": ["item id", ...]}; "exclude" lists what it must not get, "only" all that it may get. Ids that
the model does not know are left out and named in the answer. A line that is no request gets an answer that says so, and
the next one is read. `experiments/serve.py` has the same rules once more, for it needs none of this library.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from alterrec_jax.errors import UserError

if TYPE_CHECKING:
    from alterrec_jax.serving.recommend import Recommender

FIELDS = ("session", "exclude", "only")
FORM = 'write {"session": ["item id", ...]}, and "exclude" or "only" likewise where they are wanted'
SKIP, ERROR = "skip", "error"
UNKNOWN = (SKIP, ERROR)
"""What happens to ids that are unknown: they are left out and named, or the request that has some gets an error."""

_BYTES_AT_ONCE = 1 << 20
# What JSON leaves as it is and a terminal obeys, or takes for ends of lines; and halves of characters, not for UTF-8.
_TO_ESCAPE = re.compile(r"[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class Request(NamedTuple):
    """One request.

    Attributes:
      ids: the session as it was given.
      session, exclude, only: numbers of the known items; `only` is None where every item may be recommended.
      unknown: the unknown ids of all lists, each once.
    """

    ids: list[str]
    session: list[int]
    exclude: list[int]
    only: list[int] | None
    unknown: list[str]


def parse(line: bytes) -> dict[str, list[str]]:
    """The lists of a request, by field.

    Raises:
      UserError: the line is none.
    """
    try:
        request: Any = json.loads(line.strip().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # also for numbers of thousands of digits, and lists too deep
        reason = str(error).replace(": line 1 column", ": column")  # a request is one line, of a number of its own
        raise UserError(f"not JSON ({reason}); {FORM}") from None
    if not isinstance(request, dict) or "session" not in request:
        raise UserError(f'no object with a "session"; {FORM}')
    if strange := [name for name in request if name not in FIELDS]:
        raise UserError(f"no such field: {', '.join(map(json.dumps, strange))}; {FORM}")
    wrong = [name for name, ids in request.items() if not _is_list_of_ids(ids)]
    if wrong:
        raise UserError(f"no list of item ids, which are strings: {', '.join(map(json.dumps, wrong))}; {FORM}")
    return request


def _is_list_of_ids(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def numbered(lists: Mapping[str, list[str]], number: Mapping[str, int]) -> Request:
    """The request that some lists of ids make, by the numbers of the items that are known."""
    known = {name: [number[item] for item in ids if item in number] for name, ids in lists.items()}
    unknown = dict.fromkeys(item for ids in lists.values() for item in ids if item not in number)
    return Request(lists["session"], known["session"], known.get("exclude", []), known.get("only"), [*unknown])


def arriving(stream: BinaryIO, at_once: int) -> Iterator[list[tuple[int, bytes]]]:
    """Yields the lines of a stream with their numbers from 1, as soon as some are there; blank ones are left out.

    Args:
      stream: with `read1`, as files opened to read bytes have it.
      at_once: how many lines at most.
    """
    count = 0
    cut: list[bytes] = []  # pieces of a line of which more is to come
    while chunk := stream.read1(_BYTES_AT_ONCE):  # type: ignore[attr-defined]
        whole, newline, rest = chunk.rpartition(b"\n")
        if newline:
            lines = b"".join([*cut, whole]).split(b"\n")
            yield from _numbered_lines(lines, count, at_once)
            count, cut = count + len(lines), []
        cut.append(rest)
    yield from _numbered_lines([b"".join(cut)], count, at_once)


def _numbered_lines(lines: Sequence[bytes], before: int, at_once: int) -> Iterator[list[tuple[int, bytes]]]:
    there = [(number, line) for number, line in enumerate(lines, before + 1) if line.strip()]
    for start in range(0, len(there), at_once):
        yield there[start : start + at_once]


class Answerer:
    """Answers requests by a recommender.

    Attributes:
      answered, failed: how many lines were answered so far, and how many of these by an error.
    """

    def __init__(
        self, recommender: "Recommender", ids: Sequence[str], names: Sequence[str], k: int, unknown: str = SKIP
    ):
        """Takes what answers are made of.

        Args:
          recommender: numbers are its own.
          ids, names: of all items, the new ones included.
          k: how many to recommend.
          unknown: one of UNKNOWN.

        Raises:
          UserError: there are no k items.
        """
        recommender.check_count(k)
        self._recommender, self._ids, self._names, self._k, self._unknown = recommender, ids, names, k, unknown
        self._number = {item: row for row, item in enumerate(ids)}
        self.answered, self.failed = 0, 0

    def __call__(self, stream: BinaryIO) -> Iterator[dict[str, Any]]:
        """Yields an answer for each line that is not blank, in their order."""
        for lines in arriving(stream, self._recommender.sessions_at_once):
            read = [self._read(number, line) for number, line in lines]
            requests = [one for one in read if isinstance(one, Request)]
            found = self._recommender(
                [request.session for request in requests],
                self._k,
                exclude=[request.exclude for request in requests],
                only=[request.only for request in requests],
            )
            for one in read:
                self.answered += 1
                if isinstance(one, Request):
                    ids, names = self._ids, self._names
                    best = [dict(id=ids[r.item], score=r.score, name=names[r.item], by=r.by) for r in next(found)]
                    yield {"session": one.ids, "unknown": one.unknown, "recommendations": best}
                else:
                    self.failed += 1
                    yield one

    def _read(self, number: int, line: bytes) -> Request | dict[str, Any]:
        """The request of a line, or the answer that says what is wrong with it."""
        try:
            request = numbered(parse(line), self._number)
        except UserError as error:
            return {"line": number, "error": str(error)}
        if request.unknown and self._unknown == ERROR:
            return {"line": number, "error": "unknown item ids", "unknown": request.unknown}
        return request


def encoded(answer: Mapping[str, Any]) -> bytes:
    """An answer as a line of UTF-8; what a terminal would obey, and what UTF-8 cannot hold, is escaped as JSON does."""
    text = _TO_ESCAPE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(answer, ensure_ascii=False))
    return text.encode() + b"\n"
