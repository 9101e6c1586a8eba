"""S3-Rec against its released classes and against its equations, what its draws promise, and its two stages."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import PACKED, WHOLE, CatalogueInfo, Context, Params, SessionBatch
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.features import catalogue_info, make_context
from alterrec_jax.data.packing import Chunks, Plan, fill_rows
from alterrec_jax.errors import UserError
from alterrec_jax.losses.s3_pretraining import AAP, MAP, MIP, SP, TASKS, Tasks, draw_tasks, task_losses
from alterrec_jax.models.s3rec import PretrainingConfig, S3RecConfig, S3RecNetworkConfig, build_network
from alterrec_jax.serving.trained_model import load_trained
from alterrec_jax.training.trainer import Trainer
from tests import parity
from tests.models.families import TINY
from tests.oracles import encoders
from tests.parity import attention, dense, fixture, loss_and_gradient, norm
from tests.training.test_trainer import saved

HELD = fixture("s3rec")
ITEMS, DIM = HELD["table_gradient"].shape
ATTRIBUTES, HEADS, LENGTH = len(HELD["attribute_embeddings.weight"]) - 1, 3, 7
CONFIG = S3RecNetworkConfig(dim=DIM, heads=HEADS, inner=4 * DIM)
NETWORK, ENCODE = build_network(CONFIG, ITEMS, ATTRIBUTES, False, LENGTH - 1, "float32")  # rows have one position more
CONTEXT = Context({"attributes": jnp.asarray(HELD["attributes"])}, {})
KNOWN = CatalogueInfo(ITEMS, {"attributes": 1 + ATTRIBUTES})


def parameters() -> Params:
    """The fixture's parameters as ours. Item 0 there is padding, and the row behind the items is MASK."""
    encoder: dict = {
        "positions": {"embedding": jnp.asarray(HELD["position_embeddings.weight"])},
        "input_norm": norm(HELD, "LayerNorm"),
    }
    for layer in range(2):
        prefix = f"item_encoder.layer.{layer}"
        maps = {part: f"{prefix}.attention.{part}" for part in ("query", "key", "value")}
        encoder[f"block_{layer}"] = {
            "attention": attention(HELD, {**maps, "out": f"{prefix}.attention.dense"}, HEADS),
            "attention_norm": norm(HELD, f"{prefix}.attention.LayerNorm"),
            "inner": dense(HELD, f"{prefix}.intermediate.dense_1"),
            "outer": dense(HELD, f"{prefix}.intermediate.dense_2"),
            "feed_forward_norm": norm(HELD, f"{prefix}.intermediate.LayerNorm"),
        }
    rows = jnp.asarray(HELD["item_embeddings.weight"])
    pretraining = {"mask": rows[-1], "attributes": jnp.asarray(HELD["attribute_embeddings.weight"])}
    pretraining |= {task: dense(HELD, f"{task}_norm") for task in TASKS}
    return {"items": {"table": rows[1:-1]}, "encoder": encoder, "pretraining": pretraining}


def released_batch() -> tuple[SessionBatch, np.ndarray]:
    """The fixture's prefixes, whose positions count up to that of the row's end."""
    batch, ends = parity.batch_of(HELD)
    return batch._replace(positions=batch.positions + (LENGTH - HELD["lengths"])[:, None]), ends


def test_queries_scores_and_gradient_are_those_of_the_released_class() -> None:
    batch, ends = released_batch()

    (value, (queries, scores)), gradient = loss_and_gradient(NETWORK, parameters(), CONTEXT, batch, ends)
    np.testing.assert_allclose(queries, HELD["queries"], rtol=2e-5, atol=5e-6)
    np.testing.assert_allclose(scores, HELD["scores"], rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(value, HELD["loss"], rtol=2e-6)
    np.testing.assert_allclose(gradient["items"]["table"], HELD["table_gradient64"], rtol=2e-5, atol=5e-6)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient["pretraining"]))


