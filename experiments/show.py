"""Shows a few held-out sessions: what each view recommends for them, what speaks for it, and what came next.

python -m experiments.show --workdir=DIR
"""

import itertools
import string
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from absl import flags

from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.protocol import protocol_of
from alterrec_jax.runtime import command_line
from alterrec_jax.runtime.printable import printable
from alterrec_jax.serving.trained_model import load_trained
from experiments.side_by_side import RankedView, SideBySide

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of experiments.train.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset folder; by default the one that the run was trained on.")
_SESSIONS = flags.DEFINE_integer("sessions", 3, "How many sessions of the test split to show.", lower_bound=1)
_K = flags.DEFINE_integer("k", 10, "How many items to recommend for each.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Which sessions: they are drawn at random, of 4 to 9 items.", lower_bound=0)

LETTERS = string.ascii_lowercase
WIDTH, VIEWS_ABREAST, LONGEST_NAME = 120, 4, 44
"""Columns of the terminal, views that stand in them, and letters of a name where there is room."""

_EVIDENCE, _GAP = len("a 99%, b 99%"), "  "
_LEGEND = (
    "Beside what the view {main} recommends stand the one or two items of the basket that speak most for it, found by\n"
    "leaving each of them out, with their shares of all that speaks for it. * marks what the basket's last item was."
)


def main() -> int:
    """Draws sessions, hides their last items, and prints them."""
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
        print("\n" + printable(shown(session, names, views)))
    return 0


def shown(session: Sequence[int], names: Sequence[str], views: Sequence[RankedView]) -> str:
    """A session and its rankings as text, at most `WIDTH` columns wide.

    Args:
      session: item numbers; the last one is what came next.
      names: of all items.
      views: what is recommended for the session without its last item, the main view first.
    """
    letters = dict(zip(views[0].evidence.items.tolist(), LETTERS, strict=False))
    lines = ["in the basket"]
    lines += [f"  {letters.get(item, '-')}  {_cut(names[item], WIDTH - 5)}" for item in session[:-1]]
    lines.append(_cut(f"recommended (the basket's last item: {names[session[-1]]})", WIDTH))
    for start in range(0, len(views), VIEWS_ABREAST):
        lines += _abreast(views[start : start + VIEWS_ABREAST], start == 0, session[-1], names, letters)
    return "\n".join(lines)


def _abreast(
    views: Sequence[RankedView], with_main: bool, target: int, names: Sequence[str], letters: Mapping[int, str]
) -> Iterator[str]:
    """Lines with the views side by side; the main one is the first of `views` if it is among them."""
    gaps = len(_GAP) * (len(views) + with_main)
    room = WIDTH - len("  10") - gaps - 2 * len(views) - (_EVIDENCE if with_main else 0)
    width = min(room // len(views), LONGEST_NAME)
    titles = [f"  {_cut(one.view, width):<{width}}" for one in views]
    columns = [
        [f"{'*' if r.item == target else ' '} {_cut(names[r.item], width):<{width}}" for r in v.found] for v in views
    ]
    if with_main:
        titles.insert(1, " " * _EVIDENCE)
        columns.insert(1, [f"{text:<{_EVIDENCE}}" for text in _reasons(views[0], letters)])
    yield _GAP.join(["    ", *titles]).rstrip()
    rows = itertools.zip_longest(*columns, fillvalue="")
    yield from (_GAP.join([f"{rank:>4}", *row]).rstrip() for rank, row in enumerate(rows, 1))


def _reasons(view: RankedView, letters: Mapping[int, str]) -> Iterator[str]:
    """For each recommendation the one or two items that speak most for it, with their shares: "b 61%, a 20%"."""
    for shares in view.evidence.shares:
        best = [item for item in np.argsort(-shares, kind="stable")[:2] if shares[item] >= 0.005]
        yield ", ".join(f"{letters[int(view.evidence.items[item])]} {shares[item]:.0%}" for item in best)


def _cut(text: str, width: int) -> str:
    """The text in one line, its end cut off where it is longer."""
    text = " ".join(printable(text).split())
    return text if len(text) <= width else text[: width - 2].rstrip() + ".."


if __name__ == "__main__":
    command_line.run(main)
