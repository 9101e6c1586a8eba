"""Serves an export with jax, numpy and flatbuffers alone: python serve.py FOLDER [--unknown=error]

A request a line, {"session": ["item id"], "exclude": ["item id"], "only": ["item id"]}, the last two if wanted. For
each an answer, {"unknown": [ids that the model does not know], "recommendations": [{"id": ..., "score": ...}]}, or
{"line": its number, "error": what is wrong with it}. Ends with status 0 when the requests end.
"""

import argparse
import json
import pathlib
import signal
import sys
from typing import Any

import numpy as np

FORM = 'write {"session": ["item id", ...]}, and "exclude" or "only" likewise where they are wanted'


def read(line: bytes) -> dict[str, list[str]]:
    """The lists of a request; a `ValueError` says what is wrong with it."""
    try:
        request = json.loads(line.strip().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        reason = str(error).replace(": line 1 column", ": column")  # a request is one line, of a number of its own
        raise ValueError(f"not JSON ({reason}); {FORM}") from None
    if not isinstance(request, dict) or "session" not in request:
        raise ValueError(f'no object with a "session"; {FORM}')
    if strange := [name for name in request if name not in ("session", "exclude", "only")]:
        raise ValueError(f"no such field: {', '.join(map(json.dumps, strange))}; {FORM}")
    wrong = [name for name, ids in request.items() if not (isinstance(ids, list) and {*map(type, ids)} <= {str})]
    if wrong:
        raise ValueError(f"no list of item ids, which are strings: {', '.join(map(json.dumps, wrong))}; {FORM}")
    return request


class Server:
    """What an export folder holds."""

    def __init__(self, folder: pathlib.Path) -> None:
        import jax  # not before a --help is answered

        self.about, self.ids = (json.loads((folder / name).read_bytes()) for name in ("export.json", "item_ids.json"))
        self.number = {item: row for row, item in enumerate(self.ids)}
        names = ("item_vectors", "item_inputs", "neighbour_items", "neighbour_weights")
        arrays = [folder / f"{name}.npy" for name in names]
        self.arrays = [jax.device_put(np.load(array, allow_pickle=False)) for array in arrays if array.exists()]
        program = jax.export.deserialize(bytearray((folder / "top_items.jax").read_bytes()))
        self.top_items = jax.jit(program.call)

    def answer(self, request: dict[str, list[str]], unknown: str) -> dict[str, Any]:
        """To a request; where an id is unknown, without it, or an error."""
        strange = dict.fromkeys(item for ids in request.values() for item in ids if item not in self.number)
        if strange and unknown == "error":
            return {"error": "unknown item ids", "unknown": [*strange]}
        known = {name: [self.number[item] for item in ids if item in self.number] for name, ids in request.items()}
        out = {*known.get("exclude", []), *(known["session"] if self.about["exclude_session_items"] else [])}
        listed = sorted({*known["only"]} - out if "only" in known else out)
        latest = known["session"][-self.about["max_length"] :]
        session = np.full((1, self.about["max_length"]), -1, np.int32)
        session[0, : len(latest)] = latest
        row = np.full((1, 1 << len(listed).bit_length()), -1, np.int32)  # of few widths, for each is compiled
        row[0, : len(listed)] = listed
        top = self.top_items(*self.arrays, session, row, np.array(["only" in known]))
        found = zip(*(part[0].tolist() for part in top), strict=True)
        best = [{"id": self.ids[item], "score": score} for score, item in found if score > -np.inf]
        return {"unknown": [*strange], "recommendations": best}


def main() -> None:
    """Answers standard input on standard output, line by line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="what experiments.export wrote")
    parser.add_argument("--unknown", choices=("skip", "error"), default="skip", help="ids that the model does not know")
    given = parser.parse_args()
    if sys.stdin is None or sys.stdout is None:
        sys.exit("error: standard input or output is closed")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever reads the answers may stop
    try:
        server = Server(given.folder)
    except (OSError, ImportError) as error:  # no export there, or flatbuffers not here
        sys.exit(f"error: {error}")
    lines, failed = 0, 0
    for number, line in enumerate(sys.stdin.buffer, 1):
        if not line.strip():
            continue
        try:
            answer = server.answer(read(line), given.unknown)
        except ValueError as error:
            answer = {"error": str(error)}
        lines, failed = lines + 1, failed + ("error" in answer)
        print(json.dumps({"line": number, **answer} if "error" in answer else answer), flush=True)
    if failed:
        print(f"{failed} of {lines} requests failed; their answers say why", file=sys.stderr)


if __name__ == "__main__":
    main()
