"""What the train steps send between devices, in their compiled programs: no table, no scores, and as much as a formula
says. Programs are compiled, never run, so catalogues may be large."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from alterrec_jax.config import AlterRecConfig, MiningConfig, NetworkConfig, TextNetworkConfig
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.mesh import AXES, DATA, MODEL
from alterrec_jax.training.stages import RANDOM
from benchmarks import collectives
from benchmarks.collectives import Collective
from benchmarks.programs import TURNS, compiled_step
from benchmarks.traffic import Sizes, Traffic, formula, sizes_of, traffic_of

LENGTH = 7
# Every axis of every array but those of items is shorter than what one of eight devices holds of 6,007 items: 751.
CASES = [
    *((name, "data:4,model:2", 6007, 16 * LENGTH, "mean", (5, 700)) for name in TURNS),
    ("id:window(text)", "data:8", 6007, 16 * LENGTH, "transformer", (5, 700)),
    ("text:window(id)", "model:8", 6007, 16 * LENGTH, "transformer", (100, 700)),  # both borders are searched for
    ("id:window(text)", "model:8", 600_000, 80 * LENGTH, "mean", (5, 3000)),  # samples in samples
    # The same where more scores are wanted than are held at once, and with texts in blocks.
    ("text:window(id)", "data:2,model:4", 1_000_003, 80 * LENGTH, "mean", (5, 700)),
    ("text:window(id) again", "data:2,model:4", 1_000_003, 80 * LENGTH, "mean", (5, 700)),
]


@functools.cache
def read(
    name: str, words: str, items: int, prefixes: int, encoder: str, window: tuple[int, int]
) -> tuple[list[Collective], dict[str, Traffic], Sizes]:
    """The collectives of a step, their sums, and the step's sizes."""
    shared: dict[str, Any] = {"encoder": encoder, "layers": 1, "heads": 1}
    config = AlterRecConfig(
        batch_prefixes=prefixes,
        max_length=LENGTH,
        id=NetworkConfig(dim=12, **shared),
        text=TextNetworkConfig(dim=20, mlp_hidden=(10,), **shared),
        mining=MiningConfig(k1=window[0], k2=window[1], p=3),
    )
    turn = TURNS[name]
    with mesh.used(mesh.make_mesh(words, jax.devices()[:8])):
        text = compiled_step(turn, config, items).as_text()
        assert text is not None
        found = collectives.read(text)
        return found, traffic_of(found), sizes_of(turn, config, items)


def table_sized(found: list[Collective], held: int) -> list[tuple[str, tuple[int, ...]]]:
    """The results that have an axis as long as one device's items, or as many numbers as its part of a narrow table."""
    shapes = [(one.kind, shape) for one in found for shape in one.shapes]
    return [(kind, shape) for kind, shape in shapes if max(shape, default=0) >= held or math.prod(shape) >= 12 * held]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_what_is_sent_is_what_the_formula_says(case: tuple[Any, ...]) -> None:
    _, sums, sizes = read(*case)
    assert sums == formula(TURNS[case[0]], sizes)
    assert all(sum(sums[axis]) > 0 for axis in AXES if axis in case[1])


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_no_table_and_no_scores_are_sent(case: tuple[Any, ...]) -> None:
    """But for the gradient of a device's own rows, which the devices of `data` add up."""
    found, _, sizes = read(*case)
    own = ("all-reduce", (sizes.held, sizes.dim))
    adds_up = TURNS[case[0]].phase != RANDOM and sizes.data > 1
    assert table_sized(found, sizes.held) == [own] * adds_up
    if adds_up:
        (gradient,) = [one for one in found if own[1] in one.shapes]
        assert collectives.axis_of(gradient.groups, {DATA: sizes.data, MODEL: sizes.model}) == DATA


@pytest.mark.parametrize("what", ["table", "top_k"])
def test_that_check_can_fail(what: str) -> None:
    """A table that is asked for everywhere, and the best of whole rows of scores, are found."""
    with mesh.used(mesh.make_mesh("data:4,model:2", jax.devices()[:8])):
        if what == "table":
            table = jax.ShapeDtypeStruct((6008, 12), jnp.float32, sharding=mesh.sharding(mesh.ITEMS))
            program = jax.jit(lambda table: mesh.with_sharding_constraint(table, mesh.REPLICATED) * 2).lower(table)
            wanted = ("all-gather", (6008, 12))
        else:
            scores = jax.ShapeDtypeStruct((112, 6008), jnp.float32, sharding=mesh.sharding(mesh.BATCH_AND_ITEMS))
            program = jax.jit(lambda scores: jax.lax.top_k(scores, 5)).lower(scores)
            wanted = ("all-gather", (28, 6008))
        assert wanted in table_sized(collectives.read(program.compile().as_text() or ""), 3004)


