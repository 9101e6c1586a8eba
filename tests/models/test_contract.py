"""What every registered system promises, whatever it is: one suite over the registry."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.config import RunConfig, from_mapping, to_json
from alterrec_jax.contract import (
    PREFIX,
    Context,
    ItemSums,
    Neighbours,
    Network,
    Params,
    SessionBatch,
    System,
)
from alterrec_jax.data.batches import TrainBatches
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.features import catalogue_info, make_context
from alterrec_jax.data.packing import Chunks, Plan, fill_rows
from alterrec_jax.data.targets import select_targets
from alterrec_jax.evaluation.protocol import protocol_of, rank_split
from alterrec_jax.models.counting import CountedConfig
from alterrec_jax.models.registry import COUNTED, TRAINED, families, family, read_config
from alterrec_jax.serving.evidence import Explainer
from alterrec_jax.serving.export import arrays_of, everything, exported_top_items, rows_of, served
from alterrec_jax.serving.recommend import Recommender
from alterrec_jax.serving.trained_model import TrainedModel, load_trained
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.per_item import is_per_item
from alterrec_jax.training.loop import EpochDone, TrainLoop
from alterrec_jax.training.run_state import RunState
from alterrec_jax.training.start import fitted_params
from alterrec_jax.training.trainer import Trainer
from tests.conftest import CATALOGUE, ITEMS
from tests.models.families import BATCH, LENGTH, TINY

NAMES = sorted(TINY)


def test_every_family_that_trains_has_a_tiny_configuration_here() -> None:
    trained = {name for name, found in families().items() if found.kind == TRAINED}
    assert {config.family for config in TINY.values()} == trained


@dataclasses.dataclass
class Case:
    """A system with random parameters."""

    name: str
    config: RunConfig
    dataset: Dataset
    system: System
    context: Context
    params: dict[str, Params]

    @functools.cached_property
    def networks(self) -> list["Compiled"]:
        """Each component's network with the parameters that it takes; `test_neighbours` looks at what is fitted."""
        return [
            Compiled(name, component.network, self.params[component.trained], self.context)
            for name, component in self.system.components.items()
            if component.network.fit is None
        ]


class Compiled:
    """A network's functions, compiled once for all tests, for batches are of one shape."""

    def __init__(self, name: str, network: Network, params: Params, context: Context):
        self.name, self.network, self.params, self._context = name, network, params, context
        self.tables = jax.jit(network.item_tables)
        self._embed = jax.jit(self._embeddings)

    def _embeddings(self, params: Params, context: Context, batch: SessionBatch, key: jax.Array | None) -> jax.Array:
        table_key, session_key = (None, None) if key is None else jax.random.split(key)
        tables = self.network.item_tables(params, context, table_key)
        return self.network.session_embeddings(params, tables, batch, session_key)

    def embeddings(
        self,
        batch: SessionBatch,
        params: Params | None = None,
        context: Context | None = None,
        key: jax.Array | None = None,
    ) -> np.ndarray:
        """float32 [row * position, dim], without dropout unless there is a key; of `ItemSums`, weights by item."""
        found = self._embed(params or self.params, context or self._context, batch, key)
        if not isinstance(found, ItemSums):
            return np.asarray(found, np.float32)
        by_item = np.zeros((len(found), CATALOGUE), np.float32)
        np.add.at(by_item, (np.arange(len(found))[:, None], np.asarray(found.items)), np.asarray(found.weights))
        return by_item


def random_params(network: Network, context: Context, seed: int) -> Params:
    """Normal numbers in place of all parameters, gains and biases included, but for rows of padding."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(network.init, jax.random.key(0), context)
    return jax.tree.map(lambda leaf: jnp.asarray(0.5 * rng.normal(size=leaf.shape), jnp.float32), shapes)


@pytest.fixture(scope="module", params=NAMES)
def case(request: pytest.FixtureRequest, dataset: Dataset) -> Case:
    """Each family's tiny system."""
    config = TINY[request.param].check()
    system = config.build(catalogue_info(dataset))
    context = make_context(dataset, system.reads, config.precision)
    params = {name: random_params(network, context, 3) for name, network in system.networks.items()}
    params |= fitted_params(system, dataset.splits["train"])
    return Case(request.param, config, dataset, system, context, params)


ROWS = 5


