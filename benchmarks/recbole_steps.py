"""Times RecBole's training steps in an environment of its own, where `benchmarks.models` starts it.

python -m benchmarks.recbole_steps SETTINGS.json RESULT.json

It imports nothing of ours. SETTINGS names the models, a file of sessions (`offsets` and `items` of a .npz), and the
sizes. A step is what RecBole's trainer does: the loader's next batch, the model's own loss, backward, Adam.
"""

import itertools
import json
import logging
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

DATASET = "sessions"


def main() -> None:
    """Reads the settings, writes the times."""
    settings = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        write_interactions(settings["sessions"], pathlib.Path(folder) / DATASET)
        found = {name: timed(name, own, settings, folder) for name, own in settings["models"].items()}
    pathlib.Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")


def write_interactions(sessions: str, folder: pathlib.Path) -> None:
    """An atomic file of RecBole: one interaction a row, in order."""
    with np.load(sessions) as held:
        offsets, items = held["offsets"], held["items"]
    folder.mkdir()
    session = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    rows = zip(session.tolist(), items.tolist(), range(len(items)), strict=True)
    with open(folder / f"{DATASET}.inter", "w", encoding="utf-8") as file:
        file.write("session_id:token\titem_id:token\ttimestamp:float\n")
        file.writelines(f"s{session}\ti{item}\t{place}\n" for session, item, place in rows)


def timed(name: str, own: dict[str, Any], settings: dict[str, Any], folder: str) -> dict[str, float]:
    """The seconds of a step, in the median, and how many an epoch has."""
    given = {"train_batch_size": settings["batch_prefixes"], "MAX_ITEM_LIST_LENGTH": settings["max_length"], **own}
    _, batches, model = prepared(name, given, folder)
    warm = 2
    spent = [seconds for seconds, _ in itertools.islice(steps(model, batches), settings["steps"] + warm)]
    return {"step_s": statistics.median(spent[warm:]), "steps_per_epoch": len(batches)}


def prepared(name: str, own: dict[str, Any], folder: str) -> tuple[Any, Any, Any]:
    """RecBole's configuration, batches and model, for the interactions in a folder.

    Args:
      name: of RecBole's class.
      own: its settings, and the batch and the length.
      folder: where `write_interactions` wrote them, as `DATASET`.
    """
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, init_seed

    given = {
        "data_path": folder,
        "USER_ID_FIELD": "session_id",
        "ITEM_ID_FIELD": "item_id",
        "load_col": {"inter": ["session_id", "item_id", "timestamp"]},
        "train_neg_sample_args": None,
        "eval_args": {"split": {"RS": [1.0, 0.0, 0.0]}, "group_by": None, "order": "TO", "mode": "full"},
        "loss_type": "CE",
        "learning_rate": 1e-3,
        "seed": 0,
        "show_progress": False,
        "use_gpu": False,
        "state": "ERROR",
        **own,
    }
    argv, sys.argv = sys.argv, sys.argv[:1]  # RecBole reads the command line too
    config = Config(model=name, dataset=DATASET, config_dict=given)
    sys.argv = argv
    init_seed(0, True)
    batches, *_ = data_preparation(config, create_dataset(config))
    return config, batches, get_model(name)(config, batches._dataset)


def steps(model: Any, batches: Any, epochs: int = 1) -> Iterator[tuple[float, float]]:
    """Makes the steps of some epochs, and yields the seconds and the loss of each."""
    import torch

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    started = time.perf_counter()
    for interaction in itertools.chain.from_iterable(itertools.repeat(batches, epochs)):
        optimizer.zero_grad()
        loss = model.calculate_loss(interaction)
        loss.backward()
        optimizer.step()
        now = time.perf_counter()
        yield now - started, float(loss)
        started = now


if __name__ == "__main__":
    main()
