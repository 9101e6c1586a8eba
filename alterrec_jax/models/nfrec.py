"""NFRec, the paper's naive fusion (appendix A): one network on item embeddings fused of ID and text, trained jointly.

Its parts, "ID in NFRec" and "text in NFRec" (appendix B), are the same network with the other half of every item
embedding set to zero, both of the session's items and of the candidates. For the mean encoder on concatenated
embeddings that is exactly the split of eqs. 7-8, and the two scores add up to the whole. With `sum` they do not: the
products of one half with the other belong to neither. Nor do they with a Transformer, which is not linear; a part then
tells what the network can do with one half alone.
"""

import dataclasses

import jax
import jax.numpy as jnp

from alterrec_jax.config import RunConfig, setting
from alterrec_jax.contract import PACKED, CatalogueInfo, Context, Params, Reads, System
from alterrec_jax.models.registry import register
from alterrec_jax.models.single import single_network_system
from alterrec_jax.models.unimodal import (
    ENCODERS,
    MEAN,
    EncoderConfig,
    VectorsConfig,
    build_network,
    check_encoder,
    encoder_notes,
    optimizer_of,
    vectors_of,
)
from alterrec_jax.nn.item_tables import ItemEncoder, learned_items

PARTS = ("id", "text")
FUSED = "fused"

_INIT_NUMBER = 2


@dataclasses.dataclass(frozen=True)
class FusedNetworkConfig(EncoderConfig):
    """NFRec's only network; its text encoder is described by `text`, but for its width and norm."""

    encoder: str = setting(
        MEAN,
        "session encoder g: mean, a causal Transformer, or auto: the Transformer where the order within sessions is "
        "real, the mean where preparation drew it at random",
        choices=ENCODERS,
    )
    dim: int = setting(300, "width of the ID and of the text embeddings, before they are fused", low=1)
    operation: str = setting("concat", "how they are fused", choices=("concat", "sum"))

    @property
    def width(self) -> int:
        """Of the fused embeddings."""
        return self.dim * (2 if self.operation == "concat" else 1)


@register("nfrec", title="NFRec", paper="Li et al., 2024, appendix A", needs="text vectors", layout=PACKED)
@dataclasses.dataclass(frozen=True)
class NFRecConfig(RunConfig):
    """Naive fusion."""

    network: FusedNetworkConfig = dataclasses.field(default_factory=FusedNetworkConfig)
    text: VectorsConfig = dataclasses.field(default_factory=VectorsConfig)

    def check(self) -> "NFRecConfig":
        """As `RunConfig.check`."""
        super().check()
        check_encoder("network", self.network)
        return self

    def build(self, catalogue: CatalogueInfo) -> System:
        """The system, for a catalogue."""
        fused, items = self.network, catalogue.items
        encoders = {
            "id": learned_items(items, fused.dim, fused.item_norm),
            "text": vectors_of(self.text, fused.dim, fused.item_norm, self.precision),
        }
        whole, *halves = (
            build_network(
                fused, catalogue, _fused_items(encoders, fused.operation, kept), self.max_length, self.precision
            )
            for kept in (PARTS, *((part,) for part in PARTS))
        )
        return single_network_system(
            FUSED,
            whole,
            optimizer_of(fused, catalogue),
            self.epochs,
            init_number=_INIT_NUMBER,
            parts=dict(zip(PARTS, halves, strict=True)),
            notes=encoder_notes({FUSED: fused}, catalogue),
        )


def _fused_items(encoders: dict[str, ItemEncoder], operation: str, kept: tuple[str, ...]) -> ItemEncoder:
    """Z = X + H, or [X, H], with zeros in place of what is not kept."""

    def init(key: jax.Array, context: Context) -> Params:
        keys = jax.random.split(key, len(PARTS))
        return {name: encoders[name].init(k, context) for name, k in zip(PARTS, keys, strict=True)}

    def embed(params: Params, context: Context, key: jax.Array | None = None) -> jax.Array:
        halves = {name: encoders[name].embed(params[name], context, key) for name in kept}
        if operation == "sum":
            return sum(halves.values(), jnp.zeros((), jnp.float32))
        nothing = jnp.zeros_like(next(iter(halves.values())))
        return jnp.concatenate([halves.get(name, nothing) for name in PARTS], axis=1)

    per_item = tuple(f"{name}/{path}" for name in PARTS for path in encoders[name].per_item)
    features = tuple(feature for name in PARTS for feature in encoders[name].reads.features)
    from_features = all(encoders[name].from_features for name in kept)
    return ItemEncoder(init, embed, per_item, Reads(features=features), from_features)
