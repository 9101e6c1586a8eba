"""The study of the paper: `names.NAMES` are its commands, and `report` shows what they found; the rest serves these."""

import sys

from experiments.paper.names import NAMES

# While `python -m` looks for its module, arguments begin so: a module that is no command would run and print nothing.
if sys.argv[0] == "-m":
    _module = sys.orig_argv[sys.orig_argv.index("-m") + 1].rpartition(".")[2] if "-m" in sys.orig_argv else ""
    if _module and _module not in (*NAMES, "report"):
        sys.exit(f"error: {_module} is no command but serves these: {', '.join(NAMES)}, report")
