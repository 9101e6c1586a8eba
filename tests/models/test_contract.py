"""What every registered system promises, whatever it is: one suite over the registry."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
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
    make_item_tables,
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
from tests.conftest import CATALOGUE
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

    def networks(self) -> Iterator[tuple[str, Network, Params]]:
        """Each component's network with the parameters that it takes; `test_neighbours` looks at what is fitted."""
        for name, component in self.system.components.items():
            if component.network.fit is None:
                yield name, component.network, self.params[component.trained]


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


def batch_of(sessions: list[list[int]], one_a_row: bool = False, whole: bool = False) -> tuple[SessionBatch, list]:
    """Sessions packed into rows one after another, or one a row; and where the last item of each stands.

    With `whole` the positions before the last ones are no prefixes.
    """
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
    scored = lengths - 1 if whole else np.zeros_like(lengths)
    chunks = Chunks(np.arange(len(sessions)), np.zeros_like(lengths), lengths, scored)
    batch = fill_rows(items, offsets, chunks, Plan(np.array(rows), np.array(places), row + 1), LENGTH)
    ends = [r * LENGTH + p + n - 1 for r, p, n in zip(rows, places, lengths.tolist(), strict=True)]
    return jax.tree.map(jnp.asarray, batch._replace(interaction=None)), ends


def embeddings(network: Network, params: Params, context: Context, batch: SessionBatch) -> np.ndarray:
    """float32 [row * position, dim], without dropout."""
    return np.asarray(network.session_embeddings(params, make_item_tables(network, params, context), batch), np.float32)


SESSIONS = [[3, 5, 3, 8], [4], [7, 7, 2], [1, 2, 3, 4, 5, 6, 7], [9, 9]]


def test_shapes_and_types(case: Case) -> None:
    batch, _ = batch_of(SESSIONS)
    for _, network, params in case.networks():
        tables = network.item_tables(params, case.context)
        assert tables.candidates.shape == (CATALOGUE, network.dim) and tables.candidates.dtype == jnp.float32
        for leaf in jax.tree.leaves(tables.inputs):
            assert len(leaf) == CATALOGUE
        assert embeddings(network, params, case.context, batch).shape == (batch.items.size, network.dim)


def test_every_parameter_with_a_row_an_item_is_declared(case: Case) -> None:
    for name, network in case.system.networks.items():
        shapes = jax.eval_shape(network.init, jax.random.key(0), case.context)
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
            assert (leaf.ndim > 0 and leaf.shape[0] == CATALOGUE) == is_per_item(network.per_item, path), (name, path)


def test_a_prefix_alone_is_the_prefix_in_a_batch(case: Case) -> None:
    packed, ends = batch_of(SESSIONS)
    for name, network, params in case.networks():
        together = embeddings(network, params, case.context, packed)[ends]
        for session, found in zip(SESSIONS, together, strict=True):
            alone, (end,) = batch_of([session])
            expected = embeddings(network, params, case.context, alone)[end]
            np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5, err_msg=f"{name} {session}")


def test_nothing_after_a_prefix_reaches_it(case: Case) -> None:
    """In the layout `packed` what follows stands in the same segment; in `prefix` it must not be there at all."""
    session = SESSIONS[3]
    for name, network, params in case.networks():
        if network.layout == PREFIX:
            first, last = (_of_training(case, network, params, changed) for changed in (False, True))
        else:
            (batch, _), (other, _) = batch_of([session]), batch_of([[*session[:3], 20, 21, 22, 23]])
            first, last = (embeddings(network, params, case.context, b)[:3] for b in (batch, other))
        np.testing.assert_array_equal(first, last, err_msg=name)


def _of_training(case: Case, network: Network, params: Params, changed: bool) -> np.ndarray:
    """The embeddings of the first two prefixes of a training session, whose later items may be changed."""
    train = case.dataset.splits["train"]
    longest = int(np.argmax(train.lengths))
    items = train[longest].copy()
    if changed:
        items[3:] = (items[3:] + 1) % CATALOGUE
    session = dataclasses.replace(train, items=items, offsets=np.array([0, len(items)]), first_target=np.array([1]))
    batches = TrainBatches(session, BATCH, LENGTH, network.layout)
    batch = next(batches.epoch(jax.random.key(0)))
    found = embeddings(network, params, case.context, jax.tree.map(jnp.asarray, batch))
    return found[np.isin(batch.interaction, (0, 1, 2))]


def test_without_a_key_nothing_is_random_and_with_one_dropout_is(case: Case) -> None:
    batch, ends = batch_of(SESSIONS)
    for name, network, params in case.networks():
        one, other = (embeddings(network, params, case.context, batch)[ends] for _ in range(2))
        np.testing.assert_array_equal(one, other)
        noisy = []
        for seed in range(2):
            table_key, session_key = jax.random.split(jax.random.key(seed))
            tables = network.item_tables(params, case.context, table_key)
            noisy.append(np.asarray(network.session_embeddings(params, tables, batch, session_key))[ends])
        drops = "sr_gnn" not in name
        assert np.array_equal(*noisy) != drops


