"""What is told and drawn about a dataset."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from alterrec_jax.data.dataset import Dataset, load_dataset
from data_tools import description, description_plot
from data_tools.ascending import count_ascending
from data_tools.pipeline import prepare
from data_tools.text_model import PACKAGED_SHA256
from tests.conftest import write_small_dataset
from tests.data_tools.examples import FakeEncoder, as_items, options, prepared, random_clicks, write_csv, write_logs


@pytest.fixture
def small(tmp_path: pathlib.Path) -> Dataset:
    logs = write_logs(tmp_path, random_clicks(9))
    return prepared(tmp_path, **logs, order_column="time", split="ratio", min_item_count=6, text_columns="brand")


def test_facts_agree_with_a_slow_count(small: Dataset) -> None:
    facts = description.describe(small)
    for split in small.splits:
        sessions, part = as_items(small, split), facts.splits[split]
        catalogue = set(small.items["item_id"][: small.catalogue_size])
        targets = [(items[:place], items[place]) for _, items, first in sessions for place in range(first, len(items))]
        assert part.targets == len(targets)
        assert part.repeats == sum(target in before for before, target in targets)
        assert part.new_targets == sum(target not in catalogue for _, target in targets)
        assert part.new_last == sum(items[-1] not in catalogue for _, items, _ in sessions)
        assert part.lengths.tolist() == [len(items) for _, items, _ in sessions]
    assert facts.distinct_texts == 3 and facts.sharing_text == len(small.items)
    assert facts.popularity.sum() == len(small.splits["train"].items)


def test_the_text_says_what_one_wants_to_know(small: Dataset) -> None:
    text = description.as_text(description.describe(small))
    for word in (
        "session length",
        "already",
        "outside the catalogue",
        "equal timestamps",
        "items have none",
        "share theirs",
    ):
        assert word in text
    rows = {line.split("  ")[0]: line.split()[-3:] for line in text.splitlines()}
    for name in ("sessions", "interactions"):
        counts = [small.manifest["counts"][split][name] for split in small.splits]
        assert rows[name] == [f"{count:,}" for count in counts]


def test_a_dataset_without_ties_or_users_is_described(tmp_path: pathlib.Path) -> None:
    def change(arguments: dict[str, Any]) -> None:
        nobody = pl.lit(None, dtype=pl.String).alias("user_id")
        arguments["sessions"] = arguments["sessions"].with_columns(nobody)

    facts = description.describe(load_dataset(write_small_dataset(tmp_path / "d", change)))
    assert [part.users for part in facts.splits.values()] == [0, 0, 0]
    lines = description.as_text(facts).splitlines()
    assert [line.split() for line in lines if line.startswith("users")] == [["users", "0", "0", "0"]]
    assert "order: unknown; encoder=auto is the Transformer here" in lines
    assert any(line.endswith("in the source: unknown") for line in lines)
    description_plot.draw(facts, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


Click = tuple[str, str, int]


def traps(folder: pathlib.Path, clicks: list[Click], **settings: Any) -> list[str]:
    """The traps of a log in which each item has a text of its own."""
    logs = write_logs(folder, clicks)
    return description.describe(prepared(folder, **logs, **settings)).traps


def found(sentences: list[str], start: str) -> str:
    """The one sentence that begins so."""
    (one,) = [sentence for sentence in sentences if sentence.startswith(start)]
    return one


def sessions_of(
    order: Callable[[list[int], np.random.Generator], list[int]], time: Callable[[int], int]
) -> list[Click]:
    """Forty sessions of six different items each."""
    rng = np.random.default_rng(11)
    return [
        (f"s{s:02d}", f"i{item:02d}", time(position))
        for s in range(40)
        for position, item in enumerate(order(rng.choice(20, 6, replace=False).tolist(), rng))
    ]


def by_id(items: list[int], _: np.random.Generator) -> list[int]:
    return sorted(items)


def as_clicked(items: list[int], _: np.random.Generator) -> list[int]:
    return items


@pytest.mark.parametrize("order_column", ["", "time"])
def test_sessions_sorted_by_item_are_named(tmp_path: pathlib.Path, order_column: str) -> None:
    clicks = sessions_of(by_id, lambda position: 7 * position)
    sentence = found(traps(tmp_path, clicks, order_column=order_column), "Sessions are in ascending item id")
    assert "100.0% of 200 neighbouring pairs" in sentence and sentence.endswith("shuffle by --ties=random.")


def test_items_sorted_within_a_time_are_named(tmp_path: pathlib.Path) -> None:
    def halves(items: list[int], rng: np.random.Generator) -> list[int]:
        return sorted(items[:3]) + sorted(items[3:])

    clicks = sessions_of(halves, lambda position: position // 3)
    told = traps(tmp_path, clicks, order_column="time")
    sentence = found(told, "Within equal places of the order")
    assert "100.0% of 160 neighbouring pairs" in sentence and "shuffle by --ties=random, or report" in sentence
    sentence = found(told, "240 interactions (100.0%) in 40 sessions share their time")
    assert sentence.endswith("Unless the file is in the order of the clicks, shuffle them by --ties=random.")
    shuffled = traps(tmp_path, clicks, order_column="time", ties="random")
    assert not any("ascend" in sentence for sentence in shuffled)
    sentence = found(shuffled, "240 interactions (100.0%)")
    assert "the mean, which encoder=auto takes" in sentence and "repeat with other seeds (--seed)" in sentence
    # The same order by its positions: the times are hidden, and what is left of the sort is half of it.
    hidden = [(session, item, row % 6) for row, (session, item, _) in enumerate(clicks)]
    told = traps(tmp_path, hidden, order_column="time")
    assert "shuffle what is equal (--ties=random)." in found(told, "Items ascend by id in")
    assert found(told, "The order column counts").endswith("order by it (--order_column).")


def test_a_true_order_is_not_called_a_sort(tmp_path: pathlib.Path) -> None:
    told = traps(tmp_path, sessions_of(as_clicked, lambda position: 2 * position), order_column="time")
    assert not any("ascend" in sentence or "share their" in sentence for sentence in told)
    assert [sentence.split()[0] for sentence in told] == ["None"]  # of the training interactions repeats an item
    assert "exclude_session_items=true is recorded, and training follows it" in told[0]


def test_rare_repeats_are_counted_in_training_and_where_they_are_missed(tmp_path: pathlib.Path) -> None:
    train = [("train", s, i) for s in range(150) for i in range(10)] + [("train", 0, 0)]
    held_out = [(split, split, i) for split in ("validation", "test") for i in (0, 1, 0)]
    rows = [(f"s{session}", f"i{item:02d}", split) for split, session, item in train + held_out]
    columns = ("session_id", "item_id", "part")
    logs = write_logs(tmp_path, [])
    logs["interactions"] = write_csv(tmp_path / "log.csv", columns, rows)
    dataset = prepared(tmp_path, **logs, split="column", split_column="part")
    assert dataset.exclude_session_items
    sentence = found(description.describe(dataset).traps, "1 of 1,501 training interactions, fewer than 1 in 1,000")
    assert "(certain misses among the training targets: 1). exclude_session_items=true is recorded" in sentence
    assert "and 2 of 4 held-out targets (50.0%) are certain misses: say so beside the results" in sentence


def test_a_folder_in_which_rare_repeats_decided_is_told_so(tmp_path: pathlib.Path) -> None:
    def change(arguments: dict[str, Any]) -> None:
        why = "6 of 399,856 training interactions (0.0%) repeat an item of their session"
        counts = {"repeats": 6, "interactions": 399_856}
        arguments["provenance"]["protocol"] = {"exclude_session_items": False, "why": why, **counts}

    sentence = found(description.describe(load_dataset(write_small_dataset(tmp_path / "d", change))).traps, "6 of 399")
    assert sentence.endswith("set --config.protocol.exclude_session_items=yes, or prepare it again.")


def test_numbers_as_item_ids_ascend_as_numbers(tmp_path: pathlib.Path) -> None:
    pairs = np.arange(19)
    ids = pl.Series([str(8 + i) for i in range(20)])  # 8, 9, 10, ..: as text, 10 comes before 8
    assert count_ascending(pairs, pairs + 1, ids) == (19, 19)
    assert count_ascending(pairs, pairs + 1, pl.Series([f"i{i:02d}" for i in range(20)])) == (19, 19)
    assert count_ascending(pairs, pairs, ids) == (0, 0)
    assert count_ascending(pairs + 1, pairs, ids) == (19, 1)  # by text: 10, 9 ascends


def test_some_equal_times_repeats_unseen_targets_and_shared_texts(tmp_path: pathlib.Path) -> None:
    clicks = [(f"s{s}", f"i0{(s + i) % 3}", max(i, 1)) for s in range(10) for i in range(5)]
    clicks += [("s0", "i09", 9), ("s1", "i08", 9)]
    told = traps(tmp_path, clicks, order_column="time", text_columns="brand")
    sentence = found(told, "20 interactions (38.5%) in 10 sessions share their time")
    assert "as in the file" in sentence and sentence.endswith("prepare once more with --ties=random.")
    sentence = found(told, "2 of 32 training interactions (6.2%) repeat an item")
    assert "exclude_session_items=false is recorded" in sentence
    assert sentence.endswith("leave it, for otherwise 18 of 20 held-out targets (90.0%) are certain misses.")
    sentence = found(told, "Targets outside the catalogue")
    assert "0 of validation (0.0%), 2 of test (20.0%)" in sentence
    sentence = found(told, "4 of 5 items (80.0%) share their text")
    assert "--text_columns" in sentence


def test_findings_are_said_by_prepare_and_by_describe(tmp_path: pathlib.Path) -> None:
    """Copies that were kept, null words, equal times at a cut, a session of strangers, ids that differ in capitals."""
    clicks = sessions_of(as_clicked, lambda position: 2 * position)
    clicks += [("guest", f"i{item % 20:02d}", item) for item in range(120)] + clicks[:10]
    logs = write_logs(tmp_path, clicks)
    rows = [(f"i{i:02d}", "NaN" if i < 12 else f"thing {i}") for i in range(20)] + [("I19", "thing 20")]
    logs["items"] = write_csv(tmp_path / "items.csv", ("item_id", "title"), rows)
    settings = {**logs, "order_column": "time", "split": "temporal", "duplicates": "keep", "catalogue": "all"}
    said = prepare(options(tmp_path, **settings), FakeEncoder())
    folder = load_dataset(tmp_path / "out")
    sentences = description.describe(folder).traps
    for start, end in (
        ("10 of 370 rows of the log (2.7%) stood in it before", "prepare with --duplicates=drop."),
        ("NaN, NULL or another of --null_values", "name only the others by --null_values."),
        ("40 sessions end at the same time as a session of another split", "falls between two times."),
        ("Session 'guest' has 120 of 370 interactions (32.4%), and the median session 6", "take it out of the log."),
        ("2 item ids differ from another only in capitals", "write them one way."),
        ("12 of 21 items (57.1%) have no text", "a system of IDs alone (sasrec, core, sr_gnn)."),
    ):
        sentence = found(sentences, start)
        assert sentence.endswith(end)
        assert " ".join(sentence.split()) in " ".join(said.split())
    assert "equal times by session id" in folder.manifest["split_rule"]


@pytest.mark.parametrize(
    ("titles", "start"),
    [
        (
            ["\u65e5\u672c\u8336 250g", "tea", "\u7dd1\u8336"],
            "66.7% of the texts are mostly in another script than the Latin one",
        ),
        (["Tee für Kinder", "Brot mit Salz", "tea"], "66.7% of the texts hold words of other languages than English"),
        (["tea for two", "bread with salt", "crème brûlée mix"], ""),
    ],
)
def test_texts_that_the_packaged_encoder_does_not_read(tmp_path: pathlib.Path, titles: list[str], start: str) -> None:
    logs = write_logs(tmp_path, sessions_of(as_clicked, lambda position: 2 * position))
    rows = [(f"i{i:02d}", titles[i % 3]) for i in range(21)]
    logs["items"] = write_csv(tmp_path / "items.csv", ("item_id", "title"), rows)
    encoder = FakeEncoder()
    encoder.sha256 = PACKAGED_SHA256
    prepare(options(tmp_path, **logs, order_column="time", catalogue="all"), encoder)
    sentences = [trap for trap in description.describe(load_dataset(tmp_path / "out")).traps if "multilingual" in trap]
    assert len(sentences) == bool(start)
    if start:
        assert found(sentences, start).endswith(
            "--text_model=muse or paraphrase-multilingual-MiniLM-L12-v2 for example."
        )
    prepare(options(tmp_path, **logs, order_column="time", catalogue="all"), FakeEncoder())  # of another model
    assert not any("multilingual" in trap for trap in description.describe(load_dataset(tmp_path / "out")).traps)


def test_a_dataset_without_any_text_is_named(tmp_path: pathlib.Path) -> None:
    logs = write_logs(tmp_path, sessions_of(as_clicked, lambda position: 2 * position))
    logs["items"] = write_csv(tmp_path / "items.csv", ("item_id", "title"), [(f"i{i:02d}", "") for i in range(20)])
    said = prepare(options(tmp_path, **logs, order_column="time"), FakeEncoder())
    assert "No item has a text" in said and "--text_columns" in said


def test_a_folder_of_any_name_is_drawn(tmp_path: pathlib.Path) -> None:
    folder = write_small_dataset(tmp_path / r"$\frac{$")
    description_plot.draw(description.describe(load_dataset(folder)), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_without_a_protocol_is_told_what_to_set(tmp_path: pathlib.Path) -> None:
    facts = description.describe(load_dataset(write_small_dataset(tmp_path / "d")))
    (sentence,) = [trap for trap in facts.traps if "records no choice" in trap]
    assert "train with --config.protocol.exclude_session_items=no" in sentence


def test_equal_times_of_an_earlier_version(tmp_path: pathlib.Path) -> None:
    def change(arguments: dict[str, Any]) -> None:
        arguments["provenance"]["order"] = {"rule": "by time", "tied_interactions": 40, "sessions_with_ties": 9}

    facts = description.describe(load_dataset(write_small_dataset(tmp_path / "d", change)))
    told = (
        "40 interactions in 9 sessions share their place in the order with another of the session: prepare the dataset"
    )
    assert found(facts.traps, told)


def test_coverage_is_of_the_catalogue_and_of_training(tmp_path: pathlib.Path) -> None:
    def change(arguments: dict[str, Any]) -> None:
        price = [None] + [1.0] * 30
        lists = [["a=b"], [], None] + [["a=b"]] * 28
        arguments["items"] = (
            arguments["items"]
            .select("item_id", "name", "text")
            .with_columns(price=pl.Series(price), attributes=pl.Series(lists, dtype=pl.List(pl.String)))
        )
        arguments["vectors"] = {"image": np.where(np.arange(31) < 3, 0, 1)[:, None]}

    dataset = load_dataset(write_small_dataset(tmp_path / "d", change))
    facts, counts = description.describe(dataset), dataset.train_counts
    clicks = counts.sum()
    assert facts.coverage == [
        ("text", 1.0, 1.0),
        ("price", pytest.approx(28 / 29), pytest.approx(1 - counts[0] / clicks)),
        ("attributes", pytest.approx(27 / 29), pytest.approx(1 - counts[1:3].sum() / clicks)),
        ("image vectors", pytest.approx(26 / 29), pytest.approx(1 - counts[:3].sum() / clicks)),
    ]
    lines = [line.split() for line in description.as_text(facts).splitlines()]
    assert ["price", "96.6%", f"{1 - counts[0] / clicks:.1%}"] in lines
    description_plot.draw(facts, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_top_share() -> None:
    assert description.top_share(np.array([6, 2, 1, 1]), 0.25) == 0.6
    assert description.top_share(np.zeros(0, np.int64), 0.1) == 0.0
