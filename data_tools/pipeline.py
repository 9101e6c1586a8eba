"""From a source to a dataset folder: read, order, split, filter, number, encode, write, in this order."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl

from alterrec_jax.data.dataset import SPLITS, write_dataset
from alterrec_jax.data.dataset_files import ALONE, TEXT, TEXT_DROPPED
from alterrec_jax.runtime.console import log
from alterrec_jax.runtime.files import read_json
from alterrec_jax.runtime.text_table import aligned
from data_tools import (
    catalogue,
    encode_text,
    findings,
    item_features,
    item_texts,
    option_checks,
    protocol,
    splits,
    tables,
    text_features,
    word_drop,
)
from data_tools.flat_sessions import FlatSessions
from data_tools.logs import Logs, limit_lengths
from data_tools.options import Options
from data_tools.shortage import require_sessions
from data_tools.sources import amazon_m2, complete_journey, tabular
from data_tools.tally import Tally

_READERS: dict[str, Callable[[Options, Tally], Logs]] = {
    "complete_journey": complete_journey.read,
    "tabular": tabular.read,
    "amazon_m2": amazon_m2.read,
}
_NOT_SETTINGS = ("out", "cache_dir")


def prepare(options: Options, encoder: encode_text.Encoder | None = None) -> str:
    """Writes the dataset folder `options.out`.

    Args:
      options: what to read and how.
      encoder: encodes the texts instead of whatever the options name; for tests.

    Returns:
      What was read, kept and dropped, as text for a person.

    Raises:
      UserError: a setting or a file is wrong, or nothing is left after filtering.
    """
    options = option_checks.checked(options)
    models = text_features.models_of(options)
    encoders = {feature: encoder or encode_text.load_encoder(model) for feature, model in models.items()}
    tally = Tally()
    log(f"reading {options.source}")
    logs = limit_lengths(
        _READERS[options.source](options, tally),
        tally,
        shortest=options.min_session_length,
        longest=options.max_session_length,
    )
    parts, tied = _split(logs, options)
    parts = catalogue.filter_rare(
        parts,
        tally,
        least=options.min_item_count,
        core=options.k_core,
        held_out=options.held_out_rare_items,
        shortest=2 if options.split == "leave_one_out" else options.min_session_length,
    )
    require_sessions(parts, tally, options)
    rows, catalogue_size = catalogue.number_items(parts, logs.items["item_id"], catalogue=options.catalogue)
    for split, part in parts.items():
        parts[split] = catalogue.renumber(part, rows, len(logs.items))
    items = logs.items[rows].with_columns(item_texts.joined(logs.text_columns).alias("text"))
    items, attributes = item_features.finish(
        items, logs.attributes, parts["train"].rows, catalogue_size=catalogue_size, image_dir=options.image_dir
    )
    given = {name: np.asarray(table[rows], np.float32) for name, table in logs.vectors.items()}
    encoded, made_with = text_features.encode(items, logs.text_columns, encoders, options)
    if options.text_vectors:
        made_with[TEXT] = text_features.note_of_given(options.text_vectors, given[TEXT].shape[1])
    if options.word_drop:
        encoded[TEXT_DROPPED] = word_drop.encode(items, logs.text_columns, encoders[TEXT], options)
    vectors = {**given, **encoded}
    provenance = {
        **_provenance(options, logs, tally, items),
        "text_encoders": made_with,
        "attributes": attributes,
        "vectors": {
            name: text_features.coverage_note(name, table, catalogue_size, made_with.get(name, {}))
            | (word_drop.note(options) if name == TEXT_DROPPED else {})
            for name, table in vectors.items()
            if name != TEXT or name in given  # else its share is that of the texts
        },
        "protocol": protocol.protocol_of(parts["train"].rows["item"].to_numpy(), parts["train"].lengths),
        "sessions_tied_across_splits": tied,
    }
    sessions = _session_table(parts, logs.sessions)
    write_dataset(
        options.out,
        items=items,
        sessions=sessions,
        text_vectors=vectors.pop(TEXT, None),
        catalogue_size=catalogue_size,
        provenance=provenance,
        vectors=vectors,
    )
    lengths = sessions.select("split", "session_id", pl.col("items").list.len().alias("length"))
    return _summary(options, logs, tally, findings.find(items, lengths, provenance))


def _split(logs: Logs, options: Options) -> tuple[dict[str, FlatSessions], int]:
    """The sessions of each split, by the rule; fractions are of the sessions that are left.

    And how many sessions a temporal split divides by their ids, for their times are equal.
    """
    if options.split == "leave_one_out":
        return _without_prices(splits.leave_one_out(logs.interactions)), 0
    left, tied = logs.sessions[logs.interactions.session], 0
    validation, test = options.shares
    if options.split == "temporal":
        chosen = splits.by_time(left, validation, test)
        tied = splits.tied_across(left["time"], chosen)
    elif options.split == "ratio":
        chosen = splits.at_random(len(left), validation, test, options.seed)
    else:
        chosen = splits.by_column(left["split"])
    return _without_prices(splits.whole_sessions(logs.interactions, chosen)), tied


def _without_prices(parts: Mapping[str, FlatSessions]) -> dict[str, FlatSessions]:
    """Leaves out the prices of held-out sessions, which nothing may learn from."""
    rows = {
        split: part.rows if split == "train" else part.rows.drop("price", strict=False) for split, part in parts.items()
    }
    return {split: dataclasses.replace(part, rows=rows[split]) for split, part in parts.items()}


def _session_table(parts: dict[str, FlatSessions], sessions: pl.DataFrame) -> pl.DataFrame:
    """One row for each session of each split, as `write_dataset` wants it; `parts` is empty afterwards."""
    frames = []
    for split in SPLITS:
        part = parts.pop(split)
        number = pl.Series("number", np.repeat(np.arange(len(part), dtype=np.uint32), part.lengths)).set_sorted()
        columns = [pl.col("item").alias("items")]
        if ALONE in part.rows.columns:
            # Under leave_one_out it may tell of what follows: training does not learn it.
            columns.append(pl.when(pl.col("held_out").first()).then(pl.col(ALONE).implode()).alias(ALONE))
        rows = part.rows.with_columns(number, pl.lit(split != "train").alias("held_out"))
        lists = rows.group_by("number", maintain_order=True).agg(columns).drop("number")
        names = sessions.select(pl.lit(split).alias("split"), "session_id", "user_id")[part.session]
        first_target = pl.Series("first_target", part.first_target)
        frames.append(pl.concat([names, lists.insert_column(1, first_target)], how="horizontal"))
    return tables.concat(frames)


def _provenance(options: Options, logs: Logs, tally: Tally, items: pl.DataFrame) -> dict[str, Any]:
    settings = {name: value for name, value in dataclasses.asdict(options).items() if name not in _NOT_SETTINGS}
    return {
        "source": options.source,
        "arguments": settings,
        "seed": options.seed,
        "split_rule": _split_rule(options),
        "order": logs.order,
        **logs.provenance,
        "items_without_text": int((items["text"] == "").sum()),
        **({"k_core": _k_core_note(options)} if options.k_core else {}),
        "steps": tally.as_records(),
    }


def _k_core_note(options: Options) -> str:
    return (
        f"{options.k_core}-core of the training sessions, counted after the split: held-out data chose no item. A "
        "k-core of the literature counts all sessions before the split, so its numbers do not compare"
    )


def _split_rule(options: Options) -> str:
    shares = f"{options.validation_fraction:g} of the sessions validation, {options.test_fraction:g} test"
    return (
        {
            "leave_one_out": "last item of a session test, the one before validation; training sees neither",
            "temporal": f"by the time a session ends, latest last, equal times by session id: {shares}",
            "ratio": f"sessions at random (seed {options.seed}): {shares}",
            "column": f"by column '{options.split_column}'",
        }[options.split]
        if options.source != "amazon_m2"
        else amazon_m2.split_rule(options)
    )


def _summary(options: Options, logs: Logs, tally: Tally, found: list[str]) -> str:
    manifest = read_json(pathlib.Path(options.out) / "manifest.json", "dataset manifest")
    counts = manifest["counts"]
    rows: list[tuple[str, ...]] = [("written", "sessions", "interactions", "targets")]
    for split in SPLITS:
        rows.append((split, *(f"{counts[split][name]:,}" for name in ("sessions", "interactions", "prefixes"))))
    lines = [
        tally.table(),
        "",
        aligned(rows),
        "",
        f"items: {counts['catalogue']:,} in the catalogue, {counts['items'] - counts['catalogue']:,} in held-out "
        f"sessions only, {manifest['items_without_text']:,} without text",
        f"order: {logs.order['rule']}; {logs.order['tied_interactions']:,} interactions share their place with another",
        f"split: {manifest['split_rule']}",
        *([f"k-core: {manifest['k_core']}"] if options.k_core else []),
        *_known_lines(manifest["attributes"], manifest["vectors"]),
        f"exclude_session_items={manifest['protocol']['exclude_session_items']}: {manifest['protocol']['why']}",
        f"dataset {manifest['fingerprint']} is in {options.out}",
    ]
    if options.source == "amazon_m2":
        sessions = {split: counts[split]["sessions"] for split in SPLITS}
        lines += ["", amazon_m2.beside_the_paper(options.locale, counts["items"], sessions)]
    if found:
        lines += ["", "to know (data_tools.describe says more):", *map(findings.bullet, found)]
    return "\n".join(lines)


def _known_lines(attributes: dict[str, dict[str, Any]], vectors: dict[str, dict[str, Any]]) -> list[str]:
    """The shares of the catalogue of which attributes and vectors are known, if there are any."""
    notes = {**attributes, **{f"{name} vectors": note for name, note in vectors.items()}}
    shares = ", ".join(f"{name} of {note['catalogue_coverage']:.1%}" for name, note in notes.items())
    return [f"known of the catalogue: {shares}"] if shares else []
