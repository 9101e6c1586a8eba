"""Small systems, batches and states for tests of train steps."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alterrec_jax.contract import CatalogueInfo, Context, FrozenView, Network, SessionBatch, Stage, System
from alterrec_jax.data.batches import TrainBatches
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig
from alterrec_jax.numerics import MemoryLimits
from alterrec_jax.scoring.frozen import freeze
from alterrec_jax.training import steps
from tests.evaluation.examples import make_sessions

ITEMS, TEXT_WIDTH, LENGTH = 23, 5, 7
K1, K2, P, BETA = 3, 17, 2, 0.7
MINING = MiningConfig(k1=K1, k2=K2, p=P, beta=BETA)
OWN = MiningConfig(negatives="self", k1=K1, k2=K2, augment=False)
TEMPERATURE = {"id": 0.5, "text": 0.8, "image": 0.6}


def stage_of(name: str, objective: str, *peer: str, epochs: int = 1) -> Stage:
    """A stage of one network, whose peers weigh alike."""
    return Stage((name,), objective, epochs, name, tuple((other, 1 / len(peer)) for other in peer))


ALTERNATING = (
    stage_of("id", "random"),
    stage_of("id", "window", "text"),
    stage_of("text", "random"),
    stage_of("text", "window", "id"),
)
STAGES = (
    *ALTERNATING,
    stage_of("id", "full"),
    stage_of("text", "full"),
    stage_of("id", "own_window"),
    stage_of("text", "own_window"),
)


def title(stage: Any) -> str:
    """A stage as a test's name has it."""
    if not isinstance(stage, Stage):
        return str(stage)
    return "-".join([*stage.trains, stage.objective, *(name for name, _ in stage.peer)])


def config_of(
    encoder: str,
    dropout: float = 0.0,
    precision: str = "float32",
    mining: MiningConfig = MINING,
    names: tuple[str, ...] = ("id", "text"),
) -> AlterRecConfig:
    """Small networks, of different widths and temperatures."""
    shared: dict[str, Any] = {"encoder": encoder, "layers": 1, "heads": 1, "dropout": dropout}
    networks = {
        "id": IdNetworkConfig(dim=3, temperature=TEMPERATURE["id"], **shared),
        "text": VectorNetworkConfig(dim=11, mlp_hidden=(), temperature=TEMPERATURE["text"], **shared),
        "image": VectorNetworkConfig(
            feature="image", dim=5, mlp_hidden=(), weight=2.0, temperature=TEMPERATURE["image"], **shared
        ),
    }
    return AlterRecConfig(
        max_length=LENGTH, precision=precision, mining=mining, networks={name: networks[name] for name in names}
    )


def system_of(encoder: str, *args: Any, limits: MemoryLimits = MemoryLimits(), **changes: Any) -> System:  # noqa: B008
    """Its system; other arguments as of `config_of`."""
    return config_of(encoder, *args, **changes).build(CatalogueInfo(ITEMS), limits)


def vectors(seed: int = 0, width: int = TEXT_WIDTH) -> np.ndarray:
    """float32 [item, width]."""
    return np.random.default_rng(seed).normal(size=(ITEMS, width)).astype(np.float32)


@functools.cache
def context(dtype: str = "float32") -> Context:
    """What the small networks read."""
    return Context({"text": jnp.asarray(vectors(), dtype), "image": jnp.asarray(vectors(10, 4), dtype)}, {})


def batch(seed: int = 0) -> SessionBatch:
    """Rows with several sessions, context that is not scored, and empty positions."""
    rng = np.random.default_rng(seed)
    lists = [rng.integers(0, ITEMS, n).tolist() for n in (3, 12, 2, 5, 1, 4, 9)]
    sessions = make_sessions(lists, [1, 1, 1, 4, 1, 1, 8])
    batches = TrainBatches(sessions, batch_prefixes=6 * LENGTH, max_length=LENGTH)
    (found,) = batches.epoch(jax.random.key(seed))
    there = found.segments.reshape(-1) >= 0
    assert (there & ~found.is_target).any() and (~there).any()
    return found


def params_of(network: Network, known: Context, seed: int) -> Any:
    """Parameters of ordinary size; always the same, in buffers that may be donated."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(network.init, jax.random.key(0), known)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes)


def fresh(
    system: System, stage: Stage, optimizer: optax.GradientTransformation, known: Context | None = None
) -> steps.StageState:
    """The state before a stage."""
    known = context() if known is None else known
    params = {name: params_of(system.networks[name], known, 1) for name in stage.trains}
    return steps.StageState(params, optimizer.init(params), steps.Totals.zeros(system.terms))


def frozen(system: System, stage: Stage, known: Context | None = None) -> FrozenView | None:
    """Its peer, of ordinary size too; None where it has none."""
    if not stage.peer:
        return None
    known = context() if known is None else known
    params = {name: params_of(system.networks[name], known, 2) for name, _ in stage.peer}
    return freeze(system.components, dict(stage.peer), params, known)


def step_of(
    system: System, stage: Stage, optimizer: optax.GradientTransformation, reuse_windows: bool = False
) -> steps.TrainStep:
    """The step of a stage, not compiled."""
    return steps.make_step(system.objectives[stage.objective](stage), optimizer, reuse_windows)


def table_of(system: System, name: str, params: Any, known: Context | None = None) -> np.ndarray:
    """float64 [item, dim]: the candidates of a network."""
    found = system.networks[name].item_tables(params, context() if known is None else known)
    return np.asarray(found.candidates, np.float64)


def on_host(tree: Any) -> Any:
    """A copy that no donated buffer reaches."""
    return jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree)


def assert_identical(found: Any, expected: Any) -> None:
    """Every leaf, bit by bit."""
    jax.tree.map(np.testing.assert_array_equal, found, expected)
