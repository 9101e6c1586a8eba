"""Shows a few held-out sessions: what each view recommends for them, what speaks for it, and what came next.

python -m experiments.show --workdir=DIR
"""

from absl import flags

from alterrec_jax.errors import UserError
from alterrec_jax.runtime import command_line
from alterrec_jax.runtime.printable import printable

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of experiments.train.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset folder; by default the one that the run was trained on.")
_SESSIONS = flags.DEFINE_integer("sessions", 3, "How many sessions of the test split to show.", lower_bound=1)
_K = flags.DEFINE_integer("k", 10, "How many items to recommend for each.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Which sessions: they are drawn at random, of 4 to 9 items.", lower_bound=0)

_LEGEND = (
    "Beside what the view {main} recommends stand the one or two items of the basket that speak most for it, found by\n"
    "leaving each of them out, with their shares of all that speaks for it. * marks what the basket's last item was."
)


def main() -> int:
    """Draws sessions, hides their last items, and prints them."""
    import numpy as np

    from alterrec_jax.evaluation.protocol import protocol_of
    from alterrec_jax.runtime.compiled_programs import keep_compiled_programs
    from alterrec_jax.serving.trained_model import load_trained
    from experiments.side_by_side import SideBySide, as_text

    keep_compiled_programs()
    trained = load_trained(_WORKDIR.value, _DATA_DIR.value)
    dataset, sessions = trained.dataset, trained.dataset.splits["test"]
    fitting = np.flatnonzero((sessions.lengths >= 4) & (sessions.lengths <= 9))
    if not len(fitting):
        raise UserError(f"{dataset.path} has no test session of 4 to 9 items to show; use experiments.recommend")
    drawn = np.random.default_rng(_SEED.value).permutation(fitting)[: _SESSIONS.value]
    exclude = protocol_of(trained.config.protocol, dataset).exclude_session_items
    names, rank = dataset.items["name"].to_list(), SideBySide(trained)
    print("\n" + printable(_LEGEND.format(main=trained.system.main)))
    for session in (sessions[number].tolist() for number in drawn):
        known = [item for item in session[:-1] if item < dataset.catalogue_size]
        views = rank(known, _K.value, exclude=known if exclude else ())
        print("\n" + as_text(session, names, views))
    return 0


if __name__ == "__main__":
    command_line.run(main)
