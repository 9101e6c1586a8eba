"""The authors' UniSRec checkpoint: what its arrays are called, and the run that it becomes."""

import contextlib
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.contract import Params
from alterrec_jax.data.batches import TrainBatches
from alterrec_jax.data.catalogue import write_catalogue
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.dataset_files import TEXT
from alterrec_jax.data.features import catalogue_info, make_context
from alterrec_jax.errors import UserError
from alterrec_jax.models.unisrec import INDUCTIVE, NAME, UniSRecConfig, UniSRecNetworkConfig
from alterrec_jax.runtime import extras
from alterrec_jax.training.checkpoint import Checkpoint, CheckpointStore
from alterrec_jax.training.loop import TrainLoop
from alterrec_jax.training.run_log import RunLog
from alterrec_jax.training.run_state import RunState, record_of
from alterrec_jax.training.workdir import claimed

MODEL = "bert-base-uncased"
HEADS = 2  # the authors' everywhere; no array tells
_UNIT = 1e-3  # how near to 1 the lengths of vectors are that were normalised
_GATES = "moe_adaptor.w_gate"
_MAPS = {"query": "query", "key": "key", "value": "value", "out": "dense"}


class _Unread:
    """In place of any object of a checkpoint that is neither an array nor a plain value."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        del args, kwargs

    def __setstate__(self, state: Any) -> None:
        del state


def read_state(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a PyTorch checkpoint, by their names.

    Raises:
      UserError: PyTorch is missing, or the file is no checkpoint of UniSRec.
    """
    extras.require("text", f"reading {path}", "torch")
    import torch

    try:
        # A checkpoint of RecBole holds its configuration too, an object of its own.
        others = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals([(_Unread, name) for name in others]):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, zipfile and pickle each raise their own kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"checkpoint {path} cannot be read ({reason}); is it the whole file?") from None
    state = found.get("state_dict") if isinstance(found, dict) else None
    if not isinstance(state, Mapping) or _GATES not in state:
        raise UserError(f"checkpoint {path} is none of UniSRec: its state_dict has no {_GATES}")
    return {name: array.numpy() for name, array in state.items() if isinstance(array, torch.Tensor)}


def settings_of(state: Mapping[str, np.ndarray]) -> tuple[UniSRecNetworkConfig, int]:
    """The network whose parameters these are, and the longest prefix that it reads."""
    length, dim = state["position_embedding.weight"].shape
    layers = len({name.split(".")[2] for name in state if name.startswith("trm_encoder.layer.")})
    experts, inner = state[_GATES].shape[1], len(state["trm_encoder.layer.0.feed_forward.dense_1.bias"])
    config = UniSRecNetworkConfig(
        dim=dim, experts=experts, layers=layers, heads=HEADS, inner=inner, unit_variance=False
    )
    return config, length


