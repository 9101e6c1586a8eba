"""All views of a model for one session, and how they stand side by side in a terminal."""

import numpy as np
import pytest

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.serving.evidence import Evidence
from alterrec_jax.serving.recommend import Recommendation, Recommender
from alterrec_jax.serving.trained_model import TrainedModel
from experiments.side_by_side import RankedView, SideBySide, as_text
from tests.conftest import CATALOGUE
from tests.examples import random_model
from tests.models.families import TINY

NAMES = [
    "apple",
    "bread",
    "cream",
    "dates with \x1b[31m a name that is much longer than what a column can hold",
    "eggs",
]


@pytest.fixture(scope="module")
def model(dataset: Dataset) -> TrainedModel:
    """Two networks of random parameters."""
    return random_model(TINY["alterrec"].check(), dataset)


def test_every_view_ranks_the_main_one_first_and_without_what_is_excluded(model: TrainedModel) -> None:
    session, exclude = [3, CATALOGUE + 1, 5], [3, 5]
    views = SideBySide(model)(session, k=4, exclude=exclude)
    assert [one.view for one in views] == ["fused", "id", "text"]
    for one in views:
        (expected,) = Recommender(model, True, view=one.view)([[3, 5]], 4)
        assert one.found == expected
        assert one.evidence.items.tolist() == [3, 5] and one.evidence.values.shape == (4, 2)


def ranked(view: str, items: list[int], values: list[list[float]]) -> RankedView:
    evidence = Evidence(np.array([0, 1], np.int32), np.array(values, np.float32), np.zeros(len(items), np.float32))
    return RankedView(view, [Recommendation(item, 1.0, view) for item in items], evidence)


def test_as_text() -> None:
    even, none = [1.0, 3.0], [-1.0, -2.0]
    main = ranked("fused", [4, 3, 2], [even, [2.0, -1.0], none])
    text = as_text([0, 1, 0, 4], NAMES, [main, ranked("text", [2, 4], [even, even])])
    assert text.split("\n") == [
        "in the basket",
        "  a  apple",
        "  b  bread",
        "  a  apple",
        "recommended (the basket's last item: eggs)",
        "        fused                                                         text",
        "   1  * eggs                                          b 75%, a 25%    cream",
        "   2    dates with \\x1b[31m a name that is much lo..  a 100%        * eggs",
        "   3    cream",
    ]


@pytest.mark.parametrize("many", [1, 3, 4, 5, 9])
def test_however_many_views_there_are_each_line_fits_a_terminal(many: int) -> None:
    views = [ranked(f"view {one}", [3, 4, 3], [[1.0, 1.0]] * 3) for one in range(many)]
    text = as_text([0, 1, 3], NAMES, views)
    assert max(map(len, text.split("\n"))) <= 120
    assert all(f"view {one}" in text for one in range(many))
    assert text.count("* dates") == 2 * many and text.count("a 50%, b 50%") == 3
