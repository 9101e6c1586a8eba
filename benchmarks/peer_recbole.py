"""Times SASRec of RecBole, in an environment of its own, where `benchmarks.peers` starts it.

python -m benchmarks.peer_recbole SETTINGS.json RESULT.json

Each prefix of a training session is a row of a batch, padded to `max_length`: so many rows as the others' batches have
targets. Training is the loop of RecBole's trainer, evaluation its trainer's `evaluate` on all items, a recommendation
its `full_sort_predict` and PyTorch's `topk`.
"""

import logging
import pathlib
import tempfile
from typing import Any

import numpy as np

from benchmarks import peer_task, recbole_steps
from benchmarks.peer_task import KS, Task

_METRICS = {"Hit": "hits", "NDCG": "ndcg", "MRR": "mrr"}


def main() -> None:
    """Reads the task, writes the times."""
    logging.disable(logging.WARNING)
    peer_task.run(measure)


def measure(task: Task) -> dict[str, Any]:
    """Trains, ranks and recommends."""
    import recbole
    import torch
    from recbole.trainer import Trainer

    arrays = task.arrays()
    own = {
        "hidden_size": task.dim,
        "inner_size": 4 * task.dim,
        "n_layers": task.blocks,
        "n_heads": task.heads,
        "hidden_dropout_prob": task.dropout,
        "attn_dropout_prob": task.dropout,
        "MAX_ITEM_LIST_LENGTH": task.max_length,
        "train_batch_size": task.batch_prefixes,
        "metrics": list(_METRICS),
        "topk": list(KS),
        "valid_metric": f"Hit@{KS[0]}",
    }
    with tempfile.TemporaryDirectory() as folder:
        recbole_steps.write_interactions(task.sessions, pathlib.Path(folder) / recbole_steps.DATASET)
        config, batches, model = recbole_steps.prepared("SASRec", own, folder)
    steps = peer_task.Steps(task.steps or task.epochs * len(batches))
    steps.collect(recbole_steps.steps(model, batches, task.epochs))
    found: dict[str, Any] = {"library": "RecBole", "version": recbole.__version__}
    found |= peer_task.training(steps.seconds, len(batches), len(batches._dataset))
    found["loss"] = steps.loss(len(batches))
    of_number, of_token = _numbering(batches._dataset)
    trainer, test = Trainer(config, model), _test_batches(task, config, batches._dataset, arrays, of_number)

    def rank_all() -> dict[str, float]:
        metrics = trainer.evaluate(test, load_best_model=False)
        return {f"{name}@{k}": metrics[f"{theirs.lower()}@{k}"] for theirs, name in _METRICS.items() for k in KS}

    def recommend(session: list[int]) -> list[int]:
        rows = peer_task.last_items(of_number[session], np.array([0, len(session)]), task.max_length)
        with torch.no_grad():
            scores = model.full_sort_predict(_interaction(*rows))
        scores[:, 0] = -torch.inf  # no item
        best: list[int] = of_token[torch.topk(scores, KS[-1]).indices[0].numpy()].tolist()
        return best

    found |= peer_task.evaluation(rank_all, len(arrays["test_targets"]), task.rounds)
    model.eval()
    return found | peer_task.latency(recommend, arrays["requests"])


def _numbering(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    """int64 [item], RecBole's number of each of ours, and the other way round."""
    names = dataset.field2id_token["item_id"]
    ours = np.array([int(name[1:]) if name != "[PAD]" else -1 for name in names])
    theirs = np.zeros(ours.max() + 1, np.int64)
    theirs[ours[1:]] = np.arange(1, len(ours))
    return theirs, ours


def _test_batches(task: Task, config: Any, train: Any, arrays: dict[str, np.ndarray], of_number: np.ndarray) -> Any:
    """What RecBole's evaluation takes, of the test targets and what stands before each."""
    import torch
    from recbole.data.dataloader import FullSortEvalDataLoader
    from recbole.data.interaction import Interaction

    rows = peer_task.last_items(of_number[arrays["test_items"]], arrays["test_offsets"], task.max_length)
    interaction = _interaction(*rows)
    interaction.update(Interaction({"item_id": torch.from_numpy(of_number[arrays["test_targets"]])}))
    return FullSortEvalDataLoader(config, train.copy(interaction), None)


def _interaction(rows: np.ndarray, lengths: np.ndarray) -> Any:
    """What the model reads: the items before each target, and how many they are."""
    import torch
    from recbole.data.interaction import Interaction

    return Interaction({"item_id_list": torch.from_numpy(rows), "item_length": torch.from_numpy(lengths)})


if __name__ == "__main__":
    main()
