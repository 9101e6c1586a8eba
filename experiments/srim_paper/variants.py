"""The models that the study compares: SRIM, what is left of it without a part, and the systems of the paper's Table 1.

All have the protocol, the longest session, the epochs and the patience of the configuration that they start from. Those
that are not SRIM have for the rest the settings that are shipped for Complete Journey, where there are any, or else
those of their papers, which are their families' defaults.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from alterrec_jax.config import RunConfig
from alterrec_jax.config_files import run_config_file
from alterrec_jax.data.features import catalogue_info, context_shapes
from alterrec_jax.errors import UserError
from alterrec_jax.models.registry import family, read_run_config
from alterrec_jax.models.srim import LINEAR_ATTENTION, NO_ATTENTION, SRIMConfig
from experiments import shipped
from experiments.studies import study

METRICS = ("hits@10", "mrr@10", "hits@20", "mrr@20")
"""P@K and MRR@K of the paper; with one target, precision as it is defined there is Hits."""

SRIM = "SRIM"

Study = study.Study[SRIMConfig]
Variant = Callable[[SRIMConfig], RunConfig]

_SHARED = ("seed", "max_length", "precision", "epochs", "patience", "protocol")
_OTHERS = (
    "narm",
    "bert4rec",
    "sr_gnn",
    "msgifsr",
    "atten_mixer",
    "msgat",
    "mgs",
    "unisrec",
    "cohhn",
    "mmsbr",
    "dimo",
)
_CONFIGURED = ("mgs", "cohhn", "mmsbr", "dimo")


def srim_base(config: RunConfig) -> SRIMConfig:
    """The configuration, if the study can start from it: SRIM's, and whole.

    Raises:
      UserError: it is another system.
    """
    if not isinstance(config, SRIMConfig):
        raise UserError(
            f"the study starts from SRIM, but --config is of model={config.family}; name a configuration of SRIM, such "
            "as srim_complete_journey"
        )
    return config


def with_network(base: SRIMConfig, **fields: Any) -> SRIMConfig:
    """SRIM with other settings of its network."""
    return dataclasses.replace(base, network=dataclasses.replace(base.network, **fields))


def with_losses(base: SRIMConfig, **fields: Any) -> SRIMConfig:
    """SRIM with other settings of its losses."""
    return dataclasses.replace(base, losses=dataclasses.replace(base.losses, **fields))


def other(name: str) -> Variant:
    """A family by its own settings, under the base's protocol and epochs."""

    def of(base: SRIMConfig) -> RunConfig:
        shown, values = name, {"model": name}
        if name in _CONFIGURED:
            shown = f"{name}_complete_journey"
            values = run_config_file(shipped.config_file(shown), shown).to_dict()
        config = read_run_config(values, shown)
        return dataclasses.replace(config, **{field: getattr(base, field) for field in _SHARED})

    return of


OTHERS: dict[str, Variant] = {family(name).title: other(name) for name in _OTHERS}
"""Table 1 but for SRIM, in its order."""

ABLATED: dict[str, Variant] = {
    "SRIM-IdMo": lambda base: with_losses(base, alignment=False),
    "SRIM-JoIn": lambda base: with_losses(base, joint_inference=False),
    "SRIM-DirAtt": lambda base: with_network(base, attention=LINEAR_ATTENTION),
}
"""Table 3: without the alignment loss; without joint inference; and with queries that are the keys."""

WITHOUT_ATTENTION = "SRIM-NoAtt"

MODELS: dict[str, Variant] = {
    **OTHERS,
    SRIM: lambda base: base,
    **ABLATED,
    WITHOUT_ATTENTION: lambda base: with_network(base, attention=NO_ATTENTION),
}
"""The models by the names that tables and figures give them."""


def trainable(study: Study, names: list[str]) -> tuple[list[str], dict[str, str]]:
    """Those of some models whose needs a dataset meets; and of each of the others, what it lacks."""
    found, refused = [], {}
    for name in names:
        config = MODELS[name](study.base)
        try:
            system = config.build(catalogue_info(study.dataset))
            context_shapes(study.dataset, system.reads._replace(graphs=()), config.precision)  # graphs lack nothing
            found.append(name)
        except UserError as error:
            refused[name] = str(error)
    return found, refused
