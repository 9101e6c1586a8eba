"""A page of `experiments.explore` over a tiny run, whose items have names that would do harm as markup."""

import threading
from collections.abc import Iterator

import polars as pl
import pytest

from alterrec_jax.config import ProtocolConfig
from alterrec_jax.data.dataset import load_dataset
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.neighbours import NeighbourConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig
from alterrec_jax.serving.trained_model import load_trained
from alterrec_jax.training.trainer import Trainer
from experiments.explore_answers import Explorer
from experiments.explore_server import Server
from tests.conftest import write_small_dataset

CONFIG = AlterRecConfig(
    batch_prefixes=24,
    epochs=2,
    warmup_epochs=1,
    turn_epochs=1,
    networks={
        "id": IdNetworkConfig(encoder="mean", dim=6, learning_rate=0.03),
        "text": VectorNetworkConfig(encoder="mean", dim=4, learning_rate=0.03, mlp_hidden=(7,)),
        "together": NeighbourConfig(ridge=1.0),
    },
    mining=MiningConfig(negatives="full", augment=False),
    protocol=ProtocolConfig(exclude_session_items="no"),
)
VIEWS = ["fused", "id", "text", "together"]
MARKUP = "<img src=x onerror=\"document.title='harmed'\"> thing 5 & <b>more</b>"


@pytest.fixture(scope="session")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Explorer:
    """A trained run of two networks and neighbours."""
    folder = tmp_path_factory.mktemp("explore")
    named = pl.when(pl.col("item_id") == "B005").then(pl.lit(MARKUP)).otherwise("name")
    dataset = write_small_dataset(
        folder / "data", lambda given: given.update(items=given["items"].with_columns(name=named))
    )
    Trainer(CONFIG, load_dataset(dataset), folder / "run").run()
    return Explorer(load_trained(folder / "run"), "tiny run")


@pytest.fixture(scope="session")
def server(explorer: Explorer) -> Iterator[Server]:
    """It serves in a thread of its own."""
    with Server(explorer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
