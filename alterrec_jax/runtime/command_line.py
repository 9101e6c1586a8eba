"""What every command of the project shares: absl flags in, one clear line per error out."""

import errno
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import app, flags, logging

from alterrec_jax.errors import UserError
from alterrec_jax.runtime.printable import print_anything, printable

EXIT_ERROR = 1
EXIT_RESUME = 75  # EX_TEMPFAIL: stopped by a signal with its work saved; the same command continues.
EXIT_PIPE = 141  # As a shell tells of SIGPIPE: whoever read what the command writes has stopped, as `| head` does.
LAST_SECONDS = 60.0  # that a command which fails leaves to the threads of libraries


def run(main: Callable[[], int | None], *, positional: str = "") -> None:
    """Parses the flags, runs `main()` and exits with its status (None counts as 0).

    A `UserError` or an error of the file system becomes one line on standard error and status 1. Where `positional`
    names a flag, one argument without a flag's name is its value.
    """
    _open_closed_streams()
    print_anything()
    threading.excepthook = thread_error
    logging.set_verbosity(logging.FATAL)  # what libraries log, pages of traces among it, is said in one line here
    try:
        try:
            app.run(lambda _: _guarded(main), flags_parser=lambda argv: _parse(argv, positional))
        finally:
            _flush()  # here, where a reader that is gone is no traceback
    except UserError as error:  # raised while the flags were parsed
        _fail(str(error))
    except BrokenPipeError:
        _write_no_more()
        sys.exit(EXIT_PIPE)


def _guarded(main: Callable[[], int | None]) -> int | None:
    try:
        return main()
    except UserError as error:
        _fail(str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _fail(f"the disk is full while writing {error.filename or 'a file'}; free some space and run again")
        _fail(f"{error.filename or 'file system'}: {error.strerror or error}")
    except MemoryError as error:
        _fail(_out_of_memory(error))
    except RuntimeError as error:  # as JAX tells of it
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        _fail(_out_of_memory(error))
    except KeyboardInterrupt:
        _fail("interrupted")


def _out_of_memory(error: Exception) -> str:
    return (
        f"out of memory ({error}); in training lower --config.batch_prefixes, --config.max_length or the widths of the "
        "networks, or share items and batches among more devices by --mesh"
    )


def thread_error(args: threading.ExceptHookArgs) -> None:
    """Prints an error that ends a thread, but not where TensorBoard hands it to the next call, where it is one line."""
    if not type(args.thread).__module__.startswith("tensorboard."):
        threading.__excepthook__(args)


def _open_closed_streams() -> None:
    """Standard streams that are closed (`<&-`) lead nowhere: else the next files to be opened would take their places.

    What is said on standard error is lost then; standard input and output stay None, for who needs them to refuse.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _write_no_more() -> None:
    """Lets what is still to be written to a reader that is gone lead nowhere."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


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
    except SystemExit:  # help was asked for and given; absl takes that for an error
        sys.exit(0)
    except (AttributeError, KeyError) as error:  # ml_collections, for an unknown field of the configuration
        raise UserError(f"configuration override: {' '.join(str(error.args[0]).split())}") from None
    if len(remaining) > 1:
        raise UserError(f"unexpected argument '{remaining[1]}'; every setting is a flag, see --help")
    return remaining


def _fail(message: str) -> NoReturn:
    print(error_line(message), file=sys.stderr)
    _end_soon()
    sys.exit(EXIT_ERROR)


def _end_soon() -> None:
    """Ends the process though a thread does not, one that waits for a save which has failed, say."""
    last = threading.Timer(LAST_SECONDS, os._exit, (EXIT_ERROR,))
    last.daemon = True
    last.start()


def error_line(message: str) -> str:
    """What is said of an error, in one line."""
    return "error: " + printable(re.sub(r"\s+", " ", message).strip())
