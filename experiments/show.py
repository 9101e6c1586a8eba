"""Shows a few held-out sessions with names: what they hold, what is recommended, and what came next.

python -m experiments.show --workdir=DIR
"""

import textwrap

import numpy as np
from absl import flags

from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.protocol import protocol_of
from alterrec_jax.runtime import command_line
from alterrec_jax.runtime.printable import printable
from alterrec_jax.serving.recommend import Recommender
from alterrec_jax.serving.trained_model import load_trained

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of experiments.train.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset folder; by default the one that the run was trained on.")
_SESSIONS = flags.DEFINE_integer("sessions", 3, "How many sessions of the test split to show.", lower_bound=1)
_K = flags.DEFINE_integer("k", 10, "How many items to recommend for each.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Which sessions: they are drawn at random, of 4 to 9 items.", lower_bound=0)


def main() -> int:
    """Draws sessions, hides their last items, and prints them."""
    trained = load_trained(_WORKDIR.value, _DATA_DIR.value)
    dataset, sessions = trained.dataset, trained.dataset.splits["test"]
    names = dataset.items["name"].to_list()
    fitting = np.flatnonzero((sessions.lengths >= 4) & (sessions.lengths <= 9))
    if not len(fitting):
        raise UserError(f"{dataset.path} has no test session of 4 to 9 items to show; use experiments.recommend")
    drawn = np.random.default_rng(_SEED.value).permutation(fitting)[: _SESSIONS.value]
    shown = [sessions[session].tolist() for session in drawn]
    recommender = Recommender(trained, protocol_of(trained.config.protocol, dataset).exclude_session_items)
    known = [[item for item in session[:-1] if item < dataset.catalogue_size] for session in shown]
    for session, found in zip(shown, recommender(known, _K.value), strict=True):
        print("\nin the basket")
        print(*(_line(names[item]) for item in session[:-1]), sep="\n")
        print(printable(f"recommended (the basket's last item: {names[session[-1]]})"))
        print(*(_line(names[r.item], "*" if r.item == session[-1] else " ") for r in found), sep="\n")
    return 0


def _line(name: str, mark: str = " ") -> str:
    return f"  {mark} {printable(textwrap.shorten(name, 90, placeholder='...'))}"


if __name__ == "__main__":
    command_line.run(main)