def test_each_term_of_pretraining_is_that_of_the_released_class() -> None:
    """Under its switches: sums, and sigmoids twice. It adds log 2 a place for attribute 0, whose row is zeros, and for
    the session of one item, whose two segments are equal."""
    batch, ends = released_batch()
    place = np.arange(LENGTH)[None] - HELD["piece_start"][:, None]
    piece = (place >= 0) & (place < HELD["piece_length"][:, None])
    strangers = np.take_along_axis(HELD["strangers"], np.clip(place, 0, LENGTH - 1), axis=1)
    compared = np.zeros(batch.items.size, bool)
    compared[ends[HELD["lengths"] > 1]] = True
    tasks = Tasks(
        batch,
        HELD["masked"],
        np.maximum(HELD["negatives"] - 1, 0),
        piece,
        np.where(piece, strangers - 1, 0),
        compared.reshape(piece.shape),
    )
    attributes = HELD["attributes"][batch.items]

    def sums(params: Params) -> dict[str, jax.Array]:
        table = params["items"]["table"]
        found = task_losses(ENCODE, params, table, attributes, tasks, double_sigmoid=True)
        return {task: jnp.sum(losses, where=where) for task, (losses, where) in found.items()}

    values, gradients = jax.jit(lambda params: (sums(params), jax.jacrev(sums)(params)))(parameters())
    masked, places = int(HELD["masked"].sum()), int(HELD["lengths"].sum())
    for task, more in {AAP: places - masked, MAP: masked, MIP: 0, SP: 1}.items():
        np.testing.assert_allclose(values[task] + more * np.log(2), HELD[f"{task}64"], rtol=2e-6)
        # Their largest entries are between 0.2 and 8; there, float32 is 2e-6 off its own float64.
        of_rows = jnp.concatenate([gradients[task]["items"]["table"], gradients[task]["pretraining"]["mask"][None]])
        np.testing.assert_allclose(of_rows, HELD[f"{task}_gradient64"], rtol=2e-5, atol=5e-6)
        if task in (AAP, MAP):
            found = gradients[task]["pretraining"]["attributes"]
            np.testing.assert_allclose(found[1:], HELD[f"{task}_attribute_gradient64"][1:], rtol=2e-5, atol=5e-6)
            assert not np.any(found[0])


Sessions = list[list[int]]
SESSIONS: list[Sessions] = [
    [[3, 5, 3, 8], [4], [7, 7]],
    [[1, 2, 3, 4, 5, 6, 7]],
    [[22, 22, 22], [6, 1]],
]
"""Whole sessions of the rows of one batch: of one item, of a row's length, with repeats and immediate repeats."""
FLAT = [(row, number, session) for row, some in enumerate(SESSIONS) for number, session in enumerate(some)]


def whole(rows: list[Sessions], length: int = LENGTH) -> SessionBatch:
    """A training batch of the layout `whole`."""
    sessions = [session for row in rows for session in row]
    lengths = np.array([len(session) for session in sessions])
    row = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    offset = np.concatenate([np.cumsum([0, *(len(session) for session in row[:-1])]) for row in rows])
    zeros = np.zeros_like(lengths)
    chunks = Chunks(np.arange(len(sessions)), zeros, lengths, zeros)
    items, stop = np.concatenate(sessions).astype(np.int32), np.cumsum(lengths)
    batch = fill_rows(items, np.cumsum([0, *lengths]), chunks, Plan(row, offset, len(rows)), length)
    is_target = batch.is_target & ~np.isin(batch.interaction, stop - 1)
    return jax.tree.map(jnp.asarray, batch._replace(is_target=is_target, interaction=None))


@functools.partial(jax.jit, static_argnames=("rate", "prefixes", "items"))
def drawn(key: jax.Array, batch: SessionBatch, rate: float = 0.2, prefixes: bool = False, items: int = ITEMS) -> Tasks:
    """`draw_tasks`, compiled."""
    return draw_tasks(key, batch, items, rate, prefixes)


