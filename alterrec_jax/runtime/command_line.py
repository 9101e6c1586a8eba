"""What every command of the project shares: absl flags in, one clear line per error out."""

import errno
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import app, flags, logging

from alterrec_jax.errors import UserError
from alterrec_jax.runtime.printable import print_anything, printable

EXIT_ERROR = 1
EXIT_RESUME = 75  # EX_TEMPFAIL: stopped by SIGTERM with its work saved; the same command continues.


def run(main: Callable[[], int | None], *, positional: str = "") -> None:
    """Parses the flags, runs `main()` and exits with its status (None counts as 0).

    A `UserError` or an error of the file system becomes one line on standard error and status 1. Where `positional`
    names a flag, one argument without a flag's name is its value.
    """
    print_anything()
    logging.set_verbosity(logging.FATAL)  # what libraries log, pages of traces among it, is said in one line here
    try:
        app.run(lambda _: _guarded(main), flags_parser=lambda argv: _parse(argv, positional))
    except UserError as error:  # raised while the flags were parsed
        _fail(str(error))


def _guarded(main: Callable[[], int | None]) -> int | None:
    try:
        return main()
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _fail(f"the disk is full while writing {error.filename or 'a file'}; free some space and run again")
        _fail(f"{error.filename or 'file system'}: {error.strerror or error}")
    except KeyboardInterrupt:
        _fail("interrupted")


def _parse(argv: Sequence[str], positional: str = "") -> list[str]:
    for argument in argv:
        if not argument.isascii() and re.search("[\ud800-\udfff]", argument):  # bytes that the locale cannot read
            raise UserError(
                f"argument '{argument}' is not text in the encoding of this locale ({sys.getfilesystemencoding()}); "
                "set PYTHONUTF8=1, or LC_ALL to a UTF-8 locale such as C.UTF-8"
            )
    try:
        remaining = list(flags.FLAGS(argv))
        if positional and len(remaining) > 1:
            flags.FLAGS[positional].parse(remaining.pop(1))
    except flags.Error as error:
        _fail(str(error))
    except (AttributeError, KeyError) as error:  # ml_collections, for an unknown field of the configuration
        raise UserError(f"configuration override: {' '.join(str(error.args[0]).split())}") from None
    if len(remaining) > 1:
        raise UserError(f"unexpected argument '{remaining[1]}'; every setting is a flag, see --help")
    return remaining


def _fail(message: str) -> NoReturn:
    print(error_line(message), file=sys.stderr)
    sys.exit(EXIT_ERROR)


def error_line(message: str) -> str:
    """What is said of an error, in one line."""
    return "error: " + printable(re.sub(r"\s+", " ", message).strip())
