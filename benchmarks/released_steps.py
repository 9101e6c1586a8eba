"""Times training steps of released PyTorch code, in an environment of its own, where `benchmarks.models` starts it.

python -m benchmarks.released_steps SETTINGS.json RESULT.json

It imports nothing of ours. SETTINGS names the models and the folders of their repositories, a file of sessions
(`offsets` and `items` of a .npz), and the sizes. A step is what the repository's own program does with a batch: its
graphs on the host, its class, its loss, backward, Adam.
"""

import argparse
import importlib
import itertools
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def main() -> None:
    """Reads the settings, writes the times."""
    settings = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    sizes = {name: settings[name] for name in ("dim", "batch_prefixes", "items")}
    data = prefixes(settings["sessions"], settings["max_length"], 40 * settings["batch_prefixes"])
    found = {}
    for name, folder in settings["models"].items():
        sys.path.insert(0, folder)
        step = MODELS[name](data, **sizes)
        steps_per_epoch = settings["prefixes"] / settings["batch_prefixes"]
        found[name] = {"step_s": timed(step, settings["steps"]), "steps_per_epoch": steps_per_epoch}
        sys.path.remove(folder)
        for module in ("model", "models", "utils"):  # each repository has modules of these names
            sys.modules.pop(module, None)
    pathlib.Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")


def prefixes(sessions: str, max_length: int, count: int) -> tuple[list[list[int]], list[int]]:
    """So many prefixes of random sessions and what follows each. Items count from 1; 0 is padding."""
    with np.load(sessions) as held:
        offsets, items = held["offsets"], held["items"].astype(np.int64) + 1
    inputs, targets = [], []
    for session in np.random.default_rng(0).permutation(len(offsets) - 1):
        one = items[offsets[session] : offsets[session + 1]].tolist()
        for end in range(1, len(one)):
            inputs.append(one[max(end - max_length, 0) : end])
            targets.append(one[end])
        if len(inputs) >= count:
            break
    return inputs[:count], targets[:count]


def timed(step: Callable[[], None], steps: int) -> float:
    """The seconds of a step, in the median, without the first two."""
    spent = []
    for _ in range(steps + 2):
        started = time.perf_counter()
        step()
        spent.append(time.perf_counter() - started)
    return statistics.median(spent[2:])


def msgat(data: tuple[list[list[int]], list[int]], *, dim: int, batch_prefixes: int, items: int) -> Callable[[], None]:
    """A step of QEpiphany/MSGAT."""
    import torch

    if not torch.cuda.is_available():
        torch.cuda.FloatTensor = torch.FloatTensor  # type: ignore[attr-defined]  # the class asks for a GPU's by name
    released, utils = importlib.import_module("model"), importlib.import_module("utils")
    names = ("hiddenSize", "batchSize", "lr", "l2", "lr_dc_step", "lr_dc", "step", "num_attention_heads")
    values = (dim, batch_prefixes, 1e-3, 1e-5, 5, 0.1, 1, 5)
    options: dict[str, Any] = dict(zip(names, values, strict=True))
    options |= {"dataset": "diginetica", "nonhybrid": False, "w_ne": 1.7, "gama": 1.7}
    model, batches = released.SessionGraph(argparse.Namespace(**options), items + 1), utils.Data(data)
    slices = itertools.cycle(batches.generate_batch(batch_prefixes))
    model.train()

    def step() -> None:
        model.optimizer.zero_grad()
        targets, scores = released.forward(model, next(slices), batches)
        model.loss_function(scores, torch.as_tensor(targets).long() - 1).backward()
        model.optimizer.step()

    return step


def atten_mixer(
    data: tuple[list[list[int]], list[int]], *, dim: int, batch_prefixes: int, items: int
) -> Callable[[], None]:
    """A step of Peiyance/Atten-Mixer-torch."""
    import torch

    released, utils = importlib.import_module("models"), importlib.import_module("utils")
    sizes: dict[str, Any] = {"hiddenSize": dim, "batchSize": batch_prefixes, "heads": 8, "last_k": 7, "l_p": 4}
    switches = {"norm": True, "scale": True, "softmax": True, "dot": True, "use_lp_pool": "True", "dropout": 0.1}
    model = released.SessionGraphAttn(argparse.Namespace(**sizes, **switches), items + 1)
    batches = utils.Data(data)
    slices = itertools.cycle(batches.generate_batch(batch_prefixes))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    model.train()

    def step() -> None:
        places, _, nodes, mask, _, targets, node_count = (
            torch.as_tensor(np.asarray(part)) for part in batches.get_slice(next(slices))
        )
        optimizer.zero_grad()
        hidden = model(nodes.long())
        places = places.long()[..., None].expand(-1, -1, dim)
        of_places = torch.cat([torch.gather(hidden, 1, places), hidden[:, int(node_count.max()) :]], dim=1)
        of_places = of_places * mask[..., None]
        of_places = of_places / (of_places.norm(dim=-1, keepdim=True) + 1e-12)
        model.loss_function(model.compute_scores(of_places, mask.long()), targets.long() - 1).backward()
        optimizer.step()

    return step


MODELS = {"msgat": msgat, "atten_mixer": atten_mixer}

if __name__ == "__main__":
    main()