def test_padding_changes_nothing(case: Case) -> None:
    batch, ends = batch_of(SESSIONS)
    for _, network, params in case.networks():
        padding = np.asarray(batch.segments) < 0
        other = batch._replace(
            items=jnp.where(padding, 17, batch.items), positions=jnp.where(padding, 3, batch.positions)
        )
        wider = jax.tree.map(lambda array: jnp.concatenate([array, array[:1]]), batch)
        for changed in (other, wider._replace(segments=wider.segments.at[-1].set(-1))):
            np.testing.assert_allclose(
                embeddings(network, params, case.context, changed)[ends],
                embeddings(network, params, case.context, batch)[ends],
                rtol=1e-6,
                atol=1e-6,
            )


def test_permuting_item_numbers_commutes(case: Case) -> None:
    order = np.random.default_rng(0).permutation(CATALOGUE)  # the present number of each item in the new order
    number = np.argsort(order)
    permuted = Context({name: rows[order] for name, rows in case.context.features.items()}, case.context.graphs)
    batch, ends = batch_of(SESSIONS)
    for name, network, params in case.networks():

        def rows(path: Any, leaf: jax.Array, network: Network = network) -> jax.Array:
            return leaf[order] if is_per_item(network.per_item, path) else leaf

        moved = jax.tree_util.tree_map_with_path(rows, params)
        renumbered = batch._replace(items=jnp.asarray(number, jnp.int32)[batch.items])
        np.testing.assert_allclose(
            embeddings(network, moved, permuted, renumbered)[ends],
            embeddings(network, params, case.context, batch)[ends],
            rtol=2e-5,
            atol=2e-5,
            err_msg=name,
        )
        candidates = [network.item_tables(p, c).candidates for p, c in ((moved, permuted), (params, case.context))]
        np.testing.assert_allclose(candidates[0], candidates[1][order], rtol=2e-5, atol=2e-5)


