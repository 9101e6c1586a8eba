"""Serves what experiments.export wrote: `python serve.py FOLDER`, {"session": ["item id", ...]} a line in and out."""

import json
import pathlib
import sys

import jax
import numpy as np

folder = pathlib.Path(sys.argv[1])
ids = json.loads((folder / "item_ids.json").read_text(encoding="utf-8"))
number = {item: row for row, item in enumerate(ids)}
vectors = jax.device_put(np.load(folder / "item_vectors.npy"))
program = jax.export.deserialize(bytearray((folder / "top_items.jax").read_bytes()))
top_items, longest = jax.jit(program.call), program.in_avals[1].shape[1]
for line in sys.stdin:
    latest = [number[item] for item in json.loads(line)["session"] if item in number][-longest:]
    session = np.full((1, longest), -1, np.int32)
    session[0, : len(latest)] = latest
    scores, items = (found[0].tolist() for found in top_items(vectors, session))
    print(json.dumps({"items": [ids[item] for item in items], "scores": scores}), flush=True)
