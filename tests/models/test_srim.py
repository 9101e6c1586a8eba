"""SRIM against its released forward pass and losses, against its equations in NumPy, and its variants."""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import CatalogueInfo, Context, Params, Reads, SessionBatch
from alterrec_jax.data.dataset import Dataset, load_dataset
from alterrec_jax.data.dataset_files import TEXT
from alterrec_jax.data.features import catalogue_info, make_context
from alterrec_jax.data.graphs import GRAPHS
from alterrec_jax.data.packing import Chunks, Plan, fill_rows
from alterrec_jax.errors import UserError
from alterrec_jax.losses.cooccurrence import COOCCURRENCE, compared_losses
from alterrec_jax.losses.objectives import NEXT_ITEM
from alterrec_jax.losses.srim import (
    ALIGNMENT,
    COMPANIONS,
    ID_ALONE,
    JOINT_INFERENCE,
    MAPS,
    MET,
    MODALITY_ALONE,
    RELEASED,
    REPAIRED,
    Prefixes,
    SRIMLoss,
    alignment_losses,
    joint_inference_losses,
    joint_objective,
)
from alterrec_jax.models.srim import SRIMConfig, SRIMLossConfig, SRIMNetworkConfig, build_network
from alterrec_jax.models.two_tables import FUSED, GRAPH, ID, MODALITY, PARTS, SUM
from alterrec_jax.nn.direct_attention import LAST, MEAN, attended
from tests.conftest import write_small_dataset
from tests.evaluation.examples import make_sessions
from tests.models.families import TINY
from tests.oracles import srim as oracle
from tests.parity import batch_of, dense, fixture, loss_and_gradient

HELD = fixture("srim")
(ITEMS, DIM), HEADS, LAYERS = HELD["table_gradient"].shape, int(HELD["heads"]), int(HELD["layers"])
LENGTH = HELD["items"].shape[1]
SESSIONS = [list(map(int, s)) for s in np.split(HELD["graph_items"] - 1, np.cumsum(HELD["graph_lengths"])[:-1])]
OFFICIAL = SRIMNetworkConfig(dim=DIM, heads=HEADS, layers=LAYERS, gcn=SUM, readout=LAST)


@pytest.fixture(scope="module")
def context() -> Context:
    """What is counted of the fixture's sessions."""
    train = make_sessions(SESSIONS)
    graphs = {name: jax.tree.map(jnp.asarray, GRAPHS[name](train, ITEMS)) for name in (GRAPH, COMPANIONS, MET)}
    return Context({TEXT: jnp.zeros((ITEMS, DIM))}, graphs)


def parameters() -> Params:
    """The fixture's parameters as ours."""
    tables = (HELD["embedding.weight"], HELD["text_embedding.weight"])
    return {
        "items": {part: {"table": jnp.asarray(table)} for part, table in zip(PARTS, tables, strict=True)},
        "queries": {ID: dense(HELD, "query_id"), MODALITY: dense(HELD, "query")},
        "alignment": {str(number): dense(HELD, f"mlp_seq{number}") for number in range(1, 9)},
    }


