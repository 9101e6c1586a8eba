"""LLM2BERT4Rec against the authors' forward pass and against its equations."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import CatalogueInfo, Context, Params
from alterrec_jax.errors import UserError
from alterrec_jax.models.llm2bert4rec import LLM2BERT4RecConfig, LLM2BERT4RecNetworkConfig, build_network
from alterrec_jax.nn.table_starts import PCA, RANDOM, TableStart
from tests import parity
from tests.models.test_bert4rec import LENGTH, SESSIONS, drawn, packed, read_at, tokens_of
from tests.oracles import encoders
from tests.parity import fixture, loss_and_gradient, norm

FIXTURE = fixture("llm2bert4rec")
ITEMS, DIM = FIXTURE["table_gradient"].shape
HEADS, LAYERS, EPSILON = 3, 2, 1e-5
NOTHING_KNOWN = Context({}, {})
CONFIG = LLM2BERT4RecNetworkConfig(dim=DIM, layers=LAYERS, heads=HEADS)
NETWORK, ENCODE = build_network(CONFIG, TableStart(RANDOM), ITEMS, LENGTH, "float32")


def keras_map(name: str) -> dict[str, jax.Array]:
    """A linear map or one of an attention: Keras stores it as we do, heads apart."""
    return {part: jnp.asarray(FIXTURE[f"{name}.{part}"]) for part in ("kernel", "bias")}


def parameters() -> Params:
    """The fixture's parameters as ours. The row behind the items is MASK."""
    transformer: dict = {"positions": {"embedding": jnp.asarray(FIXTURE["position_embedding.weight"])}}
    for layer in range(LAYERS):
        prefix = f"layer.{layer}"
        transformer[f"block_{layer}"] = {
            "attention": {part: keras_map(f"{prefix}.{part}") for part in ("query", "key", "value", "out")},
            "attention_norm": norm(FIXTURE, f"{prefix}.att_norm"),
            "inner": keras_map(f"{prefix}.inner"),
            "outer": keras_map(f"{prefix}.outer"),
            "feed_forward_norm": norm(FIXTURE, f"{prefix}.ff_norm"),
        }
    rows = jnp.asarray(FIXTURE["item_embedding.weight"])
    encoder = {"transformer": transformer, "mask": rows[-1], "head": keras_map("head")}
    return {"items": {"table": rows[:-1]}, "encoder": encoder}


def test_queries_scores_and_gradient_are_those_of_the_released_code() -> None:
    """Of a prefix alone, without padding; heads are 4 wide, for 3 of them do not divide 14."""
    batch, ends = parity.batch_of(FIXTURE)

    (value, (queries, scores)), gradient = loss_and_gradient(NETWORK, parameters(), NOTHING_KNOWN, batch, ends)
    np.testing.assert_allclose(queries, FIXTURE["queries"], rtol=2e-5, atol=5e-6)
    np.testing.assert_allclose(scores, FIXTURE["scores"], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(value, FIXTURE["loss"], rtol=2e-6)
    np.testing.assert_allclose(gradient["items"]["table"], FIXTURE["table_gradient64"], rtol=2e-5, atol=5e-6)
    np.testing.assert_allclose(gradient["encoder"]["mask"], FIXTURE["mask_gradient64"], rtol=2e-5, atol=5e-6)


def test_parameters_have_the_shapes_of_the_released_code() -> None:
    shapes = jax.eval_shape(NETWORK.init, jax.random.key(0), NOTHING_KNOWN)
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, parameters())


@pytest.mark.parametrize("seed", range(2))
def test_masked_items_of_whole_sessions_are_those_of_the_equations(seed: int) -> None:
    """Several sessions a row, of two items to a row's eight, with repeats."""
    params, found = parameters(), drawn(jax.random.key(seed), packed(SESSIONS), 0.6, 0.2)
    tables = NETWORK.item_tables(params, NOTHING_KNOWN)
    read, tokens = np.asarray(jax.jit(ENCODE)(params, tables, found)), tokens_of(found)
    table, mask = (np.asarray(part, np.float64) for part in (tables.candidates, params["encoder"]["mask"]))
    places = read_at(found)
    assert sorted(token for *_, token in places) == sorted(token for token, (_, masked) in tokens.items() if masked)
    for row, number, token in places:
        session = [tokens[other] for other in sorted(tokens) if other[:2] == token[:2]]
        inputs = np.array([mask if masked else table[item] for item, masked in session])
        expected = encoders.cloze(params["encoder"], inputs, EPSILON, from_end=True)[token[2]]
        np.testing.assert_allclose(read[row, number], expected, rtol=2e-5, atol=2e-5)


def test_prefixes_of_one_item_have_vectors_of_their_own() -> None:
    params, (batch, ends) = parameters(), parity.batch_of(FIXTURE)
    tables = NETWORK.item_tables(params, NOTHING_KNOWN)
    embed = jax.jit(NETWORK.session_embeddings)
    one, other = (embed(params, tables, batch._replace(items=jnp.full_like(batch.items, i)))[ends[0]] for i in (8, 3))
    assert np.abs(one - other).max() > 0.01


def test_the_start_is_all_that_reads_the_texts() -> None:
    def network_of(start: TableStart) -> Mapping[str, tuple[str, ...]]:
        system = LLM2BERT4RecConfig(start=start).check().build(CatalogueInfo(ITEMS))
        return {name: network.reads.features for name, network in system.networks.items()}

    assert network_of(TableStart(PCA)) == {"llm2bert4rec": ("text",)}
    assert network_of(TableStart(PCA, feature="image")) == {"llm2bert4rec": ("image",)}
    assert network_of(TableStart(RANDOM)) == {"llm2bert4rec": ()}


def test_more_heads_than_columns_are_refused() -> None:
    with pytest.raises(UserError, match=r"network.heads is 9; it must be at most network.dim \(8\)"):
        LLM2BERT4RecConfig(network=LLM2BERT4RecNetworkConfig(dim=8, heads=9)).check()
