"""From a source to a dataset folder: read, order, split, filter, number, encode, write, in this order."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from alterrec_jax.data.dataset import SPLITS, write_dataset
from alterrec_jax.data.dataset_files import is_dataset
from alterrec_jax.errors import UserError
from alterrec_jax.runtime.console import log
from alterrec_jax.runtime.files import read_json
from alterrec_jax.runtime.text_table import aligned
from data_tools import catalogue, encode_text, item_texts, splits
from data_tools.logs import Logs, limit_lengths
from data_tools.options import SOURCES, Options
from data_tools.sources import amazon_m2, complete_journey, tabular
from data_tools.tally import Tally

_READERS: dict[str, Callable[[Options, Tally], Logs]] = {
    "complete_journey": complete_journey.read,
    "tabular": tabular.read,
    "amazon_m2": amazon_m2.read,
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "complete_journey": {"split": "temporal", "validation_fraction": 0.05, "test_fraction": 0.05},
    "tabular": {"split": "leave_one_out", "validation_fraction": 0.1, "test_fraction": 0.1},
    "amazon_m2": {"split": "column", "validation_fraction": 0.1, "test_fraction": 0.1},
}
_NOT_SETTINGS = ("out", "cache_dir")
_LEAST = {"min_session_length": 2, "min_item_count": 1, "max_session_length": 0, "weeks": 0, "seed": 0}


def prepare(options: Options, encoder: encode_text.Encoder | None = None) -> str:
    """Writes the dataset folder `options.out`.

    Args:
      options: what to read and how.
      encoder: encodes the texts instead of `options.text_model`; for tests.

    Returns:
      What was read, kept and dropped, as text for a person.

    Raises:
      UserError: a setting or a file is wrong, or nothing is left after filtering.
    """
    options = _checked(options)
    tally = Tally()
    log(f"reading {options.source}")
    logs = limit_lengths(
        _READERS[options.source](options, tally),
        tally,
        shortest=options.min_session_length,
        longest=options.max_session_length,
    )
    parts = catalogue.filter_rare(
        _split(logs, options),
        tally,
        least=options.min_item_count,
        held_out=options.held_out_rare_items,
        shortest=2 if options.split == "leave_one_out" else options.min_session_length,
    )
    catalogue.require_sessions(parts)
    rows, catalogue_size = catalogue.number_items(parts, logs.items["item_id"], catalogue=options.catalogue)
    parts = catalogue.renumber(parts, rows, len(logs.items))
    items = logs.items[rows].with_columns(item_texts.joined(logs.text_columns).alias("text"))
    encoder = encoder or encode_text.load_encoder(options.text_model)
    vectors = encode_text.encode_items(items, logs.text_columns, options.text_fusion, encoder, options.cache_dir)
    provenance = _provenance(options, logs, tally, items, encoder, vectors)
    write_dataset(
        options.out,
        items=items,
        sessions=_session_table(parts, logs.sessions),
        text_vectors=vectors,
        catalogue_size=catalogue_size,
        provenance=provenance,
    )
    return _summary(options, logs, tally)


def _checked(options: Options) -> Options:
    """Fills in the defaults of the source and refuses settings that cannot be meant."""
    if options.source not in SOURCES:
        raise UserError(f"--source is '{options.source}'; choose one of {', '.join(SOURCES)}")
    if not options.out:
        raise UserError("--out is missing; name the dataset folder to write")
    target = pathlib.Path(options.out)
    if pathlib.Path.cwd().is_relative_to(target.resolve()):
        raise UserError(f"--out={target} is the folder that this command runs in or is above it; name another folder")
    if target.exists() and not is_dataset(target) and (target.is_file() or any(target.iterdir())):
        raise UserError(f"--out={target} holds something that is not a dataset; choose another folder or empty it")
    for name, least in _LEAST.items():
        if getattr(options, name) < least:
            raise UserError(f"--{name} is {getattr(options, name)}; it must be at least {least}")
    if 0 < options.max_session_length < options.min_session_length:
        raise UserError("--max_session_length is below --min_session_length; no session could be kept")
    empty = {name: value for name, value in _DEFAULTS[options.source].items() if getattr(options, name) in ("", None)}
    given, options = options, dataclasses.replace(options, **empty)
    if options.source == "complete_journey" and options.split not in ("temporal", "ratio"):
        raise UserError(f"--split={options.split} does not fit complete_journey; choose temporal or ratio")
    if options.split == "temporal" and options.source == "tabular" and not options.order_column:
        raise UserError("--split=temporal needs --order_column, a time")
    _refuse_unread(given, options.split)
    splits.check_fractions(*options.shares)
    return options


def _refuse_unread(given: Options, split: str) -> None:
    """Refuses what was set for a split that is not made; `split` is the rule that is followed."""
    if given.source == "amazon_m2":  # which has its own rule, and reads the shares
        if given.test_sessions and given.test_fraction is not None:
            raise UserError("--test_fraction is not read with --test_sessions, which are the test split; leave it out")
        return
    for field in dataclasses.fields(given):
        rules = field.metadata["splits"]
        if split not in rules and getattr(given, field.name) != field.default:
            raise UserError(
                f"--{field.name} is read by --split={' or '.join(rules)} only, and the split is {split}; leave it out"
            )


def _split(logs: Logs, options: Options) -> pl.DataFrame:
    """Columns split, session, item, first_target, by the rule; fractions are of the sessions that are left."""
    if options.split == "leave_one_out":
        return splits.leave_one_out(logs.interactions)
    numbers = logs.interactions["session"].unique(maintain_order=True)
    left = logs.sessions[numbers]
    validation, test = options.shares
    if options.split == "temporal":
        chosen = splits.by_time(left, validation, test)
    elif options.split == "ratio":
        chosen = splits.at_random(len(left), validation, test, options.seed)
    else:
        chosen = splits.by_column(left["split"])
    return splits.whole_sessions(logs.interactions, pl.DataFrame({"session": numbers, "split": chosen}))


def _session_table(parts: pl.DataFrame, sessions: pl.DataFrame) -> pl.DataFrame:
    """One row for each session of each split, as `write_dataset` wants it."""
    grouped = parts.group_by("split", "session", maintain_order=True).agg(
        pl.col("item").alias("items"), pl.col("first_target").first()
    )
    names = sessions.select("session_id", "user_id")[grouped["session"]]
    columns = ("split", "session_id", "user_id", "items", "first_target")
    return pl.concat([grouped, names], how="horizontal").select(columns)


def _provenance(
    options: Options, logs: Logs, tally: Tally, items: pl.DataFrame, encoder: encode_text.Encoder, vectors: np.ndarray
) -> dict[str, Any]:
    settings = {name: value for name, value in dataclasses.asdict(options).items() if name not in _NOT_SETTINGS}
    return {
        "source": options.source,
        "arguments": settings,
        "seed": options.seed,
        "split_rule": _split_rule(options),
        "order": logs.order,
        **logs.provenance,
        "text_encoder": {
            "model": encoder.name,
            "sha256": encoder.sha256,
            "dim": int(vectors.shape[1]),
            "fusion": options.text_fusion,
            "columns": [column.removeprefix(item_texts.FIELD) for column in logs.text_columns],
        },
        "items_without_text": int((items["text"] == "").sum()),
        "steps": tally.as_records(),
    }


def _split_rule(options: Options) -> str:
    shares = f"{options.validation_fraction:g} of the sessions validation, {options.test_fraction:g} test"
    return (
        {
            "leave_one_out": "last item of a session test, the one before validation; training sees neither",
            "temporal": f"by the time a session ends, latest last: {shares}",
            "ratio": f"sessions at random (seed {options.seed}): {shares}",
            "column": f"by column '{options.split_column}'",
        }[options.split]
        if options.source != "amazon_m2"
        else amazon_m2.split_rule(options)
    )


def _summary(options: Options, logs: Logs, tally: Tally) -> str:
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
        f"dataset {manifest['fingerprint']} is in {options.out}",
    ]
    if options.source == "amazon_m2":
        sessions = {split: counts[split]["sessions"] for split in SPLITS}
        lines += ["", amazon_m2.beside_the_paper(options.locale, counts["items"], sessions)]
    return "\n".join(lines)
