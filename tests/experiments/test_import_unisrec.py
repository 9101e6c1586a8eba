"""The authors' checkpoint as a run: a file with the names and shapes of theirs, small, and what is no such file."""

import pathlib
from typing import Any

import jax
import numpy as np
import polars as pl
import pytest

from alterrec_jax.data.dataset import Dataset, load_dataset, write_dataset
from alterrec_jax.data.features import make_context
from alterrec_jax.errors import UserError
from alterrec_jax.models.unisrec import UniSRecConfig
from alterrec_jax.serving.trained_model import load_trained
from experiments.unisrec_checkpoint import import_run
from tests.parity import batch_of, fixture
from tests.training.test_start import started

torch = pytest.importorskip("torch")
HELD = fixture("unisrec")
ITEMS, WIDTH = HELD["text"].shape
WEIGHTS = {name: array for name, array in HELD.items() if "." in name and not name.startswith("item_embedding")}


class Configuration:
    """An object of the authors' program, whose code nobody may run."""

    def __init__(self) -> None:
        self.settings = {"hidden_size": 12, "pattern": Configuration}

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("it was executed")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A file like theirs."""
    path = tmp_path_factory.mktemp("released") / "UniSRec-small.pth"
    state = {name: torch.from_numpy(array) for name, array in WEIGHTS.items()}
    state |= {name: torch.from_numpy(HELD[name]) for name in ("moe_adaptor.w_gate", "moe_adaptor.w_noise")}
    torch.save({"config": Configuration(), "epoch": 299, "state_dict": state}, path)
    return path


def dataset_of(path: pathlib.Path, vectors: np.ndarray | None, model: str = "bert-base-uncased-cls") -> Dataset:
    """A folder of the fixture's items with these vectors."""
    names = [f"B{item}" for item in range(ITEMS)]
    sessions = [(split, f"{split}-{n}", None, [n, n + 1, 5], 1) for split in ("train", "validation") for n in range(9)]
    schema = {"split": pl.String, "session_id": pl.String, "user_id": pl.String, "items": pl.List(pl.Int32)}
    write_dataset(
        path,
        items=pl.DataFrame({"item_id": names, "name": names, "text": names}),
        sessions=pl.DataFrame(sessions, schema={**schema, "first_target": pl.Int32}, orient="row"),
        text_vectors=vectors,
        catalogue_size=ITEMS,
        provenance={"text_encoders": {"text": {"model": model, "sha256": "0", "fusion": "concat"}}},
    )
    return load_dataset(path)


def test_the_run_computes_what_the_checkpoint_does_and_another_starts_from_it(
    checkpoint: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    dataset, workdir = dataset_of(tmp_path / "data", HELD["text"]), tmp_path / "run"
    config = import_run(checkpoint, dataset, workdir)
    trained, (batch, ends) = load_trained(workdir), batch_of(HELD)
    assert trained.finished and trained.config == config
    (component,), params = trained.system.components.values(), trained.params["unisrec"]
    known = make_context(dataset, trained.system.reads, "float32")

    @jax.jit
    def queries(params: dict) -> jax.Array:
        return component.network.session_embeddings(params, component.network.item_tables(params, known), batch)

    found = queries(params)[ends] * trained.config.network.temperature
    np.testing.assert_allclose(found, HELD["inductive_queries"], rtol=2e-5, atol=2e-6)
    here = UniSRecConfig(max_length=config.max_length, network=config.network, start_from=str(workdir)).check()
    carried, _ = started(here, dataset, workdir)
    jax.tree.map(np.testing.assert_array_equal, {**carried["unisrec"], "items": 0}, {**params, "items": 0})
    with pytest.raises(UserError, match="is not empty"):
        import_run(checkpoint, dataset, workdir)


@pytest.mark.parametrize(
    ("vectors", "model", "message"),
    [
        (None, "", "has no text vectors"),
        (HELD["text"][:, :5], "all-MiniLM-L6-v2", f"by all-MiniLM-L6-v2, are 5 wide; .* which are {WIDTH} wide"),
        (HELD["text"], "distiluse", "are by distiluse; the checkpoint reads CLS vectors of bert-base-uncased"),
        (
            HELD["text"] / np.linalg.norm(HELD["text"], axis=1, keepdims=True),
            "bert-base-uncased",
            "were cut to length 1",
        ),
    ],
)
def test_other_vectors_are_refused_with_the_reason(
    vectors: np.ndarray | None, model: str, message: str, checkpoint: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    dataset = dataset_of(tmp_path / "data", vectors, model)
    with pytest.raises(UserError, match=message):
        import_run(checkpoint, dataset, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_no_checkpoint_of_it_is_refused(checkpoint: pathlib.Path, tmp_path: pathlib.Path) -> None:
    dataset, other = dataset_of(tmp_path / "data", HELD["text"]), tmp_path / "other.pth"
    other.write_bytes(checkpoint.read_bytes()[:999])
    with pytest.raises(UserError, match="other.pth cannot be read"):
        import_run(other, dataset, tmp_path / "run")
    torch.save({"state_dict": {"a": torch.zeros(2)}}, other)
    with pytest.raises(UserError, match="is none of UniSRec: its state_dict has no moe_adaptor.w_gate"):
        import_run(other, dataset, tmp_path / "run")