def batch_of(sessions: list[list[int]], one_a_row: bool = False) -> tuple[SessionBatch, list[int]]:
    """Sessions packed into rows one after another, or one a row, empty rows behind; and where the last of each is."""
    items = np.array([item for session in sessions for item in session], np.int32)
    lengths = np.array([len(session) for session in sessions])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows, places, row, used = [], [], 0, 0
    for length in lengths:
        if used and (one_a_row or used + length > LENGTH):
            row, used = row + 1, 0
        rows.append(row)
        places.append(used)
        used += length
    zeros = np.zeros_like(lengths)
    chunks = Chunks(np.arange(len(sessions)), zeros, lengths, zeros)
    batch = fill_rows(items, offsets, chunks, Plan(np.array(rows), np.array(places), ROWS), LENGTH)
    ends = [r * LENGTH + p + n - 1 for r, p, n in zip(rows, places, lengths.tolist(), strict=True)]
    return jax.tree.map(jnp.asarray, batch._replace(interaction=None)), ends


SESSIONS = [[3, 5, 3, 8], [4], [7, 7, 2], [1, 2, 3, 4, 5, 6, 7], [9, 9]]


def test_shapes_and_types(case: Case) -> None:
    batch, _ = batch_of(SESSIONS)
    for part in case.networks:
        tables = part.tables(part.params, case.context)
        if part.network.dim:
            assert tables.candidates.shape == (CATALOGUE, part.network.dim)
            assert tables.candidates.dtype == jnp.float32
            assert part.embeddings(batch).shape == (batch.items.size, part.network.dim)
        else:
            assert isinstance(tables.candidates, Neighbours) and len(tables.candidates) == CATALOGUE
        for leaf in jax.tree.leaves(tables.inputs):
            assert len(leaf) == CATALOGUE


def test_every_parameter_with_a_row_an_item_is_declared(case: Case) -> None:
    for name, network in case.system.networks.items():
        shapes = jax.eval_shape(network.init, jax.random.key(0), case.context)
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
            assert (leaf.ndim > 0 and leaf.shape[0] == CATALOGUE) == is_per_item(network.per_item, path), (name, path)


def test_a_prefix_alone_is_the_prefix_in_a_batch(case: Case) -> None:
    packed, ends = batch_of(SESSIONS)
    for part in case.networks:
        together = part.embeddings(packed)[ends]
        for session, found in zip(SESSIONS, together, strict=True):
            alone, (end,) = batch_of([session])
            expected = part.embeddings(alone)[end]
            np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5, err_msg=f"{part.name} {session}")


def test_nothing_after_a_prefix_reaches_it(case: Case) -> None:
    """In the layout `packed` what follows stands in the same segment; in `prefix` it must not be there at all."""
    session = SESSIONS[3]
    for part in case.networks:
        if part.network.layout == PREFIX:
            first, last = (_of_training(case, part, changed) for changed in (False, True))
        else:
            (batch, _), (other, _) = batch_of([session]), batch_of([[*session[:3], 20, 21, 22, 23]])
            first, last = (part.embeddings(b)[:3] for b in (batch, other))
        np.testing.assert_array_equal(first, last, err_msg=part.name)


def _of_training(case: Case, part: Compiled, changed: bool) -> np.ndarray:
    """The embeddings of the first two prefixes of a training session, whose later items may be changed."""
    train = case.dataset.splits["train"]
    longest = int(np.argmax(train.lengths))
    items = train[longest].copy()
    if changed:
        items[3:] = (items[3:] + 1) % CATALOGUE
    session = dataclasses.replace(train, items=items, offsets=np.array([0, len(items)]), first_target=np.array([1]))
    batches = TrainBatches(session, BATCH, LENGTH, part.network.layout)
    batch = next(batches.epoch(jax.random.key(0)))
    found = part.embeddings(jax.tree.map(jnp.asarray, batch))
    return found[np.isin(batch.interaction, (0, 1, 2))]


def test_without_a_key_nothing_is_random_and_with_one_dropout_is(case: Case) -> None:
    batch, ends = batch_of(SESSIONS)
    for part in case.networks:
        one, other = (part.embeddings(batch)[ends] for _ in range(2))
        np.testing.assert_array_equal(one, other)
        noisy = [part.embeddings(batch, key=jax.random.key(seed))[ends] for seed in range(2)]
        drops = "sr_gnn" not in part.name
        assert np.array_equal(*noisy) != drops