def test_loops_are_told_apart() -> None:
    """Those whose rounds are known multiply, also within one another; others count once."""
    with mesh.used(mesh.make_mesh("data:4,model:2", jax.devices()[:8])):

        def of_device(part: jax.Array) -> jax.Array:
            def known(number: jax.Array, sums: jax.Array) -> jax.Array:
                inner = jax.lax.fori_loop(0, 5, lambda _, sums: mesh.psum(jnp.sin(sums), DATA), sums)
                return mesh.all_gather(inner, MODEL)[: len(part)] + number

            def searching(sums: jax.Array) -> jax.Array:
                return mesh.pmax(sums, MODEL) * 2

            return jax.lax.while_loop(
                lambda sums: mesh.psum(sums[0], DATA) < 9, searching, jax.lax.fori_loop(0, 3, known, part)
            )

        rows = jax.ShapeDtypeStruct((28,), jnp.float32, sharding=mesh.sharding(mesh.BATCH))
        program = jax.jit(mesh.shard_map(of_device, mesh.BATCH, mesh.BATCH)).lower(rows).compile()
        found = collectives.read(program.as_text() or "")
        sums = traffic_of(found)
    assert sorted((one.kind, one.times, one.searching) for one in found) == [
        ("all-gather", 3, False),
        ("all-reduce", 1, True),
        ("all-reduce", 1, True),
        ("all-reduce", 15, False),
    ]
    assert sums == {DATA: Traffic(15 * 7 * 4, 0, 4), MODEL: Traffic(0, 3 * 14 * 4, 7 * 4)}


@pytest.mark.parametrize(
    ("words", "axis"),
    [
        ("{{0,1},{2,3},{4,5},{6,7}}", MODEL),
        ("{{0,2,4,6},{1,3,5,7}}", DATA),
        ("mesh['a'=4,'b'=1,'c'=2] {'a'}", DATA),
        ("mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'a'}", MODEL),
        ("mesh['a'=4,'b'=2] {'a','b'}", "data,model"),
    ],
)
def test_groups_are_read(words: str, axis: str) -> None:
    results = "(f32[3,5]{1,0}, pred[7]{0})"
    line = f"  %sum = {results} all-reduce(%a, %b), channel_id=1, replica_groups={words}, to_apply=%c"
    (one,) = collectives.read(f"ENTRY %main (a: f32[]) -> f32[] {{\n{line}\n}}")
    assert (one.kind, one.shapes, one.bytes, one.times) == ("all-reduce", ((3, 5), (7,)), 3 * 5 * 4 + 7, 1)
    assert collectives.axis_of(one.groups, {DATA: 4, MODEL: 2}) == axis


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%a = f32[3] all-reduce-start(%b), replica_groups={{0,1}}, to_apply=%c", "in two instructions"),
        ("%a = f32[3] all-reduce(%b), replica_groups=[1,2]<=[2], to_apply=%c", "in unknown words"),
        ("%a = f32[3] all-reduce(%b), replica_groups={}, to_apply=%c", "in unknown words"),
        ("%a = f32[3] all-reduce(%b), replica_groups=mesh['a'=4] {'a':(1)2}, to_apply=%c", "part of an axis"),
    ],
)
def test_what_is_not_understood_is_an_error(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        collectives.read(f"ENTRY %main (a: f32[]) -> f32[] {{\n  {line}\n}}")


def test_groups_along_no_axis_are_an_error() -> None:
    with pytest.raises(ValueError, match="along no axis"):
        collectives.axis_of(frozenset({frozenset({0, 3}), frozenset({1, 2})}), {DATA: 2, MODEL: 2})


def test_ring_algorithms() -> None:
    assert collectives.sent("all-reduce", 800, 4) == 2 * 600  # three quarters there, and three quarters back
    assert collectives.sent("all-gather", 800, 4) == 600  # each sends its 200 three times
    assert Traffic(reduced=800, gathered=80, searching=8).sent(4, rounds=100) == 2 * 600 + 60 + 2 * 600
