"""SRIM as its released code computes it, without its leaks: forward pass, losses, settings.

Rows are summed over the graph, not averaged; the last item's attention is read, with four heads; losses are sums, of
which alignment swaps two arguments and joint inference has the other sign (`alterrec_jax/losses/srim.py`); beta is
0.001, and there is no L2, for its flag is not read. Not taken over: a graph of test sessions, the choice of the epoch
on test for each metric, text vectors that initialisation overwrites, and dropout that the first evaluation ends for
good.

    python -m experiments.train --config=srim_official --data_dir=data/complete_journey_12_text \
        --workdir=runs/srim_official

(`experiments/configs/srim_complete_journey.py` has the command for the data.) A step has 50 prefixes, as there, for a
sum of losses weighs as much as there are: ten times as many steps an epoch as 512 prefixes take.

Not measured: a run to its end wants an accelerator, or hours of two cores.
"""

from ml_collections import ConfigDict

from alterrec_jax.config_files import overridable
from alterrec_jax.losses.srim import RELEASED
from alterrec_jax.models.srim import SRIMConfig, SRIMLossConfig, SRIMNetworkConfig
from alterrec_jax.models.two_tables import SUM
from alterrec_jax.nn.direct_attention import LAST


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        SRIMConfig(
            network=SRIMNetworkConfig(gcn=SUM, heads=4, readout=LAST, l2=0.0),
            losses=SRIMLossConfig(form=RELEASED, beta=0.001),
        )
    )