def test_gradients_are_finite_where_sessions_have_one_item_and_rows_none(case: Case) -> None:
    batch, ends = batch_of([[4], [5]], one_a_row=True)
    empty = jax.tree.map(
        lambda array: jnp.concatenate([array, array[:LENGTH] if array.ndim == 1 else array[:1]]), batch
    )
    empty = empty._replace(segments=empty.segments.at[-1].set(-1), is_target=empty.is_target.at[-LENGTH:].set(False))
    targets = jnp.zeros(empty.items.size, jnp.int32).at[jnp.asarray(ends)].set(jnp.asarray([6, 7]))
    empty = empty._replace(targets=targets)
    for stage in dict.fromkeys(stage._replace(epochs=1, peer=()) for stage in case.system.stages):
        if case.system.objectives[stage.objective](stage).mine is not None:
            continue
        objective = case.system.objectives[stage.objective](stage)
        trained = {name: case.params[name] for name in stage.trains}

        def loss(params: Any, objective: Any = objective) -> jax.Array:
            return sum(objective.loss(params, case.context, empty, jax.random.key(0), None).values())

        value, gradient = jax.value_and_grad(loss)(trained)
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.fixture(scope="module")
def trained(case: Case, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """The system after a run, read back from its workdir."""
    workdir = tmp_path_factory.mktemp("contract") / case.config.family
    Trainer(case.config, case.dataset, workdir).run()
    return load_trained(workdir)


def test_a_run_is_saved_and_restored_to_the_bit(case: Case, trained: TrainedModel, tmp_path: pathlib.Path) -> None:
    again = tmp_path / "again"
    Trainer(case.config, case.dataset, again).run()
    for one, other in zip(jax.tree.leaves(trained.params), jax.tree.leaves(load_trained(again).params), strict=True):
        np.testing.assert_array_equal(one, other)
    assert trained.config == case.config and trained.finished


def neighbour_scores(sums: ItemSums, neighbours: Neighbours, prefix: int) -> np.ndarray:
    """float32 [catalogue], of one prefix."""
    scores = np.zeros(CATALOGUE, np.float32)
    for item, weight in zip(np.asarray(sums.items[prefix]), np.asarray(sums.weights[prefix]), strict=True):
        np.add.at(scores, np.asarray(neighbours.items[item]), weight * np.asarray(neighbours.weights[item]))
    return scores


def test_evaluation_recommendation_and_export_agree(case: Case, trained: TrainedModel) -> None:
    system, dataset = trained.system, trained.dataset
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
            of_batch = component.network.session_embeddings(trained.params[component.trained], tables, batch)
            if isinstance(of_batch, ItemSums):
                expected += weight * neighbour_scores(of_batch, tables.candidates, end)
            else:
                expected += weight * np.asarray(tables.candidates) @ np.asarray(of_batch)[end]
        for scored in (by_item, of_export):
            assert sorted(scored) == list(range(CATALOGUE))
            np.testing.assert_allclose([scored[item] for item in range(CATALOGUE)], expected, rtol=2e-4, atol=2e-5)


def test_evidence_is_what_leaving_an_item_out_changes(trained: TrainedModel) -> None:
    session, wanted = [3, 5, 3, 8], [9, 0, 3]
    left = [session, [5, 8], [3, 3, 8], [3, 5, 3]]
    found = Explainer(trained)(session, dict.fromkeys(trained.system.views, wanted))
    for view, evidence in found.items():
        log_probs = []
        for some in Recommender(trained, False, view=view)(left, k=CATALOGUE):
            by_item = {entry.item: entry.score for entry in some}
            scores = np.array([by_item[item] for item in range(CATALOGUE)])
            log_probs.append(scores - np.log(np.exp(scores - scores.max()).sum()) - scores.max())
        expected = [(log_probs[0] - without)[wanted] for without in log_probs[1:]]
        np.testing.assert_allclose(evidence.values.T, expected, rtol=1e-3, atol=1e-4, err_msg=view)
        assert evidence.items.tolist() == [3, 5, 8]


def test_what_validation_measured_is_what_evaluation_measures(case: Case, trained: TrainedModel) -> None:
    protocol = protocol_of(case.config.protocol, case.dataset)
    targets = protocol.select(case.dataset, "validation")
    encoder = trained.encoder()
    args = (targets, encoder, encoder.tables, trained.system.views, protocol)
    ranks = rank_split(case.dataset, "validation", *args)[trained.system.main]
    hits = np.clip((20 - ranks.above.astype(float)) / ranks.equal, 0, 1).mean()
    np.testing.assert_allclose(hits, trained.best[f"{trained.system.main}_hits@20"], rtol=1e-9)


def test_it_learns_twenty_sessions_by_heart(case: Case) -> None:
    """Each item is followed by one certain item, so that the loss can fall to nearly nothing.

    Two kinds cannot: where a prefix of one item is that item's own vector, as in CORE and under a mean, the item ranks
    before its follower all around a cycle.
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
    batches = TrainBatches(train, BATCH, LENGTH, system.layout)
    loop = TrainLoop(system, case.context, batches, len(items), seed=0)
    arrays, state = loop.fresh(), RunState()
    losses: dict[str, float] = {}
    for event in loop.run(arrays, state):
        if isinstance(event, EpochDone):
            name = "+".join(event.epoch.stage.trains)
            losses[name] = float(arrays.totals.loss / arrays.totals.prefixes)
            state.epoch, state.step = state.epoch + 1, 0
    assert max(losses.values()) < (1.6 if case.config.family == "core" else 0.5), losses


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


def test_a_mesh_agrees_with_one_device(case: Case) -> None:
    losses = []
    for words in ("", "data:2,model:2"):
        context_manager = mesh.used(mesh.make_mesh(words, jax.devices()[:4])) if words else contextlib.nullcontext()
        with context_manager:
            system = case.config.build(catalogue_info(case.dataset))
            context = make_context(case.dataset, system.reads, case.config.precision)
            batches = TrainBatches(case.dataset.splits["train"], BATCH, LENGTH, system.layout, system.reads.users)
            loop = TrainLoop(system, context, batches, len(case.dataset.splits["train"].items), seed=0)
            train = case.dataset.splits["train"]
            arrays, state = loop.fresh(lambda _: fitted_params(system, train)), RunState()  # noqa: B023
            found = []
            for event in loop.run(arrays, state):
                if isinstance(event, EpochDone):
                    found.append(float(arrays.totals.loss) / float(arrays.totals.prefixes))
                    state.epoch, state.step = state.epoch + 1, 0
        losses.append(found)
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-4)


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
    nothing = dataclasses.replace(
        test, items=test.items[:0], offsets=test.offsets[:1], first_target=test.first_target[:0]
    )
    without = dataclasses.replace(dataset, splits={**dataset.splits, "validation": nothing, "test": nothing})
    np.testing.assert_array_equal(config.rows(without, test, targets)(0, len(targets)), scores)


def test_held_out_sessions_reach_no_array_of_training(case: Case) -> None:
    """With validation and test deleted, what a run trains on is bit-identical."""
    test = case.dataset.splits["test"]
    nothing = dataclasses.replace(
        test, items=test.items[:0], offsets=test.offsets[:1], first_target=test.first_target[:0]
    )
    without = dataclasses.replace(case.dataset, splits={**case.dataset.splits, "validation": nothing, "test": nothing})
    context = make_context(without, case.system.reads, case.config.precision)
    assert catalogue_info(without) == catalogue_info(case.dataset)
    fitted = [fitted_params(case.system, d.splits["train"]) for d in (without, case.dataset)]
    pairs = [(context, case.context), fitted]
    for one, other in zip(*(jax.tree.leaves(part) for part in zip(*pairs, strict=True)), strict=True):
        np.testing.assert_array_equal(one, other)
    batches = [
        TrainBatches(d.splits["train"], BATCH, LENGTH, case.system.layout).epoch(jax.random.key(1))
        for d in (without, case.dataset)
    ]
    for one, other in zip(*batches, strict=True):
        for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_array_equal(left, right)