def test_padding_changes_nothing(case: Case) -> None:
    batch, ends = batch_of(SESSIONS)
    padding = np.asarray(batch.segments) < 0
    other = batch._replace(items=jnp.where(padding, 17, batch.items), positions=jnp.where(padding, 3, batch.positions))
    wider = jax.tree.map(lambda array: jnp.concatenate([array, array[:1]]), batch)
    for part in case.networks:
        for changed in (other, wider._replace(segments=wider.segments.at[-1].set(-1))):
            found, expected = part.embeddings(changed)[ends], part.embeddings(batch)[ends]
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6, err_msg=part.name)


def test_permuting_item_numbers_commutes(case: Case) -> None:
    order = np.random.default_rng(0).permutation(CATALOGUE)  # the present number of each item in the new order
    number = np.argsort(order)
    renumbered_data = case.dataset.renumbered(np.concatenate([order, np.arange(CATALOGUE, ITEMS)]), CATALOGUE)
    permuted = make_context(renumbered_data, case.system.reads, case.config.precision)
    batch, ends = batch_of(SESSIONS)
    renumbered = batch._replace(items=jnp.asarray(number, jnp.int32)[batch.items])
    for part in case.networks:

        def rows(path: Any, leaf: jax.Array, network: Network = part.network) -> jax.Array:
            return leaf[order] if is_per_item(network.per_item, path) else leaf

        moved = jax.tree_util.tree_map_with_path(rows, part.params)
        found, expected = part.embeddings(renumbered, moved, permuted)[ends], part.embeddings(batch)[ends]
        expected = expected if part.network.dim else expected[:, order]
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5, err_msg=part.name)
        if not part.network.dim:
            continue
        candidates = [part.tables(p, c).candidates for p, c in ((moved, permuted), (part.params, case.context))]
        np.testing.assert_allclose(candidates[0], candidates[1][order], rtol=2e-5, atol=2e-5)


def test_gradients_are_finite_where_sessions_have_one_item_and_rows_none(case: Case) -> None:
    batch, ends = batch_of([[4], [5]], one_a_row=True)
    targets = np.zeros(batch.items.size, np.int32)
    targets[ends] = 6, 7
    numbers = jnp.arange(batch.items.size, dtype=jnp.int32)
    batch = batch._replace(targets=jnp.asarray(targets), interaction=numbers)
    for stage in dict.fromkeys(stage._replace(epochs=1, peer=()) for stage in case.system.stages):
        objective = case.system.objectives[stage.objective](stage)
        if objective.mine is not None:
            continue
        trained = {name: case.params[name] for name in stage.trains}

        def loss(params: Any, objective: Any = objective) -> jax.Array:
            return sum(objective.loss(params, case.context, batch, jax.random.key(0), None).values())

        value, gradient = jax.jit(jax.value_and_grad(loss))(trained)
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@dataclasses.dataclass
class Run:
    """A run of the system.

    Attributes:
      trained: as read back from its workdir.
      losses: of its epochs.
      gradient_norms: of its epochs, the mean over their steps.
    """

    trained: TrainedModel
    losses: list[float]
    gradient_norms: list[float]


def run_of(case: Case, workdir: pathlib.Path) -> Run:
    """Trains the system from the start."""
    records: list[dict[str, Any]] = []
    Trainer(case.config, case.dataset, workdir).run(records.append)
    losses, norms = ([record[name] for record in records] for name in ("loss", "gradient_norm"))
    return Run(load_trained(workdir), losses, norms)