def places_of(batch: SessionBatch, row: int, number: int) -> np.ndarray:
    """Where a session stands in its row."""
    return np.flatnonzero(np.asarray(batch.segments)[row] == number)


def rows_of(params: Params) -> tuple[np.ndarray, np.ndarray]:
    """float64, the items' rows and MASK."""
    return np.asarray(params["items"]["table"], np.float64), np.asarray(params["pretraining"]["mask"], np.float64)


def oracle(params: Params, tasks: Tasks) -> dict[str, list[float]]:
    """The terms of each task by its equation, session by session and place by place."""
    table, mask = rows_of(params)
    own, sessions = params["pretraining"], jax.tree.map(np.asarray, tasks.sessions)
    attributes = np.asarray(own["attributes"], np.float64)

    def encoded(rows: list[np.ndarray]) -> np.ndarray:
        return encoders.gelu_transformer(params["encoder"], np.array(rows), causal=False)

    def ranked(query: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> float:
        return float(np.log1p(np.exp(query @ negative - query @ positive)))

    found: dict[str, list[float]] = {task: [] for task in TASKS}
    for row, number, _ in FLAT:
        at = places_of(sessions, row, number)
        items = sessions.items[row, at]
        masked, piece, stranger, negative = (
            np.asarray(part)[row, at] for part in (tasks.masked, tasks.piece, tasks.strangers, tasks.negatives)
        )
        hidden = encoded([mask if hides else table[item] for item, hides in zip(items, masked, strict=True)])
        for place, item in enumerate(items):
            task = MAP if masked[place] else AAP
            scores = attributes @ encoders.dense(hidden[place], own[task])
            has = np.isin(np.arange(len(attributes)), HELD["attributes"][item])
            terms = np.where(has, np.log1p(np.exp(-scores)), np.log1p(np.exp(scores)))
            found[task].append(float(terms[1:].sum()))
            if masked[place]:
                query = encoders.dense(hidden[place], own[MIP])
                found[MIP].append(ranked(query, table[item], table[negative[place]]))
        if len(items) > 1:
            views = zip(items, piece, stranger, strict=True)
            triples = [(mask, table[i], table[s]) if inside else (table[i], mask, mask) for i, inside, s in views]
            context, segment, strange = (encoded([triple[n] for triple in triples])[-1] for n in range(3))
            found[SP].append(ranked(encoders.dense(context, own[SP]), segment, strange))
    return found


@functools.partial(jax.jit, static_argnames="double_sigmoid")
def losses_of(params: Params, tasks: Tasks, double_sigmoid: bool = False) -> Any:
    """`task_losses`, compiled."""
    attributes = CONTEXT.features["attributes"][tasks.sessions.items]
    return task_losses(ENCODE, params, params["items"]["table"], attributes, tasks, double_sigmoid=double_sigmoid)


def test_terms_are_those_of_the_equations() -> None:
    params, tasks = parameters(), drawn(jax.random.key(2), whole(SESSIONS), rate=0.4)
    expected = oracle(params, tasks)
    for task, (losses, where) in losses_of(params, tasks).items():
        np.testing.assert_allclose(np.sort(losses[where]), np.sort(expected[task]), rtol=3e-5, atol=1e-5)


def test_the_loss_is_the_weighted_means_of_the_terms() -> None:
    config = S3RecConfig(
        max_length=LENGTH - 1,
        network=dataclasses.replace(CONFIG, dropout=0.0, attention_dropout=0.0),
        pretraining=PretrainingConfig(aap=0.3, map=0.7, mip=2.0, sp=0.4, mask_rate=0.4),
    )
    (stage, _), system = config.build(KNOWN).stages, config.build(KNOWN)
    params, batch = parameters(), whole(SESSIONS)
    loss = jax.jit(system.objectives[stage.objective](stage).loss)
    found = loss({"s3rec": params}, CONTEXT, batch, jax.random.key(5), None)
    expected = oracle(params, drawn(jax.random.split(jax.random.key(5), 3)[0], batch, rate=0.4))
    assert list(found) == list(system.terms) == list(TASKS)
    for task, weight in {AAP: 0.3, MAP: 0.7, MIP: 2.0, SP: 0.4}.items():
        np.testing.assert_allclose(found[task] / 13, weight * np.mean(expected[task]), rtol=3e-5)


def test_an_item_compared_with_itself_costs_log_2() -> None:
    tasks = drawn(jax.random.key(0), whole(SESSIONS))
    tasks = tasks._replace(negatives=tasks.sessions.items, strangers=tasks.sessions.items)
    for double_sigmoid in (False, True):
        found = losses_of(parameters(), tasks, double_sigmoid)
        for task in (MIP, SP):
            losses, where = found[task]
            np.testing.assert_allclose(losses[where], np.log(2), rtol=1e-6)


def test_fine_tuned_prefixes_are_those_of_the_equations() -> None:
    params, batch = parameters(), whole(SESSIONS)
    embed = jax.jit(lambda params: NETWORK.session_embeddings(params, NETWORK.item_tables(params, CONTEXT), batch))
    found = np.asarray(embed(params)).reshape(*batch.items.shape, DIM)
    for row, number, session in FLAT:
        expected = encoders.gelu_transformer(params["encoder"], rows_of(params)[0][session], causal=True)
        np.testing.assert_allclose(found[row, places_of(batch, row, number)], expected, rtol=2e-5, atol=2e-5)


MANY = [[list(range(start, start + 8)), list(range(start + 8, start + 13)), [start]] for start in range(40)]


def test_a_fifth_of_the_items_is_masked_and_the_last_always() -> None:
    batch = whole(MANY, length=15)
    segments = np.asarray(batch.segments)
    last = (segments >= 0) & (segments != np.pad(segments[:, 1:], ((0, 0), (0, 1)), constant_values=-1))
    shares = []
    for seed in range(10):
        tasks = drawn(jax.random.key(seed), batch, items=60)
        masked = np.asarray(tasks.masked)
        assert masked[last].all() and not masked[segments < 0].any()
        shares.append(masked[(segments >= 0) & ~last].mean())
    assert 0.18 < np.mean(shares) < 0.22 and len(set(shares)) > 1


def test_pieces_have_up_to_half_of_a_session_anywhere_and_strangers_take_their_place() -> None:
    batch = whole(MANY, length=15)
    runs = {tuple(map(int, run)) for row in MANY for session in row for run in zip(session, session[1:], strict=False)}
    lengths: dict[int, list[int]] = {8: [], 5: []}
    starts: dict[int, set[int]] = {8: set(), 5: set()}
    for seed in range(10):
        tasks = jax.tree.map(np.asarray, drawn(jax.random.key(seed), batch, items=60))
        for row, some in enumerate(MANY):
            for number, session in enumerate(some):
                at = places_of(batch, row, number)
                piece = np.flatnonzero(tasks.piece[row, at])
                assert tasks.compared[row, at].tolist() == [False] * (len(session) - 1) + [len(session) > 1]
                if len(session) == 1:
                    assert not piece.size
                    continue
                assert 1 <= len(piece) <= len(session) // 2 and np.ptp(piece) == len(piece) - 1
                lengths[len(session)].append(len(piece))
                starts[len(session)].add(int(piece[0]))
                strangers = tasks.strangers[row, at]
                assert not strangers[~tasks.piece[row, at]].any()
                borders = list(zip(strangers[piece], strangers[piece[1:]], strict=False))
                assert sum((int(a), int(b)) not in runs for a, b in borders) <= 3, "they follow each other in sessions"
    for size, found in lengths.items():
        shares = np.bincount(found, minlength=size // 2 + 1)[1:] / len(found)
        np.testing.assert_allclose(shares, 1 / (size // 2), atol=0.06)
        assert starts[size] == set(range(size)), "anywhere"


def test_strangers_are_never_of_the_own_session_and_need_another() -> None:
    batch = whole([[[0, 1, 2, 3], [4, 5]], [[6, 7, 8, 9, 10, 11]]])
    own = np.asarray(batch.items)
    seen: dict[tuple[int, int], set[int]] = {}
    for seed in range(60):
        tasks = jax.tree.map(np.asarray, drawn(jax.random.key(seed), batch))
        for row, number in ((0, 0), (0, 1), (1, 0)):
            at = places_of(batch, row, number)
            some = set(tasks.strangers[row, at][tasks.piece[row, at]].tolist())
            assert not some & set(own[row, at].tolist())
            seen.setdefault((row, number), set()).update(some)
    assert seen[0, 0] == set(range(4, 12)) and seen[1, 0] == set(range(6)), "each of the others"
    alone = drawn(jax.random.key(0), whole([[[0, 1, 2, 3]]]))
    assert not np.any(alone.compared)
    _, where = losses_of(parameters(), drawn(jax.random.key(0), whole(SESSIONS)))[SP]
    assert np.sum(where) == sum(len(session) > 1 for *_, session in FLAT)


def test_negatives_are_uniform_outside_of_the_session() -> None:
    batch, items = whole(SESSIONS), 24
    counts = np.zeros((len(FLAT), items), int)
    for seed in range(150):
        negatives = np.asarray(drawn(jax.random.key(seed), batch, items=items).negatives)
        for place, (row, number, _) in enumerate(FLAT):
            np.add.at(counts[place], negatives[row, places_of(batch, row, number)], 1)
    for (_, _, session), found in zip(FLAT, counts, strict=True):
        others = np.setdiff1d(np.arange(items), session)
        assert not found[session].any() and (found[others] > 0).all()
        expected = found.sum() / len(others)
        assert np.abs(found[others] - expected).max() < 5 * expected**0.5


def test_prefixes_have_any_length_and_hide_what_follows() -> None:
    batch = whole(MANY, length=15)
    kept = []
    for seed in range(10):
        tasks = jax.tree.map(np.asarray, drawn(jax.random.key(seed), batch, prefixes=True, items=60))
        found = tasks.sessions.segments
        for row in range(len(MANY)):
            at = places_of(batch, row, 0)
            inside = found[row, at] >= 0
            size = int(inside.sum())
            assert inside.tolist() == [True] * size + [False] * (8 - size)
            assert tasks.masked[row, at[size - 1]] and not np.any(tasks.masked[row, at[size:]])
            assert not np.any(tasks.piece[row, at[size:]]) and np.sum(tasks.piece[row, at]) <= size // 2
            kept.append(size)
    np.testing.assert_allclose(np.bincount(kept, minlength=9)[1:] / len(kept), 1 / 8, atol=0.06)


def test_pretraining_needs_attributes_and_fine_tuning_does_not() -> None:
    with pytest.raises(UserError, match="s3rec needs attributes of the items to be pretrained; .*--attribute_columns"):
        S3RecConfig().build(CatalogueInfo(ITEMS))
    alone = S3RecConfig(pretrain_epochs=0).build(CatalogueInfo(ITEMS))
    assert (alone.layout, alone.reads.features, alone.terms) == (PACKED, (), ())
    both = S3RecConfig(pretrain_epochs=2, epochs=5).build(KNOWN)
    assert (both.layout, both.reads.features, both.terms) == (WHOLE, ("attributes",), TASKS)
    assert [(stage.epochs, stage.optimizer, stage.chooses) for stage in both.stages] == [
        (2, "pretraining", False),
        (3, "s3rec", True),
    ]
    assert all(stage.frozen == ("s3rec/pretraining",) for stage in S3RecConfig(pretrain_epochs=0).build(KNOWN).stages)
    assert both.stages[1].frozen == ("s3rec/pretraining",) and not both.notes
    cut = S3RecConfig(pretrain_epochs=5, epochs=3).build(KNOWN)
    assert [(stage.objective, stage.epochs) for stage in cut.stages] == [("s3_pretraining", 3), ("full", 0)]
    assert "learns no next item" in cut.notes[0]


TINY_CONFIG = TINY["s3rec"]
assert isinstance(TINY_CONFIG, S3RecConfig)


@pytest.fixture(scope="module")
def whole_run(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A workdir of the tiny configuration, trained to its end."""
    workdir = tmp_path_factory.mktemp("s3rec") / "whole"
    Trainer(TINY_CONFIG, dataset, workdir).run()
    return workdir


def history(workdir: pathlib.Path, config: S3RecConfig, dataset: Dataset) -> list[dict[str, Any]]:
    """The records of a finished run's epochs."""
    records: list[dict[str, Any]] = []
    Trainer(config, dataset, workdir).run(lambda record: records.append(dict(record)))
    return records


def test_terms_are_logged_and_pretraining_does_not_choose(whole_run: pathlib.Path, dataset: Dataset) -> None:
    records = history(whole_run, TINY_CONFIG, dataset)
    terms = np.array([[record[f"loss_{task}"] for task in TASKS] for record in records])
    assert (terms[0] > 0).all() and not terms[1:].any()
    np.testing.assert_allclose(terms[0].sum(), records[0]["loss"], rtol=1e-5)
    assert [record["objective"] for record in records] == ["s3_pretraining", "full", "full"]
    assert load_trained(whole_run).best["epoch"] > 0


def test_a_run_that_was_only_pretrained_goes_on_or_is_started_from(
    whole_run: pathlib.Path, dataset: Dataset, tmp_path: pathlib.Path
) -> None:
    first = dataclasses.replace(TINY_CONFIG, epochs=1)
    Trainer(first, dataset, tmp_path / "run").run()
    pretrained = load_trained(tmp_path / "run").params["s3rec"]
    tuned = dataclasses.replace(first, pretrain_epochs=0, start_from=str(tmp_path / "run"))
    Trainer(tuned, dataset, tmp_path / "tuned").run()
    after = load_trained(tmp_path / "tuned").params["s3rec"]
    for one, other in zip(*(jax.tree.leaves(tree["pretraining"]) for tree in (pretrained, after)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(pretrained["items"]["table"], after["items"]["table"])
    Trainer(TINY_CONFIG, dataset, tmp_path / "run").run()
    assert saved(tmp_path / "run") == saved(whole_run), "lengthened, it is the longer run to the bit"


def test_clusters_of_texts_stand_for_attributes(dataset: Dataset, tmp_path: pathlib.Path) -> None:
    config = dataclasses.replace(
        TINY_CONFIG,
        epochs=2,
        network=dataclasses.replace(TINY_CONFIG.network, weight_decay=0.1),
        pretraining=PretrainingConfig(examples="prefixes", attributes_from_text=4),
    )
    without = CatalogueInfo(dataset.catalogue_size)
    system = config.build(without)
    assert system.reads.features == ("text",)
    (network,) = system.networks.values()
    context = make_context(dataset, system.reads, "float32")
    start = network.init(jax.random.key(0), context)["pretraining"]
    np.testing.assert_allclose(np.linalg.norm(start["centres"], axis=1), 1, rtol=1e-5)
    assert start["attributes"].shape == (5, TINY_CONFIG.network.dim)
    Trainer(config, dataset, tmp_path).run()
    trained = load_trained(tmp_path)
    params = trained.params["s3rec"]["pretraining"]
    assert catalogue_info(dataset).classes["attributes"] != 5
    np.testing.assert_allclose(np.linalg.norm(params["centres"], axis=1), 1, rtol=1e-5)
    assert np.isfinite(trained.best["loss"]) and trained.best["epoch"] == 1, "fine-tuned, which moved no centre"


def test_the_heads_divide_the_width() -> None:
    with pytest.raises(UserError, match=r"network.heads is 3; it must be a divisor of network.dim \(64\)"):
        S3RecConfig(network=S3RecNetworkConfig(heads=3)).check()
