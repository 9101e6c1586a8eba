"""What the studies of papers share: runs that are trained once, tables of models, pictures, pages."""

import sys
from collections.abc import Sequence


def refuse_other_modules(commands: Sequence[str]) -> None:
    """Ends the process if `python -m` looks for a module of a study that is no command, and would print nothing."""
    if sys.argv[0] != "-m" or "-m" not in sys.orig_argv:  # that is what stands there while it looks
        return
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1].rpartition(".")[2]
    if module and module not in commands:
        sys.exit(f"error: {module} is no command but serves these: {', '.join(commands)}")
