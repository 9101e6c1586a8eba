"""What preparation found in a log and did about it, and what is odd about ids and texts, in sentences with a remedy."""

import textwrap
from collections.abc import Collection, Mapping
from typing import Any

import polars as pl

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.dataset_files import text_encoders
from data_tools import universal_encoder
from data_tools.text_model import PACKAGED_NAME, PACKAGED_SHA256

_MOSTLY_EMPTY = 0.5  # of the items
_NOTABLE = 0.05  # of the items with text; of all interactions
_FEWEST_SESSIONS = 20
_TIMES_THE_MEDIAN = 20
# Frequent in product texts of their languages, and hardly ever in English ones.
_ENGLISH = r"\b(?:the|and|for|with|of|from)\b"
_OTHER_LATIN = r"\b(?:und|für|mit|pour|avec|para|voor|met|della|dla|och|med|ile|için)\b"


def bullet(sentence: str) -> str:
    """A sentence as an item of a list, in lines that fit a terminal."""
    return textwrap.fill(
        sentence, 118, initial_indent="- ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def lengths_of(dataset: Dataset) -> pl.DataFrame:
    """Columns split, session_id and length (items) of every session of a dataset."""
    return pl.concat(
        pl.DataFrame({"split": split, "session_id": part.session_ids, "length": part.lengths})
        for split, part in dataset.splits.items()
    )


def find(items: pl.DataFrame, lengths: pl.DataFrame, manifest: Mapping[str, Any]) -> list[str]:
    """Names what is found, a sentence or two for each, which end in what to do.

    Args:
      items: columns item_id and text, as in a dataset folder.
      lengths: columns split, session_id and length, of every session.
      manifest: of the dataset; what it does not record is not judged.
    """
    found = manifest.get("found", {})
    sentences = [
        _duplicates(found.get("duplicates", {})),
        _null_values(found.get("null_values", {}), len(items)),
        _midnights(found.get("midnights", {})),
        _tied_at_the_cut(manifest.get("sessions_tied_across_splits", 0)),
        _giant_session(lengths),
        _near_equal_ids(items["item_id"]),
    ]
    encoders = text_encoders(manifest).values()
    if not encoders or not all(encoder.get("given") for encoder in encoders):
        sentences += [
            _empty_texts(items["text"]),
            _foreign_texts(items["text"], {encoder.get("sha256") for encoder in encoders}),
            _shared_texts(items["text"]),
        ]
    return [sentence for sentence in sentences if sentence]


def _duplicates(found: Mapping[str, Any]) -> str:
    count = found.get("duplicates", 0)
    if not count:
        return ""
    share = f"{count:,} of {found['rows']:,} rows of the log ({count / found['rows']:.1%}) stood in it before"
    if found["rule"] == "drop":
        return f"{share} and were dropped: if each of them counts, a second piece in a basket say, --duplicates=keep."
    return (
        f"{share} and are kept (--duplicates=keep), so that a target may be a copy of the item before it: unless each "
        "of them counts, prepare with --duplicates=drop."
    )


def _null_values(columns: Mapping[str, int], items: int) -> str:
    if not columns:
        return ""
    counts = ", ".join(f"{count:,} in '{column}'" for column, count in columns.items())
    return (
        f"NaN, NULL or another of --null_values stands in the items file ({counts}) and counts as empty: where it is a "
        "true value, name only the others by --null_values."
    )


def _midnights(found: Mapping[str, int]) -> str:
    if not found:
        return ""
    return (
        f"{found['midnight']:,} of {found['rows']:,} times ({found['midnight'] / found['rows']:.1%}) are exactly "
        "midnight and others are not. They may be days without a time, which come first on their day whatever was "
        "clicked before them: give all rows a time, or cut all to dates."
    )


def _tied_at_the_cut(sessions: int) -> str:
    if not sessions:
        return ""
    return (
        f"{sessions:,} sessions end at the same time as a session of another split, and were divided by their ids: "
        "order by a finer time (--order_column), or change --validation_fraction and --test_fraction so that the cut "
        "falls between two times."
    )


def _giant_session(lengths: pl.DataFrame) -> str:
    longest_split = int(lengths.group_by("split").agg(pl.col("length").sum())["length"].max() or 0)  # type: ignore[arg-type]
    if int(lengths["length"].max() or 0) < _NOTABLE * longest_split:  # type: ignore[arg-type]
        return ""
    whole = lengths.group_by("session_id").agg(pl.col("length").max())  # under leave_one_out splits overlap
    longest = whole.sort("length", "session_id").tail(1)
    total = int(whole["length"].sum())
    if len(whole) < _FEWEST_SESSIONS:
        return ""
    (name, length), median = longest.row(0), float(whole["length"].median() or 0)  # type: ignore[arg-type]
    if length < max(_NOTABLE * total, _TIMES_THE_MEDIAN * median):
        return ""
    return (
        f"Session '{name}' has {length:,} of {total:,} interactions ({length / total:.1%}), and the median session "
        f"{median:g}. If '{name}' says that a session is unknown, add it to --null_values and drop its rows by "
        "--missing_ids=drop; if it is a robot or a till, take it out of the log."
    )


def _near_equal_ids(ids: pl.Series) -> str:
    table = pl.DataFrame({"id": ids, "plain": ids.str.strip_chars().str.to_lowercase()})
    equal = table.filter(pl.col("plain").is_duplicated()).sort("plain", "id")
    if equal.is_empty():
        return ""
    return (
        f"{len(equal):,} item ids differ from another only in capitals or in white space at their ends, first "
        f"'{equal['id'][0]}' and '{equal['id'][1]}': where they are one item, write them one way."
    )


def _empty_texts(texts: pl.Series) -> str:
    empty = int((texts == "").sum())
    if not len(texts) or empty < _MOSTLY_EMPTY * len(texts):
        return ""
    if empty == len(texts):
        return (
            "No item has a text, so that all items are equal for a model of texts, and nothing can be learned from it: "
            "name columns that hold some by --text_columns, or train a system of IDs alone (sasrec, core, sr_gnn)."
        )
    return (
        f"{empty:,} of {len(texts):,} items ({empty / len(texts):.1%}) have no text, and are equal for a model of "
        "texts: add columns to --text_columns, or train a system of IDs alone (sasrec, core, sr_gnn)."
    )


def _foreign_texts(texts: pl.Series, encoders: Collection[str | None]) -> str:
    some = texts.filter(texts != "")
    if PACKAGED_SHA256 not in encoders or some.is_empty():
        return ""
    letters, latin = (some.str.count_matches(letter).cast(pl.Int64) for letter in (r"\p{L}", r"\p{Latin}"))
    other_script = _share((letters - latin) * 2 > letters)
    plain = some.str.to_lowercase()
    foreign, english = (_share(plain.str.contains(words)) for words in (_OTHER_LATIN, _ENGLISH))
    if other_script >= _NOTABLE:
        what = f"{other_script:.1%} of the texts are mostly in another script than the Latin one"
    elif foreign >= _NOTABLE and foreign > english:
        what = f"{foreign:.1%} of the texts hold words of other languages than English, and {english:.1%} English ones"
    else:
        return ""
    return (
        f"{what}, and {PACKAGED_NAME}, which encoded them, knows English: prepare with a multilingual model, "
        f"--text_model={universal_encoder.NAME} or paraphrase-multilingual-MiniLM-L12-v2 for example."
    )


def _shared_texts(texts: pl.Series) -> str:
    some = texts.filter(texts != "")
    sharing, items = int(some.is_duplicated().sum()), len(texts)
    if not sharing:
        return ""
    return (
        f"{sharing:,} of {items:,} items ({sharing / items:.1%}) share their text with another, so that a model of "
        "texts ranks them equally: add columns that tell them apart to --text_columns, or let IDs decide (a larger "
        "networks.id.weight)."
    )


def _share(which: pl.Series) -> float:
    return int(which.sum()) / len(which)
