"""From image files to frozen vectors: each distinct image once, kept in a cache, continued after an interruption."""

import hashlib
import itertools
import os
import pathlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np

from alterrec_jax.runtime.console import progress
from data_tools import photographs
from data_tools.photographs import UnreadableImageError
from data_tools.vector_cache import VectorCache


class Classifier(Protocol):
    """What turns images into vectors, and vectors into classes: see `image_classifier.ImageClassifier`."""

    @property
    def name(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    @property
    def key(self) -> str: ...

    @property
    def classes(self) -> Sequence[str]: ...

    @property
    def side(self) -> int: ...

    @property
    def dim(self) -> int: ...

    def vectors(self, images: np.ndarray, batch: int) -> np.ndarray: ...

    def probabilities(self, vectors: np.ndarray) -> np.ndarray: ...


class ImageVectors(NamedTuple):
    """Of image files, in their order.

    Attributes:
      vectors: by the number of a file, float32 [width]; of those that could be read.
      sha256: by the number of a file, of its bytes; of those that are there.
      missing: the numbers of those that are not.
      unreadable: by number, why it could not be read.
    """

    vectors: dict[int, np.ndarray]
    sha256: dict[int, str]
    missing: list[int]
    unreadable: dict[int, str]


def vectors_of(
    paths: Sequence[pathlib.Path], classifier: Classifier, cache_dir: str | os.PathLike[str], images_a_batch: int = 32
) -> ImageVectors:
    """Reads images, and classifies each distinct one at most once in the life of the cache.

    Args:
      paths: of the files.
      classifier: makes the vectors.
      cache_dir: folder of the cache.
      images_a_batch: classified and committed together: a killed run loses less than this.

    Raises:
      UserError: the cache cannot be used.
    """
    found = ImageVectors({}, {}, [], {})
    numbers = progress(range(len(paths)), "classifying images", total=len(paths), unit="images")
    with VectorCache(cache_dir, "image") as cache, ThreadPoolExecutor() as pool, photographs.strict_decoding():
        while batch := list(itertools.islice(numbers, images_a_batch)):
            read = dict(zip(batch, pool.map(_read, [paths[number] for number in batch]), strict=True))
            contents = {number: data for number, data in read.items() if isinstance(data, bytes)}
            found.missing.extend(number for number, data in read.items() if data is None)
            found.unreadable.update({number: why for number, why in read.items() if isinstance(why, str)})
            hashes = {number: hashlib.sha256(data).hexdigest() for number, data in contents.items()}
            found.sha256.update(hashes)
            distinct = {hashes[number]: data for number, data in contents.items()}
            vectors, reasons = _classified(distinct, classifier, cache, pool, images_a_batch)
            found.vectors.update({number: vectors[digest] for number, digest in hashes.items() if digest in vectors})
            found.unreadable.update({number: reasons[digest] for number, digest in hashes.items() if digest in reasons})
    return found


def _classified(
    contents: dict[str, bytes], classifier: Classifier, cache: VectorCache, pool: ThreadPoolExecutor, batch: int
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """By the hash of each file, its vector, or why there is none."""
    known = cache.get(classifier.key, list(contents))
    fresh = [digest for digest in contents if digest not in known]
    decoded = pool.map(lambda digest: _decoded(contents[digest], classifier.side), fresh)
    results = dict(zip(fresh, decoded, strict=True))
    images = {digest: image for digest, image in results.items() if isinstance(image, np.ndarray)}
    if images:
        made = dict(zip(images, classifier.vectors(np.stack(list(images.values())), batch), strict=True))
        cache.put(classifier.key, made)
        known |= made
    return known, {digest: reason for digest, reason in results.items() if isinstance(reason, str)}


def _read(path: pathlib.Path) -> bytes | str | None:
    """The content of a file, None where there is none, or why it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror or str(error)


def _decoded(data: bytes, side: int) -> np.ndarray | str:
    """The pixels, or why there are none."""
    try:
        return photographs.pixels(data, side)
    except UnreadableImageError as error:
        return str(error)
