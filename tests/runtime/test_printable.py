"""Text of strangers on a terminal."""

import io
import sys

import pytest

from alterrec_jax.runtime.command_line import error_line
from alterrec_jax.runtime.printable import print_anything, printable


def test_control_characters_are_written_out() -> None:
    assert printable("a\x1b[3m\u202e\udcc3 \x9b") == r"a\x1b[3m\u202e\udcc3 \x9b"
    assert printable("Zürich 日本\n\tline 2") == "Zürich 日本\n\tline 2"
    assert error_line("item '\x1b[2J\n' is  unknown") == r"error: item '\x1b[2J ' is unknown"


def test_an_ascii_locale_prints_every_title(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict"))
    print_anything()
    print("Ünï", flush=True)
    print("日本", file=sys.stderr, flush=True)
    assert isinstance(sys.stdout.buffer, io.BytesIO) and sys.stdout.buffer.getvalue() == rb"\xdcn\xef" + b"\n"
    assert isinstance(sys.stderr.buffer, io.BytesIO) and sys.stderr.buffer.getvalue() == rb"\u65e5\u672c" + b"\n"