@pytest.fixture(scope="module")
def run(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The system after a run."""
    return run_of(case, tmp_path_factory.mktemp("contract") / case.config.family)


def test_a_run_is_saved_and_restored_to_the_bit(case: Case, run: Run, tmp_path: pathlib.Path) -> None:
    again = run_of(case, tmp_path / "again").trained
    for one, other in zip(jax.tree.leaves(run.trained.params), jax.tree.leaves(again.params), strict=True):
        np.testing.assert_array_equal(one, other)
    assert run.trained.config == case.config and run.trained.finished


def neighbour_scores(sums: ItemSums, neighbours: Neighbours, prefix: int) -> np.ndarray:
    """float32 [catalogue], of one prefix."""
    scores = np.zeros(CATALOGUE, np.float32)
    for item, weight in zip(np.asarray(sums.items[prefix]), np.asarray(sums.weights[prefix]), strict=True):
        np.add.at(scores, np.asarray(neighbours.items[item]), weight * np.asarray(neighbours.weights[item]))
    return scores


def test_evaluation_recommendation_and_export_agree(case: Case, run: Run) -> None:
    trained, system, dataset = run.trained, run.trained.system, run.trained.dataset
    sessions = [[3, 5, 3, 8], [7, 7, 2], [9]]
    recommender = Recommender(trained, exclude_session_items=False)
    found = list(recommender(sessions, k=CATALOGUE))
    model = served(trained)
    program = exported_top_items(model, dataset.train_counts[:CATALOGUE], CATALOGUE, exclude_session_items=False)
    packed = jax.export.deserialize(bytearray(program))
    requests = (rows_of(sessions, model.max_length), *everything(len(sessions)))
    scores, items = packed.call(*arrays_of(model), *requests)
    encoder = trained.encoder()
    view = system.views[system.main]
    for session, some, exported_scores, exported_items in zip(sessions, found, scores, items, strict=True):
        by_item = {entry.item: entry.score for entry in some}
        of_export = dict(zip(exported_items.tolist(), exported_scores.tolist(), strict=True))
        batch, (end,) = batch_of([session])
        expected = np.zeros(CATALOGUE, np.float32)
        for name, weight in view.items():
            component, tables = system.components[name], encoder.item_tables[name]
            embed = jax.jit(component.network.session_embeddings)
            of_batch = embed(trained.params[component.trained], tables, batch)
            if isinstance(of_batch, ItemSums):
                expected += weight * neighbour_scores(of_batch, tables.candidates, end)
            else:
                expected += weight * np.asarray(tables.candidates) @ np.asarray(of_batch)[end]
        for scored in (by_item, of_export):
            assert sorted(scored) == list(range(CATALOGUE))
            np.testing.assert_allclose([scored[item] for item in range(CATALOGUE)], expected, rtol=2e-4, atol=2e-5)


def test_evidence_is_what_leaving_an_item_out_changes(run: Run) -> None:
    trained, main = run.trained, run.trained.system.main
    session, wanted = [3, 5, 3, 8], [9, 0, 3]
    left = [session, [5, 8], [3, 3, 8], [3, 5, 3]]
    evidence = Explainer(trained)(session, {main: wanted})[main]
    log_probs = []
    for some in Recommender(trained, exclude_session_items=False)(left, k=CATALOGUE):
        by_item = {entry.item: entry.score for entry in some}
        scores = np.array([by_item[item] for item in range(CATALOGUE)])
        log_probs.append(scores - np.log(np.exp(scores - scores.max()).sum()) - scores.max())
    expected = [(log_probs[0] - without)[wanted] for without in log_probs[1:]]
    np.testing.assert_allclose(evidence.values.T, expected, rtol=1e-3, atol=1e-4)
    assert evidence.items.tolist() == [3, 5, 8]


def test_what_validation_measured_is_what_evaluation_measures(case: Case, run: Run) -> None:
    trained = run.trained
    protocol = protocol_of(case.config.protocol, case.dataset)
    targets = protocol.select(case.dataset, "validation")
    encoder = trained.encoder()
    args = (targets, encoder, encoder.tables, trained.system.views, protocol)
    ranks = rank_split(case.dataset, "validation", *args)[trained.system.main]
    hits = np.clip((20 - ranks.above.astype(float)) / ranks.equal, 0, 1).mean()
    np.testing.assert_allclose(hits, trained.best[f"{trained.system.main}_hits@20"], rtol=1e-9)


def test_it_learns_twenty_sessions_by_heart(case: Case) -> None:
    """Each item is followed by one certain item, so that the loss can fall to nearly nothing.

    Two kinds cannot: where a prefix of one item is that item's own vector, as in CORE, SRIM, MMSBR and under a mean, it
    ranks before its follower all around a cycle. A cloze can, but needs three times as many epochs: each predicts
    fewer of the items, from fewer.
    """
    if case.name in ("alterrec of three", "alterrec with neighbours"):
        pytest.skip("its networks take means")
    config = dataclasses.replace(case.config, epochs=100 * len(case.system.networks))
    following = np.random.default_rng(1).permutation(CATALOGUE)
    sessions = []
    for first in range(20):
        session = [first]
        while len(session) < 4:
            session.append(int(following[session[-1]]))
        sessions.append(session)
    items = np.array(sessions, np.int32).reshape(-1)
    train = dataclasses.replace(
        case.dataset.splits["train"],
        items=items,
        offsets=np.arange(21) * 4,
        first_target=np.ones(20, np.int32),
    )
    system = _without_dropout(config).build(catalogue_info(case.dataset))
    batches = TrainBatches(train, BATCH, LENGTH, system.layout, system.reads.users)
    loop = TrainLoop(system, case.context, batches, len(items), seed=0)
    arrays, state = loop.fresh(), RunState()
    losses: dict[str, float] = {}
    for event in loop.run(arrays, state):
        if isinstance(event, EpochDone):
            name = "+".join(event.epoch.stage.trains)
            losses[name] = float(arrays.totals.loss / arrays.totals.prefixes)
            state.epoch, state.step = state.epoch + 1, 0
    cannot = case.config.family in ("core", "srim", "mmsbr", "bert4rec", "llm2bert4rec")
    assert max(losses.values()) < (1.6 if cannot else 0.5), losses


def _without_dropout(config: RunConfig) -> RunConfig:
    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: 0.0 if "dropout" in name and isinstance(part, float) else changed(part)
                for name, part in value.items()
            }
        return value

    values = changed(to_json(config))
    values.pop("model")
    return from_mapping(type(config), values).check()


def test_a_mesh_agrees_with_one_device(case: Case, run: Run) -> None:
    train = case.dataset.splits["train"]
    with mesh.used(mesh.make_mesh("data:2,model:2", jax.devices()[:4])):
        system = case.config.build(catalogue_info(case.dataset))
        context = make_context(case.dataset, system.reads, case.config.precision)
        batches = TrainBatches(train, BATCH, LENGTH, system.layout, system.reads.users)
        loop = TrainLoop(system, context, batches, len(train.items), case.config.seed)
        arrays, state, totals = loop.fresh(lambda _: fitted_params(system, train)), RunState(), []
        for event in loop.run(arrays, state):
            if isinstance(event, EpochDone):
                totals.append(jax.tree.map(float, arrays.totals))
                state.epoch, state.step = state.epoch + 1, 0
    np.testing.assert_allclose([one.loss / one.prefixes for one in totals], run.losses, rtol=2e-4)
    # A loss hardly feels the gradients of a few parameters in so few steps: where a row of padding counted in sums over
    # CoHHN's levels, these norms were 0.5% and 2% off, losses under 0.02%. Under Adam differences of rounding grow.
    norms = [one.gradient_norm / one.steps for one in totals]
    np.testing.assert_allclose(norms, run.gradient_norms, rtol=2e-3)


def test_a_configuration_survives_json_and_names_its_family(case: Case) -> None:
    assert read_config(to_json(case.config)) == case.config


def without_held_out(dataset: Dataset) -> Dataset:
    """The dataset with validation and test sessions deleted."""
    test = dataset.splits["test"]
    nothing = dataclasses.replace(
        test, items=test.items[:0], offsets=test.offsets[:1], first_target=test.first_target[:0]
    )
    return dataclasses.replace(dataset, splits={**dataset.splits, "validation": nothing, "test": nothing})


@pytest.mark.parametrize("name", [name for name, found in families().items() if found.kind == COUNTED])
def test_what_only_counts_reads_training_alone_and_scores_every_candidate(name: str, dataset: Dataset) -> None:
    config = family(name).config()
    assert isinstance(config, CountedConfig)
    test = dataset.splits["test"]
    targets = select_targets(test, "last")
    scores = config.rows(dataset, test, targets)(0, len(targets))
    assert scores.shape == (len(targets), CATALOGUE) and np.isfinite(scores).all()
    without = without_held_out(dataset)
    np.testing.assert_array_equal(config.rows(without, test, targets)(0, len(targets)), scores)


def test_held_out_sessions_reach_no_array_of_training(case: Case) -> None:
    """With validation and test deleted, what a run trains on is bit-identical."""
    without = without_held_out(case.dataset)
    context = make_context(without, case.system.reads, case.config.precision)
    assert catalogue_info(without) == catalogue_info(case.dataset)
    fitted = [fitted_params(case.system, d.splits["train"]) for d in (without, case.dataset)]
    pairs = [(context, case.context), fitted]
    for one, other in zip(*(jax.tree.leaves(part) for part in zip(*pairs, strict=True)), strict=True):
        np.testing.assert_array_equal(one, other)
    batches = [
        TrainBatches(d.splits["train"], BATCH, LENGTH, case.system.layout, case.system.reads.users).epoch(
            jax.random.key(1)
        )
        for d in (without, case.dataset)
    ]
    for one, other in zip(*batches, strict=True):
        for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_array_equal(left, right)
