"""A trained run as an object: its history, its recommendations, its evaluation, its export."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from alterrec_jax.config import RunConfig
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError, nearest
from alterrec_jax.evaluation.intervals import Bootstrap
from alterrec_jax.evaluation.protocol import Protocol, protocol_of
from alterrec_jax.evaluation.report import Details
from alterrec_jax.evaluation.report_table import as_frame, format_table
from alterrec_jax.runtime.host_memory import keep_freed_memory
from alterrec_jax.runtime.packages import require_ours
from alterrec_jax.serving.evaluate import evaluate_trained
from alterrec_jax.serving.export_folder import write_export
from alterrec_jax.serving.index_settings import IndexSettings
from alterrec_jax.serving.listed_requests import TableAnswerer
from alterrec_jax.serving.recommend import Recommender, new_item_features
from alterrec_jax.serving.trained_model import TrainedModel
from alterrec_jax.training.checkpoint import read_newest
from alterrec_jax.training.run_log import CURVES

if TYPE_CHECKING:
    from data_tools.frames import Table

_SPLITS = ("validation", "test")


@dataclasses.dataclass(frozen=True, repr=False)
class Evaluation:
    """How a run ranks the targets of a split; printed, it is the table of `python -m experiments.evaluate`.

    Attributes:
      result: all that was measured, as JSON can hold it: metrics with intervals, differences with p, groups of targets,
        and the protocol. `alterrec_jax.evaluation.report.evaluate_split` says what stands where.
    """

    result: Mapping[str, Any]

    @functools.cached_property
    def table(self) -> pl.DataFrame:
        """The views and baselines, one a row, the main view first.

        Columns name (str) and, as float64, the metrics ("hits@10", ..., "mrr@20"); of the hits at the largest k also
        low and high, the 95% interval over sessions; difference, the main view minus this one, paired over sessions;
        and p of that difference, adjusted for all rows (null for the main view itself).
        """
        return as_frame(self.result)

    def __repr__(self) -> str:
        return format_table(self.result)


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Run:
    """A run of training at its best epoch so far; `alterrec_jax.train` and `alterrec_jax.load` return one.

    Attributes:
      workdir: its folder.
      trained: its model: the system, and the parameters of the best epoch.
    """

    workdir: pathlib.Path
    trained: TrainedModel

    @property
    def config(self) -> RunConfig:
        """The configuration that it was trained by."""
        return self.trained.config

    @property
    def dataset(self) -> Dataset:
        """The dataset it is asked about: the one it was trained on, unless `load` was given another."""
        return self.trained.dataset

    @property
    def best(self) -> dict[str, Any]:
        """The record of the best epoch by validation: a row of `history`."""
        return self.trained.best

    @property
    def finished(self) -> bool:
        """Whether it has come to its end; `train` goes on with one that has not."""
        return self.trained.finished

    @property
    def history(self) -> pl.DataFrame:
        """One row an epoch, as in history.csv: epoch (from 0), network, loss, each view's metrics on validation, ..."""
        return pl.DataFrame(read_newest(self.workdir).meta["run_state"]["history"], infer_schema_length=None)

    @property
    def curves(self) -> pathlib.Path:
        """The picture of losses and validation metrics by epoch (PNG)."""
        return self.workdir / CURVES

    def __repr__(self) -> str:
        metric = f"{self.trained.system.main}_{self.config.protocol.select_on}"
        state = "finished" if self.finished else "not finished"
        return (
            f"Run({self.workdir}: {self.config.family}, {state}; best epoch {self.best['epoch'] + 1}, "
            f"validation {metric} {self.best[metric]:.4f})"
        )

    def recommend(
        self,
        sessions: Sequence[Sequence[str]],
        k: int = 20,
        *,
        exclude: Sequence[Any] | None = None,
        only: Sequence[Any] | None = None,
        new_items: "Table | None" = None,
        new_vectors: Mapping[str, str | os.PathLike[str]] | None = None,
        unknown: Literal["skip", "error"] = "skip",
    ) -> pl.DataFrame:
        """The k best items for each session.

        The first call compiles, which takes seconds; later ones are quick. With `new_items` each call compiles anew, so
        give many sessions at once.

        Args:
          sessions: of each, the ids of its items (str), the latest last. An empty one gets what is bought most.
          k: how many items for each; a session that may get fewer gets all of them.
          exclude: ids of items that no session may get, or a list of such ids for each session.
          only: ids of the only items that any session may get, or for each session a list of ids, or None for all.
          new_items: items that were not in training, placed by their text: a DataFrame or file with a column item_id
            and the text columns that the dataset was made of. Sessions may hold them too.
          new_vectors: by feature, a .npy file with the vectors of `new_items`, where no text model makes them.
          unknown: of ids that the run does not know, "skip" leaves them out and says so; "error" refuses them.

        Returns:
          A row for each recommended item, sessions in their order and items from the best to the last: session (int64,
          which one, from 0), rank (int64, from 1), item_id and name (str), score (float64), and by (str), what scored
          it: the main view, the component that places new items, or "popularity". Their scores do not compare.

        Raises:
          UserError: there are no k items, something is no list of ids, an id is unknown and `unknown` is "error", or no
            network of the run can place new items.
        """
        return self._answerer(new_items, new_vectors)(sessions, k, exclude, only, unknown)

    def evaluate(
        self,
        split: Literal["test", "validation"] = "test",
        *,
        components: bool = True,
        refit: bool = False,
        recommended: bool = False,
        resamples: int = 1000,
    ) -> Evaluation:
        """Ranks the whole catalogue for the targets of a split: every view of the model, and the baselines.

        Args:
          split: "test", or "validation".
          components: from three components on, also ranks without each of them, to see what each brings.
          refit: fits the weights of the fusion anew on the dataset's validation split: for a newer dataset.
          recommended: also measures coverage, novelty and the long tail of what is recommended.
          resamples: of the sessions, for intervals; 0 for none, and no p.

        Raises:
          UserError: the split has no target, a score is not finite, or there are no weights to refit.
        """
        if split not in _SPLITS:
            raise UserError(f"split is '{split}'; {nearest(str(split), _SPLITS)}")
        keep_freed_memory()
        return Evaluation(
            evaluate_trained(
                self.trained,
                split,
                self._protocol,
                refit=refit,
                components=components,
                bootstrap=Bootstrap(resamples=resamples),
                details=Details(recommended=recommended),
            )
        )

    def export(self, out: str | os.PathLike[str], k: int = 20) -> dict[str, Any]:
        """Writes what servers take that have none of this code: programs, vectors, ids, an index, and serve.py.

        Args:
          out: the folder; an earlier export there is replaced.
          k: how many items the program finds for each session.

        Returns:
          The content of export.json; "measured" holds times, and what the index finds of the exact best.

        Raises:
          UserError: something else lies in `out`, there are no k items, or usearch is not installed.
        """
        exclude = self._protocol.exclude_session_items
        return write_export(self.trained, pathlib.Path(out), k, exclude, IndexSettings())

    @property
    def _protocol(self) -> Protocol:
        return protocol_of(self.config.protocol, self.dataset)

    @functools.cached_property
    def _of_catalogue(self) -> TableAnswerer:
        return self._answering((), (), {})

    def _answerer(
        self, new_items: "Table | None", new_vectors: Mapping[str, str | os.PathLike[str]] | None
    ) -> TableAnswerer:
        if new_items is None:
            if new_vectors:
                raise UserError("new_vectors are of new_items; give these too")
            return self._of_catalogue
        require_ours("data_tools")
        from data_tools.frames import as_file
        from data_tools.new_items import read_new_items

        with as_file(new_items, "new_items") as path:
            features = new_item_features(self.trained, new_vectors or ())
            new = read_new_items(path, self.dataset, features, vectors=new_vectors)
        return self._answering(new.ids, new.names, new.vectors if new.ids else {})

    def _answering(self, ids: Iterable[str], names: Iterable[str], features: Mapping[str, Any]) -> TableAnswerer:
        """Of the catalogue, and new items behind it."""
        known = self.dataset.items.head(self.dataset.catalogue_size)
        recommender = Recommender(self.trained, self._protocol.exclude_session_items, features)
        return TableAnswerer(recommender, [*known["item_id"], *ids], [*known["name"], *names])
