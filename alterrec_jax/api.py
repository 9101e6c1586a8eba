"""The library for notebooks and scripts: what `import alterrec_jax` offers. docs/api.md goes through it.

Everything runs on the devices of `alterrec_jax.sharding.mesh.used`, or on one where there is no mesh. What takes long
says how far it is on standard error.
"""

import contextlib
import os
import pathlib
import runpy
from typing import TYPE_CHECKING, Any

from alterrec_jax.config import FamilyConfig, flat, to_mapping
from alterrec_jax.config_files import run_config_file
from alterrec_jax.data.dataset import Dataset, load_dataset
from alterrec_jax.errors import UserError, nearest
from alterrec_jax.models.registry import read_config, read_run_config
from alterrec_jax.run import Run
from alterrec_jax.runtime.console import log
from alterrec_jax.runtime.host_memory import keep_freed_memory
from alterrec_jax.runtime.packages import require_ours
from alterrec_jax.serving.trained_model import load_trained
from alterrec_jax.training.trainer import Interrupted, Trainer

if TYPE_CHECKING:
    from data_tools.frames import Table

# By their place, and not by importing them: in a notebook a folder called experiments may stand before ours.
_SHIPPED = pathlib.Path(__file__).parents[1] / "experiments" / "shipped.py"


def prepare(
    out: str | os.PathLike[str],
    *,
    interactions: "Table | None" = None,
    items: "Table | None" = None,
    source: str = "tabular",
    **options: Any,
) -> Dataset:
    """Makes a dataset folder from raw logs, as `python -m data_tools.prepare` does, and loads it.

    What was read, kept and dropped is logged on standard error; the folder's manifest keeps it.

    Args:
      out: the folder; a dataset that stands there is replaced when the new one is whole.
      interactions: who clicked what, one a row: a file, a folder or pattern of files, or a DataFrame of polars or
        pandas.
      items: their ids and texts, one a row: a file, or a DataFrame.
      source: "tabular", tables of your own; or "complete_journey", the purchases of that package; or "amazon_m2".
      options: the command's other flags by name, `session_column="basket_id"` say; `data_tools.options.Options`
        explains them. Lists will do where a flag takes several columns.

    Raises:
      UserError: an option is unknown (the nearest is named) or makes no sense, a table is damaged or lacks a column, or
        nothing is left after filtering.
    """
    require_ours("data_tools")
    from data_tools import given, pipeline
    from data_tools.frames import as_file

    tables = {"interactions": interactions, "items": items}
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(as_file(table, name)) for name, table in tables.items() if table is not None}
        summary = pipeline.prepare(given.options_of({"out": out, "source": source, **files, **options}))
    for line in summary.splitlines():
        log(line)
    return load_dataset(out)


def load_config(name: str | os.PathLike[str], /, **overrides: Any) -> FamilyConfig:
    """The configuration of a file, with some fields changed: `load_config("best", **{"networks.id.dropout": 0.1})`.

    Records can be made without a file as well, `alterrec_jax.models.core.COREConfig(epochs=5)` say.

    Args:
      name: of a configuration that is shipped ("best"), or the path of a file of your own (ending in .py).
      overrides: fields with their values, those of records within it behind dots.

    Returns:
      A frozen record, checked; `dataclasses.replace` makes others of it.

    Raises:
      UserError: there is no such configuration or field (the nearest is named), or a value that the field cannot have.
    """
    given = os.fspath(name)
    path = runpy.run_path(str(_SHIPPED))["config_file"](given)
    where = f"configuration {given}"
    values = run_config_file(path, where).to_dict()
    for field, value in overrides.items():
        known = flat(values)
        if field not in known:
            raise UserError(f"{where} has no field '{field}'; {nearest(field, list(known))}")
        *records, last = field.split(".")
        record = values
        for one in records:
            record = record[one]
        record[last] = value
    return read_config(values, where).check()


def train(config: FamilyConfig, dataset: Dataset | str | os.PathLike[str], workdir: str | os.PathLike[str]) -> Run:
    """Trains, or continues what is in the workdir; a run that is finished is only loaded.

    With more `epochs` or a larger `patience` than before, a run is lengthened; any other field must be as it was. On a
    CPU the process keeps memory that training frees.

    Args:
      config: what to train, a record as `load_config` gives it.
      dataset: a dataset or its folder.
      workdir: the run's folder, which is made: checkpoints, config.json, history.csv, curves.png.

    Returns:
      The run at its best epoch by validation.

    Raises:
      KeyboardInterrupt: it was asked to stop (a notebook's stop button, Ctrl-C, SIGTERM) and has saved its place: the
        same call continues. Asked twice, it stops at once, and continues from the checkpoint before. In a thread other
        than the main one no signal is heard.
      UserError: a field or the dataset does not fit, the workdir is another run's or in use, or a loss is not finite.
    """
    if not isinstance(config, FamilyConfig):
        raise UserError(f"config is {config!r}, not a configuration; alterrec_jax.load_config makes one")
    # Records are not checked when they are made; as plain values they are read again, so that types are right too.
    config = read_run_config(to_mapping(config)).check()
    data = dataset if isinstance(dataset, Dataset) else load_dataset(dataset)
    keep_freed_memory()
    try:
        Trainer(config, data, pathlib.Path(workdir)).run()
    except Interrupted:
        raise KeyboardInterrupt("saved; the same call continues from here") from None
    return load(workdir, data)


def load(workdir: str | os.PathLike[str], data_dir: Dataset | str | os.PathLike[str] | None = None) -> Run:
    """A run at its best epoch, finished or not.

    Args:
      workdir: the run's folder.
      data_dir: a dataset (or its folder) of the same items and perhaps more; by default the one it was trained on.

    Raises:
      UserError: there is no intact checkpoint of a whole epoch, or no such dataset.
    """
    return Run(pathlib.Path(workdir), load_trained(workdir, data_dir))
