"""Opens a page on which one searches items, builds a session, and sees what each view recommends for it, and why.

python -m experiments.explore --workdir=DIR

The page is for the browser of this computer alone. Ctrl-C closes it.
"""

import os
import pathlib
import sys
import threading
import webbrowser

from absl import flags

from alterrec_jax.runtime import command_line
from alterrec_jax.runtime.signals import stop_signals

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of experiments.train.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset folder; by default the one that the run was trained on.")
_PORT = flags.DEFINE_integer(
    "port", 0, "Where the page listens, on this computer alone; 0 takes a free port.", lower_bound=0, upper_bound=65535
)
_OPEN = flags.DEFINE_bool("open", None, "Whether to open the page in a browser; by default where there is a display.")


def main() -> int:
    """Serves the page until a signal ends it."""
    from alterrec_jax.runtime.compiled_programs import keep_compiled_programs
    from alterrec_jax.serving.trained_model import load_trained
    from experiments.explore_answers import Explorer
    from experiments.explore_server import Server

    keep_compiled_programs()
    stop = threading.Event()
    with stop_signals(stop, "closing the page"):
        name = pathlib.Path(_WORKDIR.value).resolve().name
        explorer = Explorer(load_trained(_WORKDIR.value, _DATA_DIR.value), name)
        with Server(explorer, _PORT.value) as server:
            print(f"{name}: {server.url} (Ctrl-C closes it)", flush=True)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            if has_display() if _OPEN.value is None else _OPEN.value:
                webbrowser.open(server.url)
            stop.wait()
            server.shutdown()
    return 0


def has_display() -> bool:
    """Whether a browser would have somewhere to appear."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


if __name__ == "__main__":
    command_line.run(main)
