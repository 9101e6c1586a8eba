"""Words and vectors of images: of what is there, counted where it is not, and a user's own in their place."""

import json
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from alterrec_jax.data.catalogue import encoders_of, require_encoders
from alterrec_jax.data.dataset import Dataset, load_dataset
from alterrec_jax.errors import UserError
from alterrec_jax.runtime import files
from data_tools import description
from data_tools.classify_images import vectors_of
from data_tools.domains import join
from data_tools.image_features import Settings
from data_tools.image_labels import label
from data_tools.new_items import read_new_items
from tests.data_tools.examples import FakeEncoder, random_clicks, write_csv
from tests.data_tools.examples import prepared as prepared_from

ITEMS = 20
COLOURS = ("red", "lime", "blue")  # of the items, in turns; every fourth has no image


class FakeClassifier:
    """Knows red, green and blue, by the mean of each; remembers how many images it saw, and stops after some."""

    name, sha256, key = "fake classifier", "f" * 64, "fake-images"
    classes: Sequence[str] = ("tomato", "frog", "sea")
    side, dim = 8, 3

    def __init__(self, stop_after: int | None = None) -> None:
        self.seen = 0
        self._stop_after = stop_after

    def vectors(self, images: np.ndarray, batch: int) -> np.ndarray:
        if self._stop_after is not None and self.seen >= self._stop_after:
            raise KeyboardInterrupt
        self.seen += len(images)
        return images.mean((1, 2), dtype=np.float32)

    def probabilities(self, vectors: np.ndarray) -> np.ndarray:
        scores = vectors + np.array([[3, 2, 1]])
        return scores / scores.sum(axis=1, keepdims=True)


def image_of(number: int) -> str:
    return f"{'' if number % 2 else 'deep/'}{number}.png"


def draw(folder: pathlib.Path) -> None:
    """The images, each of its own shade."""
    (folder / "photos/deep").mkdir(parents=True)
    for number in range(ITEMS):
        if number % 4 != 3:
            image = Image.new("RGB", (12, 9), COLOURS[number % 3])
            image.putpixel((6, 4), (number, number, number))
            image.save(folder / "photos" / image_of(number))


def prepared(folder: pathlib.Path, **settings: Any) -> Dataset:
    """A dataset of items with images; item 7 names none."""
    header = ("item_id", "title", "photo", "words")
    rows = [
        (f"i{n:02d}", "" if n == 4 else f"Thing {n}", None if n == 7 else image_of(n), "soap" if n else "")
        for n in range(ITEMS)
    ]
    given = {
        "interactions": write_csv(folder / "log.csv", ("session_id", "item_id", "time"), random_clicks(1)),
        "items": write_csv(folder / "items.csv", header, rows),
        "image_column": "photo",
        "image_dir": str(folder / "photos"),
        "catalogue": "all",
        **settings,
    }
    return prepared_from(folder, **{name: value for name, value in given.items() if value})


