"""The flags that say which networks take a step, on how many prefixes, and what they mine."""

from typing import Any

from absl import flags

from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig

flags.disclaim_key_flags()  # flags defined here belong to the benchmark that asks for them, and stand in its --help


def define(*, dim: int, layers: int, batch_prefixes: int, k2: int) -> None:
    """Defines the flags, with these defaults."""
    flags.DEFINE_integer("dim", dim, "Width of both networks.", lower_bound=1)
    flags.DEFINE_integer("layers", layers, "Transformer layers of both networks.", lower_bound=1)
    flags.DEFINE_integer("max_length", 50, "Items of a session that an encoder sees.", lower_bound=1)
    flags.DEFINE_integer("batch_prefixes", batch_prefixes, "Prefixes a step, of all devices.", lower_bound=1)
    flags.DEFINE_integer("k1", 20, "First rank of the window.", lower_bound=0)
    flags.DEFINE_integer("k2", k2, "One past its last rank; at most the number of items.", lower_bound=1)


def config(
    items: int | None = None, precision: str = "float32", gpu_kernels: bool = False, **of_networks: Any
) -> AlterRecConfig:
    """What the flags say.

    Args:
      items: of the catalogue, where its size is known already.
      precision: of products.
      gpu_kernels: as of `MiningConfig`.
      of_networks: more fields of both networks.

    Raises:
      UserError: no such networks can be made.
    """
    given = flags.FLAGS
    shared: dict[str, Any] = {"dim": given.dim, "layers": given.layers, **of_networks}
    return AlterRecConfig(
        batch_prefixes=given.batch_prefixes,
        max_length=given.max_length,
        precision=precision,
        networks={"id": IdNetworkConfig(**shared), "text": VectorNetworkConfig(**shared, mlp_hidden=(given.dim,))},
        mining=MiningConfig(
            k1=given.k1,
            k2=given.k2 if items is None else min(given.k2, items),
            p=min(5, given.k1),
            gpu_kernels=gpu_kernels,
        ),
    ).check()
