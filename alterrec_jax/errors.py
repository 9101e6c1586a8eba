"""The one exception that a user is meant to read, and what helps to word it."""

import difflib
from collections.abc import Sequence


class UserError(Exception):
    """Something the user can mend: bad input, a bad setting, a full disk.

    The message is one line that names the thing and the remedy. `alterrec_jax.runtime.command_line.run` prints it
    without a traceback and exits with a status that is not 0; any other exception is a bug.
    """


def nearest(name: str, known: Sequence[str]) -> str:
    """A clause that suggests the known name nearest to a misspelt one, or lists them all."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(sorted(known))}"
