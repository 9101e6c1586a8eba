"""What the images of a dataset's items become: words, and vectors of the images and of the words.

image_words      column: the most likely classes, "espresso, tea cup" (SRIM eq. 1)
image            vectors: what the classifier's last layer reads, of unit length like those of texts
image_words      vectors: of the words alone, by the text encoder
text_and_image   vectors: of the text with the words behind it, by the text encoder (SRIM eq. 2)
"""

import collections
import dataclasses
import pathlib
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.dataset_files import IMAGE, IMAGE_WORDS, TEXT_AND_IMAGE
from alterrec_jax.errors import UserError
from alterrec_jax.runtime import files
from data_tools import encode_text
from data_tools.classify_images import Classifier, ImageVectors, vectors_of
from data_tools.image_classifier import words_of
from data_tools.images import within

WORDS = "image_words"  # the column
_ROWS_AT_ONCE = 4096


class Settings(NamedTuple):
    """How images become words.

    Attributes:
      words: how many an image has at most.
      least_probability: that each needs.
    """

    words: int = 2
    least_probability: float = 0.0


class Brought(NamedTuple):
    """What preparation was given, and stays. Attributes: words, whether there are any; vectors, of which features."""

    words: bool
    vectors: frozenset[str]


@dataclasses.dataclass
class Made:
    """What is new in a dataset.

    Attributes:
      items: the table, with new columns.
      vectors: by feature, float32 [items, width].
      notes: by feature, what the manifest tells of its vectors: rule, and made_with (model, sha256, fusion).
      record: what the manifest tells of the images.
      lines: for a person to read.
    """

    items: pl.DataFrame
    vectors: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    notes: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    record: dict[str, Any] = dataclasses.field(default_factory=dict)
    lines: list[str] = dataclasses.field(default_factory=list)

    def add(self, feature: str, vectors: np.ndarray, rule: str, made_with: dict[str, Any]) -> None:
        """Adds the vectors of a feature."""
        self.vectors[feature] = vectors
        self.notes[feature] = {"rule": rule, "made_with": made_with}


def from_images(
    dataset: Dataset, brought: Brought, folder: pathlib.Path, classifier: Classifier, settings: Settings, cache_dir: str
) -> Made:
    """Words and vectors of the images, but for what was brought.

    Args:
      dataset: its items have the column image.
      brought: what stays.
      folder: where the images are, without links.
      classifier, settings: make vectors and words.
      cache_dir: where vectors are kept.

    Raises:
      UserError: not one of the images is there, or one lies outside of the folder.
    """
    names = dataset.items["image"]
    rows = [row for row, name in enumerate(names) if name is not None]
    paths = [within(folder, names[row]) for row in rows]
    found = vectors_of(paths, classifier, cache_dir)
    if rows and len(found.missing) == len(rows):
        raise UserError(f"none of the {len(rows):,} images is in {folder}, {names[rows[0]]} for one; check --image_dir")
    made = _counted(dataset.items, rows, found)
    made.record |= {"classifier": classifier.name, "weights_sha256": classifier.sha256}
    vectors = np.zeros((len(names), classifier.dim), np.float32)
    for number, vector in found.vectors.items():
        vectors[rows[number]] = vector
    if not brought.words:
        words = _words(vectors, classifier, settings)
        made.items = made.items.with_columns(pl.Series(WORDS, words, pl.String))
        made.record |= {**settings._asdict(), "classes_sha256": files.json_digest(list(classifier.classes))}
        made.lines.append(_words_line(words))
    if IMAGE not in brought.vectors:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        rule = f"of the image, by {classifier.name}, of unit length; zeros where none was read"
        made_with = {"model": classifier.name, "sha256": classifier.sha256, "fusion": None}
        made.add(IMAGE, vectors / np.where(lengths > 0, lengths, 1), rule, made_with)
    return made


def add_texts(made: Made, brought: Brought, encoder: encode_text.Encoder, cache_dir: str) -> None:
    """Adds the vectors of words, and of texts with words, but for what was brought."""
    words = made.items[WORDS].fill_null("").to_list()
    joined = [", ".join(filter(None, both)) for both in zip(made.items["text"].to_list(), words, strict=True)]
    made_with = {"model": encoder.name, "sha256": encoder.sha256, "fusion": "concat"}
    for feature, texts, what in (
        (IMAGE_WORDS, words, "image words"),
        (TEXT_AND_IMAGE, joined, "text and image words"),
    ):
        if feature not in brought.vectors:
            rule = f"of {what}, by {encoder.name}; zeros where an item has none"
            made.add(feature, encode_text.encode_texts(texts, encoder, cache_dir), rule, made_with)


def _counted(items: pl.DataFrame, rows: list[int], found: ImageVectors) -> Made:
    """The items with the hashes of what was found, and the counts of what was not."""
    names, before = items["image"].to_list(), items["image_sha256"].to_list()
    after, changed = list(before), []
    for number, digest in found.sha256.items():
        row = rows[number]
        after[row] = digest
        if before[row] not in (None, digest):
            changed.append(names[row])
    missing = [names[rows[number]] for number in found.missing]
    unreadable = [f"{names[rows[number]]}: {why}" for number, why in sorted(found.unreadable.items())]
    made = Made(items.with_columns(pl.Series("image_sha256", after, pl.String)))
    made.record = {
        "images": len(rows),
        "classified": len(found.vectors),
        "missing": len(missing),
        "unreadable": len(unreadable),
        "changed": len(changed),
    }
    made.lines.append(f"images: {len(rows):,} of {len(items):,} items name one, {len(found.vectors):,} were classified")
    for what, which in (
        ("are missing", missing),
        ("cannot be read", unreadable),
        ("changed since the dataset was prepared, and were classified as they are now", changed),
    ):
        if which:
            made.lines.append(f"  {len(which):,} {what}, the first being {which[0]}")
    return made


def _words(vectors: np.ndarray, classifier: Classifier, settings: Settings) -> list[str | None]:
    """The words of each item, from its vector as the classifier makes it; None where it has none."""
    found: list[str | None] = [None] * len(vectors)
    seen = np.flatnonzero(vectors.any(axis=1))
    for start in range(0, len(seen), _ROWS_AT_ONCE):
        rows = seen[start : start + _ROWS_AT_ONCE]
        labels = words_of(classifier.probabilities(vectors[rows]), classifier.classes, *settings)
        for row, names in zip(rows, labels, strict=True):
            found[row] = ", ".join(names) or None
    return found


def _words_line(words: list[str | None]) -> str:
    some = [word for word in words if word]
    often = collections.Counter(some).most_common(5)
    most = ", the most frequent being " + "; ".join(f"'{one}' ({count:,})" for one, count in often) if some else ""
    return f"words: {len(some):,} items have some{most}"
