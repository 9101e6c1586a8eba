"""Recommends items for sessions: JSON lines in, JSON lines out, each answer as soon as it is made.

    echo '{"session": ["item id", "item id"]}' | python -m experiments.recommend --workdir=DIR --k=20

A request may say what it must not get, "exclude": ["item id"], and what alone it may get, "only": ["item id"]. Ids that
the run does not know are left out, and listed as "unknown" in the answer. A line that is no request gets {"line": its
number, "error": what is wrong with it}. The status is 0 when the input has been answered to its end, errors among the
answers or not; standard error then says how many there were.
"""

import contextlib
import io
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from absl import flags

from alterrec_jax.errors import UserError
from alterrec_jax.runtime import command_line, files
from alterrec_jax.runtime.console import log
from alterrec_jax.serving import requests
from data_tools.options import CACHE_DIR_HELP, DEFAULT_CACHE_DIR
from experiments import devices

if TYPE_CHECKING:
    from alterrec_jax.serving.trained_model import TrainedModel
    from data_tools.new_items import NewItems

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of experiments.train.", required=True)
_K = flags.DEFINE_integer("k", 20, "How many items to recommend for each session.")
_INPUT = flags.DEFINE_string("input", "-", 'File of JSON lines {"session": ["item id", ...]}; - is standard input.')
_OUTPUT = flags.DEFINE_string(
    "output", "-", "File for the JSON lines that come out, which is there once it is whole; - is standard output."
)
_UNKNOWN = flags.DEFINE_enum(
    "unknown",
    requests.SKIP,
    requests.UNKNOWN,
    "What happens to item ids that the run does not know: skip leaves them out and names them in the answer, error "
    "gives the request that has some an error for an answer.",
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset folder; by default the one that the run was trained on.")
_NEW_ITEMS = flags.DEFINE_string(
    "new_items", None, "CSV or Parquet of items that were not in training: recommended by their text or vectors alone."
)
_VECTORS = flags.DEFINE_multi_string(
    "vectors",
    [],
    "NAME=FILE.npy: vectors of --new_items that no text model makes, of the feature NAME: float32 [rows of "
    "--new_items, width], in their order. For text where the dataset was prepared with --text_vectors.",
)
_ITEM_COLUMN = flags.DEFINE_string("item_column", "item_id", "Column of --new_items with the item's id.")
_TEXT_COLUMNS = flags.DEFINE_string(
    "text_columns",
    None,
    "Columns of --new_items with its text, with commas between; by default those the dataset was made from.",
)
_NAME_COLUMN = flags.DEFINE_string(
    "name_column", None, "Column of --new_items to show; by default the first text, or the id."
)
_TEXT_MODEL = flags.DEFINE_string(
    "text_model", None, "Folder or name of the text model, where the dataset was prepared with one of your own."
)
_CACHE_DIR = flags.DEFINE_string("cache_dir", DEFAULT_CACHE_DIR, CACHE_DIR_HELP)
_EXCLUDE = flags.DEFINE_bool(
    "exclude_session_items", None, "Whether to leave out what the session holds; the run's own choice by default."
)
devices.define()


def main() -> int:
    """Reads requests, writes answers in the same order."""
    with devices.used():
        _recommend()
    return 0


def _recommend() -> None:
    from alterrec_jax.evaluation.protocol import protocol_of
    from alterrec_jax.serving.recommend import Recommender
    from alterrec_jax.serving.trained_model import load_trained

    trained = load_trained(_WORKDIR.value, _DATA_DIR.value)
    dataset = trained.dataset
    protocol = protocol_of(trained.config.protocol, dataset)
    exclude = protocol.exclude_session_items if _EXCLUDE.value is None else _EXCLUDE.value
    new = _new_items(trained)
    recommender = Recommender(trained, exclude, new.vectors if new and new.ids else {})
    catalogue = dataset.items.head(dataset.catalogue_size)
    ids = [*catalogue["item_id"], *(new.ids if new else ())]
    names = [*catalogue["name"], *(new.names if new else ())]
    answerer = requests.Answerer(recommender, ids, names, _K.value, _UNKNOWN.value)
    with _opened(_INPUT.value) as stream, _written(_OUTPUT.value) as write:
        for answer in answerer(stream):
            write(requests.encoded(answer))
    if answerer.failed:
        log(f"{answerer.failed:,} of {answerer.answered:,} requests failed; their answers say why")


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """What requests are read from."""
    import jax

    if path != "-":
        if not pathlib.Path(path).exists():
            raise UserError(f"--input file {path} does not exist")
        with open(path, "rb") as file:
            # Several processes take the same lines at a time, however the file comes to them.
            yield io.BytesIO(file.read()) if jax.process_count() > 1 else file
    elif jax.process_count() > 1:
        raise UserError("several processes cannot share standard input; name a file by --input")
    elif sys.stdin is None:
        raise UserError("standard input is closed; send requests there, or name a file by --input")
    else:
        yield sys.stdin.buffer


@contextlib.contextmanager
def _written(path: str) -> Iterator[Callable[[bytes], None]]:
    """What writes an answer, at once; of several processes the first one does."""
    from alterrec_jax.runtime import processes

    with contextlib.ExitStack() as stack:
        if not processes.is_main_process():
            yield lambda line: None
            return
        if path != "-":
            file: BinaryIO = stack.enter_context(open(stack.enter_context(files.replacing(path)), "wb"))
        elif sys.stdout is None:
            raise UserError("standard output is closed; name a file by --output")
        else:
            file = sys.stdout.buffer

        def write(line: bytes) -> None:
            file.write(line)
            file.flush()

        yield write


def _new_items(trained: "TrainedModel") -> "NewItems | None":
    """Those of --new_items, if there are some."""
    from alterrec_jax.serving.recommend import new_item_features
    from data_tools.further_vectors import named_values
    from data_tools.item_texts import text_columns_of
    from data_tools.new_items import read_new_items

    vectors = named_values(_VECTORS.value, "vectors", "FILE.npy", reserved=())
    if not _NEW_ITEMS.value:
        if vectors:
            raise UserError("--vectors are of --new_items; name these too")
        return None
    return read_new_items(
        _NEW_ITEMS.value,
        trained.dataset,
        new_item_features(trained, vectors),
        vectors=vectors,
        item_column=_ITEM_COLUMN.value,
        text_columns=text_columns_of(_TEXT_COLUMNS.value) if _TEXT_COLUMNS.value else (),
        name_column=_NAME_COLUMN.value or "",
        text_model=_TEXT_MODEL.value or "",
        cache_dir=_CACHE_DIR.value,
    )


if __name__ == "__main__":
    command_line.run(main)
