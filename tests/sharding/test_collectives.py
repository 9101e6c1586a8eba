"""What devices send one another, read in compiled programs: never a table, never a row of scores."""

import jax
import jax.numpy as jnp
import pytest

from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig
from alterrec_jax.sharding import mesh
from benchmarks.programs import compiled_step
from tests.sharding.examples import collectives

LENGTH, DEVICES = 7, 4
ITEMS = 6_007  # of which a device has 1,502: longer than any axis that is not of items


def longest(text: str) -> int:
    """The longest axis of anything that is sent."""
    found = collectives(text)
    assert found, "devices that share the items must talk"
    return max(max(shape, default=0) for _, shape in found)


@pytest.mark.parametrize("name", ["id:window(text)", "text:window(id)", "id:full"])
def test_no_table_and_no_row_of_scores_is_sent(name: str) -> None:
    shared = {"encoder": "mean", "layers": 1, "heads": 1}
    config = AlterRecConfig(
        batch_prefixes=16 * LENGTH,
        max_length=LENGTH,
        networks={
            "id": IdNetworkConfig(dim=12, **shared),
            "text": VectorNetworkConfig(dim=20, mlp_hidden=(10,), **shared),
        },
        mining=MiningConfig(k1=5, k2=700, p=3),
    )
    with mesh.used(mesh.make_mesh(f"model:{DEVICES}", jax.devices()[:DEVICES])):
        text = compiled_step(name, config, ITEMS).as_text() or ""
    assert longest(text) < ITEMS // DEVICES


def test_a_table_and_the_best_of_whole_rows_would_be_seen() -> None:
    with mesh.used(mesh.make_mesh(f"model:{DEVICES}", jax.devices()[:DEVICES])):
        items = mesh.padded(ITEMS, mesh.MODEL)
        table = jax.ShapeDtypeStruct((items, 12), jnp.float32, sharding=mesh.sharding(mesh.ITEMS))
        scores = jax.ShapeDtypeStruct((112, items), jnp.float32, sharding=mesh.sharding(mesh.BATCH_AND_ITEMS))
        everywhere = jax.jit(lambda table: mesh.with_sharding_constraint(table, mesh.REPLICATED) * 2).lower(table)
        best = jax.jit(lambda scores: jax.lax.top_k(scores, 5)).lower(scores)
        assert [longest(program.compile().as_text() or "") for program in (everywhere, best)] == [items] * 2
