"""A page of `experiments.explore`, and items one of which has a name that would do harm as markup."""

import contextlib
import pathlib
import threading
from collections.abc import Iterator

import polars as pl

from alterrec_jax.data.dataset import Dataset, load_dataset
from experiments.explore_answers import Explorer
from experiments.explore_server import Server
from tests.conftest import write_small_dataset

MARKUP = "<img src=x onerror=\"document.title='harmed'\"> thing 5 & <b>more</b>"


def dataset_with_markup(folder: pathlib.Path) -> Dataset:
    """The small dataset; item B005 has that name."""
    named = pl.when(pl.col("item_id") == "B005").then(pl.lit(MARKUP)).otherwise("name")
    return load_dataset(
        write_small_dataset(folder, lambda given: given.update(items=given["items"].with_columns(name=named)))
    )


@contextlib.contextmanager
def serving(explorer: Explorer) -> Iterator[Server]:
    """Within it, a thread serves the page."""
    with Server(explorer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
