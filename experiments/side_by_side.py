"""What every view of a trained model recommends for one session, and what of the session speaks for it."""

import itertools
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from alterrec_jax.runtime.printable import printable
from alterrec_jax.serving.evidence import Evidence, Explainer
from alterrec_jax.serving.recommend import Recommendation, Recommender
from alterrec_jax.serving.trained_model import TrainedModel

# Of a terminal's line: its width, how many views stand side by side in it, and how much of a name where there is room.
_WIDTH, _VIEWS_ABREAST, _LONGEST_NAME = 120, 4, 44
_EVIDENCE, _GAP = len("a 99%, b 99%"), "  "


class RankedView(NamedTuple):
    """A view and what it recommends.

    Attributes:
      view: its name.
      found: the best items, from high to low.
      evidence: of the session's items, a row for each of them.
    """

    view: str
    found: list[Recommendation]
    evidence: Evidence


class SideBySide:
    """Ranks by all views of a model, the main one first."""

    def __init__(self, trained: TrainedModel):
        """Makes what scores; the items' tables are held once for ranking, and once for evidence."""
        self._catalogue = trained.dataset.catalogue_size
        self._recommenders = {view: Recommender(trained, False, view=view) for view in trained.system.views}
        self._explain = Explainer(trained)

    def __call__(self, session: Sequence[int], k: int, exclude: Iterable[int] = ()) -> list[RankedView]:
        """The k best items by each view.

        Args:
          session: item numbers, the latest last; those beyond the catalogue are passed over.
          k: how many, at most as many as the catalogue has.
          exclude: items of the catalogue that are not recommended.
        """
        known = [item for item in session if item < self._catalogue]
        found = {
            view: next(recommend([known], k, exclude=[[*exclude]])) for view, recommend in self._recommenders.items()
        }
        evidence = self._explain(known, {view: [one.item for one in some] for view, some in found.items()})
        return [RankedView(view, some, evidence[view]) for view, some in found.items()]


def as_text(session: Sequence[int], names: Sequence[str], views: Sequence[RankedView]) -> str:
    """A session and its rankings as text, at most 120 columns wide.

    Args:
      session: item numbers, at most 26 and the last one, which is what came next.
      names: of all items.
      views: what is recommended for the session without its last item, the main view first.
    """
    letters = dict(zip(views[0].evidence.items.tolist(), string.ascii_lowercase, strict=False))
    lines = ["in the basket"]
    lines += [f"  {letters.get(item, '-')}  {_cut(names[item], _WIDTH - 5)}" for item in session[:-1]]
    lines.append(_cut(f"recommended (the basket's last item: {names[session[-1]]})", _WIDTH))
    for start in range(0, len(views), _VIEWS_ABREAST):
        lines += _abreast(views[start : start + _VIEWS_ABREAST], start == 0, session[-1], names, letters)
    return "\n".join(lines)


def _abreast(
    views: Sequence[RankedView], with_main: bool, target: int, names: Sequence[str], letters: Mapping[int, str]
) -> Iterator[str]:
    """Lines with the views side by side; the main one is the first of `views` if it is among them."""
    gaps = len(_GAP) * (len(views) + with_main)
    room = _WIDTH - len("  10") - gaps - 2 * len(views) - (_EVIDENCE if with_main else 0)
    width = min(room // len(views), _LONGEST_NAME)
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
