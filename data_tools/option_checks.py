"""The defaults of each source, and the settings that no source can mean."""

import dataclasses
import itertools
import pathlib
from typing import Any

from alterrec_jax.data.dataset_files import TEXT, TEXT_DROPPED, names_in
from alterrec_jax.errors import UserError
from alterrec_jax.runtime import files
from data_tools import separated, sessions, splits, text_features
from data_tools.further_vectors import named_values
from data_tools.options import SESSION_ID, SOURCES, Options

_DEFAULTS: dict[str, dict[str, Any]] = {
    "complete_journey": {"split": "temporal", "validation_fraction": 0.05, "test_fraction": 0.05},
    "tabular": {"split": "leave_one_out", "validation_fraction": 0.1, "test_fraction": 0.1},
    "amazon_m2": {"split": "column", "validation_fraction": 0.1, "test_fraction": 0.1},
}
_LEAST = {"min_session_length": 2, "min_item_count": 1, "max_session_length": 0, "k_core": 0, "weeks": 0, "seed": 0}


def checked(options: Options) -> Options:
    """Fills in the defaults of the source and refuses settings that cannot be meant.

    Raises:
      UserError: names the setting and what would do.
    """
    if options.source not in SOURCES:
        raise UserError(f"--source is '{options.source}'; choose one of {', '.join(SOURCES)}")
    if not options.out:
        raise UserError("--out is missing; name the dataset folder to write")
    target = pathlib.Path(options.out)
    if pathlib.Path.cwd().is_relative_to(target.resolve()):
        raise UserError(f"--out={target} is the folder that this command runs in or is above it; name another folder")
    _require_replaceable(target)
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
    if options.k_core == 1 or (options.k_core and options.min_item_count > 1):
        raise UserError("--k_core must be at least 2, and counts items itself; leave --min_item_count out beside it")
    _check_times(options)
    if options.price_column and options.interaction_price_column:
        raise UserError("--price_column and --interaction_price_column both give the price; leave one out")
    if bool(options.image_column) != bool(options.image_dir):
        raise UserError("--image_column and --image_dir belong together; give both, or neither")
    text_features.check(options)
    _check_word_drop(options)
    _refuse_unread(given, options.split)
    if options.source == "tabular":
        _require_distinct_columns(options)
    splits.check_fractions(*options.shares)
    return options


def _require_replaceable(target: pathlib.Path) -> None:
    """Stops where there is more than an earlier dataset, before anything is read; writing looks once more."""
    if not target.exists():
        return
    ours = names_in(target)
    if not ours and (target.is_file() or any(target.iterdir())):
        raise UserError(f"--out={target} holds something that is not a dataset; choose another folder or empty it")
    if ours:
        files.require_ours(target, ours)


def _check_word_drop(options: Options) -> None:
    """Refuses a share that is none, and words that are dropped of texts which nobody encodes."""
    if not 0 <= options.word_drop < 1:
        raise UserError(f"--word_drop is {options.word_drop}; it must be at least 0 and below 1")
    models = text_features.models_of(options)
    if options.word_drop and TEXT not in models:
        raise UserError("--word_drop encodes texts once more, and no --text_model encodes them; leave it out")
    if options.word_drop and TEXT_DROPPED in {**models, **named_values(options.vectors, "vectors", "FILE.npy")}:
        raise UserError(f"--word_drop makes {TEXT_DROPPED}; choose another name for the vectors that are called so")


def _check_times(options: Options) -> None:
    """Refuses separators that are none, and what is said of times without a time."""
    separated.character(options.separator, "separator")
    separated.character(options.list_separator, "list_separator")
    if options.session_gap:
        sessions.seconds(options.session_gap)
        if not (options.user_column and options.order_column):
            raise UserError("--session_gap needs --user_column, and --order_column, a time")
        if options.session_column:
            raise UserError("--session_gap and --session_column both make the sessions; leave one out")
        if options.list_separator:
            raise UserError("--list_separator makes each row a session; leave --session_gap out")
    if (options.since or options.until) and not options.order_column:
        raise UserError("--since and --until need --order_column, a time")
    if not sessions.needs_unit(options) and options.time_unit:
        raise UserError("--time_unit is read by --session_gap, and by --since and --until with a date; leave it out")


def _require_distinct_columns(options: Options) -> None:
    """Refuses one column for two purposes; only sessions can be users."""
    flags = ["session_column", "item_column", "order_column", "interaction_price_column", "user_column"]
    flags += ["split_column"] if options.split == "column" else []
    named = {flag: getattr(options, flag) for flag in flags}
    if not options.session_gap:
        named["session_column"] = named["session_column"] or SESSION_ID
    for (first, name), (second, other) in itertools.combinations(named.items(), 2):
        if name and name == other and (first, second) != ("session_column", "user_column"):
            raise UserError(f"--{first} and --{second} both name '{name}'; each needs a column of its own")


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
