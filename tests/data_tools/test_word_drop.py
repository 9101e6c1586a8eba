"""Texts without some of their words, and their vectors."""

import pathlib

import numpy as np
import pytest

from alterrec_jax.errors import UserError
from data_tools.pipeline import prepare
from data_tools.word_drop import without_words
from tests.data_tools.examples import FakeEncoder, options, prepared, random_clicks, write_logs


def test_the_share_of_words_is_dropped_the_rest_keeps_its_order_and_one_stays() -> None:
    text = " ".join(f"w{number}" for number in range(4000))
    left = without_words(text, 0.15, 0).split()
    assert len(left) == pytest.approx(3400, abs=100) and left == sorted(left, key=text.split().index)
    assert without_words(text, 0.15, 0).split() == left != without_words(text, 0.15, 1).split()
    assert without_words("a b c", 0.999, 0) in ("a", "b", "c")
    assert without_words("a  b", 0.0, 0) == "a b" and without_words("", 0.5, 0) == ""


def test_texts_are_encoded_once_more_without_words(tmp_path: pathlib.Path) -> None:
    logs = write_logs(tmp_path, random_clicks(1))
    dataset = prepared(tmp_path, **logs, text_columns="title", word_drop=0.4)
    expected = [without_words(text, 0.4, 0) for text in dataset.items["text"]]
    np.testing.assert_array_equal(dataset.vectors["text_dropped"][:, 0], list(map(len, expected)))
    assert (dataset.vectors["text_dropped"][:, 0] < dataset.text_vectors[:, 0]).any()
    assert dataset.manifest["vectors"]["text_dropped"]["rule"].startswith("of the texts without 40% of their words")
    assert set(prepared(tmp_path, **logs, text_columns="title").vectors) == {"text"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"word_drop": 1.0}, "--word_drop is 1.0; it must be at least 0 and below 1"),
        ({"word_drop": 0.1, "text_model": "none"}, "no --text_model encodes them"),
        ({"word_drop": 0.1, "vectors": ("text_dropped=a.npy",)}, "--word_drop makes text_dropped"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict, message: str, tmp_path: pathlib.Path) -> None:
    logs = write_logs(tmp_path, random_clicks(1))
    with pytest.raises(UserError, match=message):
        prepare(options(tmp_path, **logs, **settings), FakeEncoder())
