"""Serves an export with jax, numpy and flatbuffers alone: python serve.py FOLDER, {"session": ["item id"]} a line."""

import json
import pathlib
import sys

import jax
import numpy as np

folder = pathlib.Path(sys.argv[1])
ids = json.loads((folder / "item_ids.json").read_text(encoding="utf-8"))
number = {item: row for row, item in enumerate(ids)}
arrays = [folder / "item_vectors.npy", folder / "item_inputs.npy"]
held = [jax.device_put(np.load(array, allow_pickle=False)) for array in arrays if array.exists()]
program = jax.export.deserialize(bytearray((folder / "top_items.jax").read_bytes()))
top_items, longest = jax.jit(program.call), program.in_avals[-1].shape[1]
for line in sys.stdin:
    latest = [number[item] for item in json.loads(line)["session"] if item in number][-longest:]
    session = np.full((1, longest), -1, np.int32)
    session[0, : len(latest)] = latest
    found = zip(*(part[0].tolist() for part in top_items(*held, session)), strict=True)
    print(json.dumps([{"id": ids[item], "score": score} for score, item in found if score > -np.inf]), flush=True)