def params_of(state: Mapping[str, np.ndarray], config: UniSRecNetworkConfig) -> Params:
    """The released parameters as ours.

    Args:
      state: by their PyTorch names; those that do not pretrain, an item table say, are passed over.
      config: `settings_of` them.
    """
    dim, heads = config.dim, config.heads

    def norm(name: str) -> dict[str, np.ndarray]:
        return {"scale": state[f"{name}.weight"], "bias": state[f"{name}.bias"]}

    def dense(name: str) -> dict[str, np.ndarray]:
        return {"kernel": state[f"{name}.weight"].T, "bias": state[f"{name}.bias"]}

    def split(part: str, layer: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if part == "out":
            return {**layer, "kernel": layer["kernel"].reshape(heads, dim // heads, dim)}
        shape = (heads, dim // heads)
        return {"kernel": layer["kernel"].reshape(dim, *shape), "bias": layer["bias"].reshape(shape)}

    encoder: dict[str, Any] = {
        "positions": {"embedding": state["position_embedding.weight"]},
        "input_norm": norm("LayerNorm"),
    }
    for layer in range(config.layers):
        of_attention = f"trm_encoder.layer.{layer}.multi_head_attention"
        of_feed_forward = f"trm_encoder.layer.{layer}.feed_forward"
        encoder[f"block_{layer}"] = {
            "attention": {part: split(part, dense(f"{of_attention}.{name}")) for part, name in _MAPS.items()},
            "attention_norm": norm(f"{of_attention}.LayerNorm"),
            "inner": dense(f"{of_feed_forward}.dense_1"),
            "outer": dense(f"{of_feed_forward}.dense_2"),
            "feed_forward_norm": norm(f"{of_feed_forward}.LayerNorm"),
        }
    experts = [f"moe_adaptor.experts.{number}" for number in range(config.experts)]
    adaptor = {
        "gate": state[_GATES],
        "noise": state["moe_adaptor.w_noise"],
        "kernel": np.concatenate([state[f"{expert}.lin.weight"].T for expert in experts], axis=1),
        "bias": np.stack([state[f"{expert}.bias"] for expert in experts]),
    }
    return {"adaptor": adaptor, "encoder": encoder}


def require_same_vectors(dataset: Dataset, width: int) -> None:
    """Refuses a dataset whose text vectors are not of the kind that the checkpoint was trained on.

    Raises:
      UserError: with the reason.
    """
    remedy = f"prepare it with --text_model naming a sentence-transformers folder of {MODEL} that takes the CLS token"
    if TEXT not in dataset.vectors:
        raise UserError(f"{dataset.path} has no text vectors, which the checkpoint reads; {remedy}")
    vectors, model = dataset.text_vectors, dataset.text_encoders.get(TEXT, {}).get("model", "an unknown model")
    reads = f"the checkpoint reads CLS vectors of {MODEL}, which are {width} wide"
    if vectors.shape[1] != width:
        raise UserError(
            f"the text vectors of {dataset.path}, by {model}, are {vectors.shape[1]} wide; {reads}: {remedy}"
        )
    if MODEL not in model:
        raise UserError(f"the text vectors of {dataset.path} are by {model}; {reads}: {remedy}")
    lengths = np.linalg.norm(np.asarray(vectors[:1000], np.float32), axis=1)
    if np.all(np.abs(lengths[lengths > 0] - 1) < _UNIT):
        raise UserError(f"the text vectors of {dataset.path} were cut to length 1; {reads} and longer: {remedy}")


def import_run(checkpoint: pathlib.Path, dataset: Dataset, workdir: pathlib.Path) -> UniSRecConfig:
    """Writes the run, and returns its configuration.

    Raises:
      UserError: the checkpoint cannot be read, the dataset's vectors are others, or the workdir is not empty.
    """
    state = read_state(checkpoint)
    try:
        network, length = settings_of(state)
        pretrained = params_of(state, network)
    except KeyError as error:
        raise UserError(f"checkpoint {checkpoint} is none of UniSRec: its state_dict has no {error.args[0]}") from None
    require_same_vectors(dataset, len(state[_GATES]))
    if workdir.exists() and any(workdir.iterdir()):
        raise UserError(f"--workdir={workdir} is not empty; name another one")
    config = UniSRecConfig(
        mode=INDUCTIVE,
        epochs=1,
        pretrain_epochs=1,
        max_length=length,
        network=network,
    ).check()
    system = config.build(catalogue_info(dataset))
    context = make_context(dataset, system.reads, config.precision)
    train = dataset.splits["train"]
    batches = TrainBatches(train, config.batch_prefixes, config.max_length, system.layout)
    params = jax.tree.map(lambda array: jnp.asarray(np.ascontiguousarray(array, np.float32)), pretrained)
    arrays = TrainLoop(system, context, batches, len(train.items), config.seed).fresh(lambda _: {NAME: params})
    state_of_run = RunState(epoch=1, best={"epoch": 0})
    with claimed(workdir):
        write_catalogue(workdir, dataset)
        with contextlib.closing(RunLog(workdir, config, [])), contextlib.closing(CheckpointStore(workdir)) as store:
            store.save(1, Checkpoint(arrays.as_tree(), {NAME: params}, record_of(state_of_run, True, config, dataset)))
    return config