@pytest.fixture
def labelled(tmp_path: pathlib.Path) -> Callable[..., tuple[Dataset, str]]:
    """Prepares, labels and loads again."""
    draw(tmp_path)

    def run(*, given: dict[str, Any] | None = None, **options: Any) -> tuple[Dataset, str]:
        if not (tmp_path / "out").exists():
            prepared(tmp_path, **given or {})
        options = {"classifier": FakeClassifier(), "encoder": FakeEncoder(), **options}
        summary = label(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"), **options)
        return load_dataset(options.get("out") or tmp_path / "out"), summary

    return run


def rows_of(dataset: Dataset) -> dict[int, int]:
    """Of each item of the file, its row."""
    return {int(name[1:]): row for row, name in enumerate(dataset.items["item_id"])}


def test_words_and_vectors_are_those_of_the_images(labelled: Callable[..., tuple[Dataset, str]]) -> None:
    dataset, summary = labelled()
    row, words = rows_of(dataset), dataset.items["image_words"]
    assert [words[row[n]] for n in (0, 1, 2, 3, 7)] == ["tomato, frog", "frog, tomato", "sea, tomato", None, None]
    image = dataset.vectors["image"]
    assert image.dtype == np.float32 and image.shape == (len(dataset.items), 3)
    lengths = np.linalg.norm(image, axis=1)
    np.testing.assert_allclose(lengths, [0.0 if word is None else 1.0 for word in words], rtol=1e-6)
    assert image[row[1]].argmax() == 1 and image[row[2]].argmax() == 2
    np.testing.assert_array_equal(dataset.vectors["image_words"][row[2]], FakeEncoder().encode(["sea, tomato"])[0])
    assert not dataset.vectors["image_words"][row[3]].any()
    joined, text = dataset.vectors["text_and_image"], dataset.text_vectors
    np.testing.assert_array_equal(joined[row[2]], FakeEncoder().encode(["Thing 2, sea, tomato"])[0])
    np.testing.assert_array_equal(joined[row[4]], FakeEncoder().encode(["frog, tomato"])[0])  # it has no text
    np.testing.assert_array_equal(joined[row[3]], text[row[3]])
    assert "images: 15 of 20 items name one, 15 were classified" in summary
    assert "words: 15 items have some, the most frequent being 'tomato, frog' (5)" in summary
    assert "image vectors of 75.0%" in summary and f"dataset {dataset.fingerprint} is in" in summary


def test_the_rest_of_the_dataset_stays(labelled: Callable[..., tuple[Dataset, str]], tmp_path: pathlib.Path) -> None:
    before = prepared(tmp_path)
    dataset, _ = labelled(out=str(tmp_path / "labelled"))
    assert load_dataset(tmp_path / "out").fingerprint == before.fingerprint != dataset.fingerprint
    assert dataset.items.drop("image_words").equals(before.items)
    np.testing.assert_array_equal(dataset.text_vectors, before.text_vectors)
    for split, sessions in before.splits.items():
        np.testing.assert_array_equal(dataset.splits[split].items, sessions.items)
    new = ("attributes", "vectors", "image_labels", "fingerprint", "files", "session_arrays", "digest")
    assert {k: v for k, v in dataset.manifest.items() if k not in new} == {
        k: v for k, v in before.manifest.items() if k not in new
    }
    assert dataset.manifest["attributes"]["image_words"] == {
        "rule": "the 2 most likely classes, by fake classifier",
        "coverage": 0.75,
        "catalogue_coverage": 0.75,
    }
    assert dataset.manifest["vectors"]["image"]["made_with"]["sha256"] == "f" * 64
    known = description.as_text(description.describe(dataset))
    assert all(f"{name} vectors" in known for name in ("image", "image_words", "text_and_image"))


def test_missing_broken_and_changed_images_are_counted(
    labelled: Callable[..., tuple[Dataset, str]], tmp_path: pathlib.Path
) -> None:
    before = prepared(tmp_path)
    photos, row = tmp_path / "photos", rows_of(before)
    (photos / image_of(1)).unlink()
    (photos / image_of(2)).write_bytes(b"no image")
    (photos / image_of(5)).unlink()
    (photos / image_of(5)).mkdir()
    shutil.copy(photos / image_of(8), photos / image_of(0))
    dataset, summary = labelled()
    words, record = dataset.items["image_words"], dataset.manifest["image_labels"]
    assert [words[row[n]] for n in (0, 1, 2, 5)] == ["sea, tomato", None, None, None]
    assert not dataset.vectors["image"][[row[n] for n in (1, 2, 5)]].any()
    counts = ("images", "classified", "missing", "unreadable", "changed")
    assert [record[name] for name in counts] == [15, 12, 1, 2, 2]
    assert f"1 are missing, the first being {image_of(1)}" in summary and "2 cannot be read" in summary
    assert "2 changed since the dataset was prepared" in summary and "known format" in summary
    hashes = dataset.items["image_sha256"]
    assert hashes[row[0]] == hashes[row[8]] != before.items["image_sha256"][row[0]]
    assert hashes[row[1]] == before.items["image_sha256"][row[1]]


def test_no_image_at_all_is_an_error(
    labelled: Callable[..., tuple[Dataset, str]], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = prepared(tmp_path)
    (tmp_path / "empty").mkdir()
    for folder, message in (
        ("empty", "none of the 15 images is in .*check --image_dir"),
        ("nowhere", "--image_dir=.*nowhere is no folder"),
    ):
        with pytest.raises(UserError, match=message):
            labelled(image_dir=str(tmp_path / folder))
    (tmp_path / "photos").rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"photos, where the images of .* were, is no folder.*--image_dir"):
        labelled()
    assert load_dataset(tmp_path / "out").fingerprint == before.fingerprint
    assert labelled(image_dir=str(tmp_path / "moved"))[0].manifest["image_labels"]["classified"] == 15


def test_fewer_words(labelled: Callable[..., tuple[Dataset, str]]) -> None:
    dataset, _ = labelled(settings=Settings(words=1))
    row = rows_of(dataset)
    assert dataset.items["image_words"][row[1]] == "frog"
    again, _ = labelled(
        settings=Settings(words=3, least_probability=0.999), classifier=(classifier := FakeClassifier())
    )
    assert again.items["image_words"].null_count() == ITEMS and not again.vectors["image_words"].any()
    assert classifier.seen == 0  # the cache knows the vectors
    assert again.manifest["attributes"]["image_words"]["rule"].startswith(
        "the 3 most likely classes of probability 0.9"
    )
    np.testing.assert_array_equal(again.vectors["image"], dataset.vectors["image"])
    np.testing.assert_array_equal(again.vectors["text_and_image"], again.text_vectors)


def test_labelling_twice_is_labelling_once(labelled: Callable[..., tuple[Dataset, str]]) -> None:
    once, twice = labelled()[0], labelled()[0]
    assert once.fingerprint == twice.fingerprint and once.manifest == twice.manifest


def test_an_interrupted_labelling_loses_nothing(tmp_path: pathlib.Path) -> None:
    draw(tmp_path)
    paths = [tmp_path / "photos" / image_of(n) for n in range(ITEMS)]
    killed, continued, whole = FakeClassifier(stop_after=6), FakeClassifier(), FakeClassifier()
    with pytest.raises(KeyboardInterrupt):
        vectors_of(paths, killed, tmp_path / "cache", images_a_batch=4)
    found = vectors_of(paths, continued, tmp_path / "cache", images_a_batch=4)
    assert (killed.seen, continued.seen) == (6, 9)
    other = vectors_of([*paths, *paths], whole, tmp_path / "other", images_a_batch=4)
    assert whole.seen == 15 and found.missing == [3, 7, 11, 15, 19] and len(other.missing) == 10
    for number, vector in found.vectors.items():
        np.testing.assert_array_equal(vector, other.vectors[number])
        np.testing.assert_array_equal(vector, other.vectors[number + ITEMS])


def test_words_and_vectors_that_a_user_brings_are_taken(
    labelled: Callable[..., tuple[Dataset, str]], tmp_path: pathlib.Path
) -> None:
    """No classifier then: this one would end the test."""
    own = np.random.default_rng(0).normal(size=(ITEMS, 4)).astype(np.float32)
    np.save(tmp_path / "own.npy", own)
    given = {"image_words_column": "words", "vectors": (f"image={tmp_path / 'own.npy'}",)}
    dataset, _ = labelled(given=given, classifier=FakeClassifier(stop_after=0))
    row = rows_of(dataset)
    assert dataset.items["image_words"][row[1]] == "soap" and dataset.items["image_words"][row[0]] is None
    np.testing.assert_array_equal(dataset.vectors["image"], own[[int(name[1:]) for name in dataset.items["item_id"]]])
    np.testing.assert_array_equal(dataset.vectors["text_and_image"][row[1]], FakeEncoder().encode(["Thing 1, soap"])[0])
    assert dataset.manifest["attributes"]["image_words"]["column"] == "words"
    assert labelled(classifier=FakeClassifier(stop_after=0))[0].fingerprint == dataset.fingerprint


def test_words_alone_need_no_images(
    labelled: Callable[..., tuple[Dataset, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"image_words_column": "words", "image_column": "", "image_dir": ""}
    dataset, _ = labelled(given=given, classifier=FakeClassifier(stop_after=0))
    assert sorted(dataset.vectors) == ["image_words", "text", "text_and_image"]
    assert "names no images, so no image vectors are made" in capsys.readouterr().err


def test_words_that_are_brought_beside_images_are_kept(labelled: Callable[..., tuple[Dataset, str]]) -> None:
    dataset, summary = labelled(given={"image_words_column": "words"})
    row = rows_of(dataset)
    assert dataset.items["image_words"][row[1]] == "soap" and dataset.vectors["image"][row[1]].argmax() == 1
    assert "words:" not in summary


def test_neither_images_nor_words_is_an_error(labelled: Callable[..., tuple[Dataset, str]]) -> None:
    with pytest.raises(UserError, match="names no images; prepare it with --image_column .*--image_words_column"):
        labelled(given={"image_column": "", "image_dir": ""})


def test_without_a_text_model_there_are_vectors_of_images_alone(
    labelled: Callable[..., tuple[Dataset, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, _ = labelled(given={"text_model": "none"})
    assert list(dataset.vectors) == ["image"] and dataset.items["image_words"].null_count() == 5
    assert "no text model made text vectors" in capsys.readouterr().err


def test_a_folder_that_holds_more_than_a_dataset_is_refused_at_once(
    labelled: Callable[..., tuple[Dataset, str]], tmp_path: pathlib.Path
) -> None:
    prepared(tmp_path)
    (tmp_path / "out/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds 'notes.txt'"):
        labelled(classifier=FakeClassifier(stop_after=0))


def test_an_older_dataset_is_labelled(labelled: Callable[..., tuple[Dataset, str]], tmp_path: pathlib.Path) -> None:
    prepared(tmp_path)
    path = tmp_path / "out/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["text_encoder"], manifest["format_version"] = manifest.pop("text_encoders")["text"], 3
    manifest.pop("digest")
    files.write_json(path, {**manifest, "digest": files.json_digest(manifest)})
    dataset, _ = labelled()
    assert dataset.text_encoders["text"]["model"] == "fake" and "text_encoder" not in dataset.manifest
    assert dataset.manifest["format_version"] == 4 and "text_and_image" in dataset.vectors


def test_vectors_of_another_classifier_are_refused_where_they_are_read(
    labelled: Callable[..., tuple[Dataset, str]], tmp_path: pathlib.Path
) -> None:
    dataset, _ = labelled()
    record = {"text_encoders": encoders_of(dataset)}
    require_encoders("the run reads", ["image", "text_and_image"], record, dataset)
    record["text_encoders"]["image"]["sha256"] = "other"
    with pytest.raises(UserError, match="reads image vectors of fake classifier .*label_images or --vectors"):
        require_encoders("the run reads", ["image"], record, dataset)
    require_encoders("the run reads", ["text"], record, dataset)


def test_new_items_bring_vectors_of_their_images(
    labelled: Callable[..., tuple[Dataset, str]],
) -> None:
    with pytest.raises(UserError, match="by their image vectors, which in .* were made of images; bring those"):
        read_new_items("new.csv", labelled()[0], ["image"])


def test_joined_datasets_keep_vectors_of_one_classifier(
    labelled: Callable[..., tuple[Dataset, str]], tmp_path: pathlib.Path
) -> None:
    names = [str(tmp_path / name) for name in ("gifts", "toys")]
    made = [labelled(out=name)[0] for name in names]
    join(names, str(tmp_path / "joined"))
    joined = load_dataset(tmp_path / "joined")
    assert {"image", "image_words", "text_and_image"} <= joined.vectors.keys()
    assert encoders_of(joined) == encoders_of(made[0])


def test_an_image_outside_of_the_folder_is_refused(
    labelled: Callable[..., tuple[Dataset, str]], tmp_path: pathlib.Path
) -> None:
    prepared(tmp_path)
    shutil.rmtree(tmp_path / "photos/deep")
    (tmp_path / "photos/deep").symlink_to("/etc")
    with pytest.raises(UserError, match="lies outside of --image_dir"):
        labelled()


def test_words_are_a_column_and_vectors_of_one_name(labelled: Callable[..., tuple[Dataset, str]]) -> None:
    dataset, _ = labelled()
    assert dataset.items["image_words"].dtype == pl.String and dataset.vectors["image_words"].ndim == 2
    assert "image_words_vectors.npy" in dataset.manifest["files"]