def test_queries_scores_and_gradients_are_those_of_the_released_code(context: Context) -> None:
    network, (batch, ends) = build_network(OFFICIAL, ITEMS, "float32").network, batch_of(HELD)
    (value, (queries, scores)), gradient = loss_and_gradient(network, parameters(), context, batch, ends)
    np.testing.assert_allclose(queries, HELD["queries"], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(scores, HELD["scores"], rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(value, HELD["loss"], rtol=2e-6)
    for part, name in ((ID, "table_gradient"), (MODALITY, "text_gradient")):
        np.testing.assert_allclose(gradient["items"][part]["table"], HELD[f"{name}64"], rtol=2e-5, atol=2e-6)
    of_query = gradient["queries"][ID]
    np.testing.assert_allclose(of_query["kernel"], HELD["query_gradient64"].T, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(of_query["bias"], HELD["bias_gradient64"], rtol=2e-5, atol=1e-6)


def test_losses_are_those_of_the_released_code(context: Context) -> None:
    """All but which items L_co compares with: the fixture's."""
    network, encode = build_network(OFFICIAL, ITEMS, "float32")
    batch, ends = batch_of(HELD)
    targets = jnp.asarray(batch.targets[ends])

    def losses(params: Params) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        tables = network.item_tables(params, context)
        prefixes = Prefixes(*(rows[ends] for rows in encode(params, tables, batch, None)))
        ids, mo = jnp.split(tables.candidates, 2, axis=1)
        aligned = jnp.sum(alignment_losses(params["alignment"], prefixes, RELEASED))
        joint = joint_inference_losses(prefixes, ids[targets], mo[targets], jnp.asarray(HELD["flags"] == 1))
        others = jnp.asarray(HELD["negatives"] - 1)
        known = context.graphs[COMPANIONS]
        compared, _ = compared_losses(ids, known, jnp.arange(ITEMS), others, jnp.ones(ITEMS, bool))
        terms = jnp.sum(compared) / np.log(10), aligned, -jnp.sum(joint)
        scores = jnp.concatenate([prefixes.q_id, prefixes.q_mo], axis=1) @ tables.candidates.T
        main = -jnp.mean(jax.nn.log_softmax(scores)[jnp.arange(len(ends)), targets])
        return main + 1e-3 * sum(terms, jnp.zeros(())), (*terms, jnp.concatenate([prefixes.p_id, prefixes.p_mo], 1))

    (_, (*terms, means)), gradient = jax.jit(jax.value_and_grad(losses, has_aux=True))(parameters())
    np.testing.assert_allclose(means, HELD["means"], rtol=2e-5, atol=2e-6)
    for term, name in zip(terms, ("co", "pro", "cri"), strict=True):
        np.testing.assert_allclose(term, HELD[f"{name}64"], rtol=5e-6)
    for part, name in ((ID, "total_gradient"), (MODALITY, "total_text_gradient")):
        np.testing.assert_allclose(gradient["items"][part]["table"], HELD[f"{name}64"], rtol=2e-5, atol=2e-6)


def packed(sessions: list[list[int]], rows: list[int], places: list[int], length: int) -> SessionBatch:
    """Sessions in the rows of a batch, from the places on."""
    lengths = np.array([len(session) for session in sessions])
    zeros, items = np.zeros_like(lengths), np.concatenate(sessions).astype(np.int32)
    chunks, plan = Chunks(np.arange(len(sessions)), zeros, lengths, zeros), Plan(np.array(rows), np.array(places), 4)
    return fill_rows(items, np.concatenate([[0], np.cumsum(lengths)]), chunks, plan, length)


@pytest.mark.parametrize("attention", ["direct", "linear", "none"])
@pytest.mark.parametrize("readout", [MEAN, LAST])
def test_packed_sessions_are_those_of_the_equations(context: Context, attention: str, readout: str) -> None:
    rng = np.random.default_rng(4)
    sessions = [rng.integers(0, 9, length).tolist() for length in (1, 6, 3, 4, 7)]
    sessions[3] = [9, 9, 2, 9]
    rows, places = [0, 0, 1, 1, 2], [0, 1, 0, 3, 0]
    config = dataclasses.replace(OFFICIAL, attention=attention, readout=readout)
    network, encode = build_network(config, ITEMS, "float32")
    params = parameters()
    batch = packed(sessions, rows, places, LENGTH)
    tables = jax.jit(network.item_tables)(params, context)
    found = jax.jit(encode)(params, tables, batch)
    for part, q, p in ((ID, found.q_id, found.p_id), (MODALITY, found.q_mo, found.p_mo)):
        half = slice(0, DIM) if part == ID else slice(DIM, None)
        table = np.asarray(tables.candidates, np.float64)[:, half]
        for session, row, place in zip(sessions, rows, places, strict=True):
            for end in range(len(session)):
                own = table[session[: end + 1]]
                linear = params["queries"][part]
                mapped = (
                    own @ np.asarray(linear["kernel"]) + np.asarray(linear["bias"]) if attention == "direct" else own
                )
                expected = oracle.session_vector(own, mapped, HEADS, readout)
                if attention == "none":
                    expected = own.mean(axis=0) if readout == MEAN else own[-1]
                at = row * LENGTH + place + end
                np.testing.assert_allclose(q[at], expected, rtol=1e-5, atol=2e-6)
                np.testing.assert_allclose(p[at], own.mean(axis=0), rtol=1e-5, atol=2e-6)


def test_a_prefix_of_a_session_is_that_prefix_alone() -> None:
    rng, session = np.random.default_rng(6), [3, 1, 4, 1, 5, 9, 2]
    queries, rows = rng.normal(size=(2, ITEMS, DIM)).astype(np.float32)

    def vectors(sessions: list[list[int]]) -> np.ndarray:
        batch = packed(sessions, list(range(len(sessions))), [0] * len(sessions), LENGTH)
        return np.asarray(attended(queries[batch.items], rows[batch.items], batch, HEADS, MEAN))

    whole = vectors([session])[0]
    for few in (range(1, 5), range(5, 8)):
        alone = vectors([session[:end] for end in few])
        for number, end in enumerate(few):
            np.testing.assert_allclose(whole[end - 1], alone[number, end - 1], rtol=1e-6, atol=1e-6)


def test_alignment_and_joint_inference_are_those_of_the_equations() -> None:
    rng = np.random.default_rng(5)
    q_id, q_mo, p_id, p_mo, target_id, target_mo = rng.normal(size=(6, 3, 4))
    maps = rng.normal(size=(6, 4, 4))
    prefixes = Prefixes(*(jnp.asarray(rows, jnp.float32) for rows in (q_id, q_mo, p_id, p_mo)))
    linear = {str(n): {"kernel": jnp.asarray(w.T, jnp.float32), "bias": jnp.zeros(4)} for n, w in enumerate(maps, 1)}
    met = np.array([True, False, True])
    aligned = alignment_losses(linear, prefixes, REPAIRED)
    targets = (jnp.asarray(rows, jnp.float32) for rows in (target_id, target_mo))
    joint = joint_inference_losses(prefixes, *targets, jnp.asarray(met))
    for row in range(3):
        expected = oracle.alignment(list(maps), q_id[row], q_mo[row], p_id[row], p_mo[row])
        np.testing.assert_allclose(aligned[row], expected, rtol=1e-5)
        expected = oracle.joint_inference(q_id[row], q_mo[row], target_id[row], target_mo[row], bool(met[row]))
        np.testing.assert_allclose(joint[row], expected, rtol=1e-5)


def test_losses_of_three_items_by_hand() -> None:
    one = jnp.asarray([[1.0, 0.0]])
    prefixes = Prefixes(one, -one, 2 * one, jnp.asarray([[0.0, 3.0]]))
    same = {str(number): {"kernel": jnp.eye(2), "bias": jnp.zeros(2)} for number in range(1, 7)}
    # a = 1, b = 0, x = 0
    expected = np.log(1 + 1 / (1 + np.e)) + np.log(1.5) + np.log(1 + (np.e + 1) / 2)
    np.testing.assert_allclose(alignment_losses(same, prefixes, REPAIRED), [expected], rtol=1e-6)
    # The item that follows has the ID's direction and is across the modality's: cosines 1 and 0.
    total = np.log(np.e + 1)
    for met, expected in ((True, (total - 1) + total / 2), (False, total + (total - 1) / 2)):
        found = joint_inference_losses(prefixes, one, jnp.asarray([[0.0, 2.0]]), jnp.asarray([met]))
        np.testing.assert_allclose(found, [expected], rtol=1e-6)


def test_a_variant_lacks_its_term_alone_and_the_flag_is_that_of_the_interaction(context: Context) -> None:
    config = dataclasses.replace(OFFICIAL, table_dropout=0.0, attention_dropout=0.0)
    built, sessions = build_network(config, ITEMS, "float32"), SESSIONS[:4]
    batch = packed(sessions, [0, 1, 2, 3], [0, 0, 0, 0], LENGTH)
    batch = jax.tree.map(jnp.asarray, batch._replace(is_target=batch.is_target & (batch.targets > 0)))
    everything = (ALIGNMENT, JOINT_INFERENCE, COOCCURRENCE)
    whole = SRIMLoss(everything, 0.01, REPAIRED, 512, "float32")
    less = {term: whole._replace(terms=tuple(other for other in everything if other != term)) for term in everything}
    settings = {"whole": whole, **less, RELEASED: whole._replace(form=RELEASED)}
    objectives = {name: joint_objective(FUSED, *built, given) for name, given in settings.items()}

    def every(params: Params) -> dict[str, dict[str, jax.Array]]:
        key = jax.random.key(0)
        return {
            name: objective.loss({FUSED: params}, context, batch, jax.random.clone(key), None)
            for name, objective in objectives.items()
        }

    found = jax.jit(every)(parameters())
    assert set(found["whole"]) == {NEXT_ITEM, *everything}
    for left_out in everything:
        assert set(found[left_out]) == set(found["whole"]) - {left_out}
        for term, value in found[left_out].items():
            np.testing.assert_allclose(value, found["whole"][term], rtol=1e-6)

    tables = jax.jit(built.network.item_tables)(parameters(), context)
    prefixes = jax.jit(built.encode)(parameters(), tables, batch)
    table, flags, expected = np.asarray(tables.candidates, np.float64), GRAPHS[MET](make_sessions(SESSIONS), ITEMS), 0.0
    for at in np.flatnonzero(batch.is_target):
        ids, mo = np.split(table[int(batch.targets[at])], 2)
        q_id, q_mo = np.asarray(prefixes.q_id[at], np.float64), np.asarray(prefixes.q_mo[at], np.float64)
        expected += oracle.joint_inference(q_id, q_mo, ids, mo, bool(flags[int(batch.interaction[at])]))
    np.testing.assert_allclose(found["whole"][JOINT_INFERENCE], 0.01 * expected, rtol=1e-5)
    count = float(jnp.sum(batch.is_target))
    for term, factor in ((JOINT_INFERENCE, -count), (COOCCURRENCE, ITEMS / np.log(10))):
        np.testing.assert_allclose(found[RELEASED][term], factor * found["whole"][term], rtol=1e-5)


def test_scores_are_the_sum_of_the_views_of_both_halves(dataset: Dataset) -> None:
    config = TINY["srim"]
    system = config.build(catalogue_info(dataset))
    assert list(system.views) == [FUSED, ID, MODALITY]
    context = make_context(dataset, system.reads, "float32")
    params = jax.jit(system.networks[FUSED].init)(jax.random.key(0), context)
    batch = packed([[3, 5, 3, 8], [4], [7, 7, 2]], [0, 0, 1], [0, 4, 0], 5)

    def every_score(params: Params) -> dict[str, jax.Array]:
        found = {}
        for name, component in system.components.items():
            tables = component.network.item_tables(params, context)
            found[name] = component.network.session_embeddings(params, tables, batch) @ tables.candidates.T
        return found

    scores = jax.jit(every_score)(params)
    np.testing.assert_allclose(scores[FUSED], scores[ID] + scores[MODALITY], rtol=1e-4, atol=1e-5)
    assert np.abs(scores[ID] - scores[MODALITY]).max() > 0.01


def test_what_losses_alone_read_is_not_read_to_score(dataset: Dataset) -> None:
    def reads(**losses: Any) -> tuple[Reads, Reads]:
        system = SRIMConfig(losses=SRIMLossConfig(**losses)).build(CatalogueInfo(ITEMS))
        return system.reads, system._replace(networks={}).reads

    training, scoring = reads()
    assert training.graphs == (GRAPH, COMPANIONS, MET) and scoring.graphs == (GRAPH,)
    assert reads(joint_inference=False)[0].graphs == (GRAPH, COMPANIONS)
    assert reads(cooccurrence=False)[0].graphs == (GRAPH, MET)


def test_each_modality_trains_alone_in_the_first_phase(dataset: Dataset) -> None:
    system = TINY["srim"].build(catalogue_info(dataset))
    independent, joint = system.stages
    assert (independent.epochs, independent.chooses, joint.epochs) == (1, False, 1)
    assert system.terms == (NEXT_ITEM, ALIGNMENT, JOINT_INFERENCE, COOCCURRENCE, ID_ALONE, MODALITY_ALONE)
    context = make_context(dataset, system.reads, "float32")
    params = jax.jit(system.networks[FUSED].init)(jax.random.key(0), context)
    assert len(params["alignment"]) == MAPS[REPAIRED]
    loss = system.objectives[independent.objective](independent).loss
    batch = packed([[3, 5, 3, 8], [4, 9]], [0, 1], [0, 0], 5)
    batch = jax.tree.map(jnp.asarray, batch)

    def terms(params: Params) -> dict[str, jax.Array]:
        return loss({FUSED: params}, context, batch, jax.random.key(0), None)

    gradients = jax.jit(jax.jacrev(terms))(params)
    for term, own, other in ((ID_ALONE, ID, MODALITY), (MODALITY_ALONE, MODALITY, ID)):
        gradient = gradients[term]
        for group in ("items", "queries"):
            assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient[group][own]))
            assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient[group][other]))
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient["alignment"]))


def test_data_without_text_are_refused(tmp_path: pathlib.Path) -> None:
    def without_text(arguments: dict[str, Any]) -> None:
        arguments["text_vectors"] = None

    bare = load_dataset(write_small_dataset(tmp_path / "bare", without_text))
    system = SRIMConfig().build(catalogue_info(bare))
    with pytest.raises(UserError, match="this system needs text of the items"):
        make_context(bare, system.reads, "float32")
