"""Text of strangers on a terminal: titles, ids and names can hold codes that move the cursor or hide text."""

import re
import sys

# Control characters but for line ends and tabs, what turns the direction of writing around, and halves of characters.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""The text with every control character written out, say \x1b."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def print_anything() -> None:
    """From now on standard output and error write out what their encoding lacks, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # it may be closed, or somebody's own
            stream.reconfigure(errors="backslashreplace")
