"""Atten-Mixer on Diginetica, the public session benchmark (ids only; its files are the user's own).

    python -m experiments.train --config=diginetica_atten_mixer --data_dir=data/diginetica \
        --workdir=runs/diginetica_atten_mixer

(`experiments/configs/diginetica_sr_gnn.py` says how the data are prepared.) Levels, power, dropout, L2 and temperature
are the authors', the family's defaults. What is not: width 100 with 4 heads, where they have 256 with 8, at least two
and a half times the products; batches of 512 at twice the rate, where they have 100; and a rate that falls to three
tenths after every second epoch, theirs to a tenth after every third. The last 20 items of a session are seen, which
shortens 0.7% of the training prefixes.

Theirs are --config.network.dim=256 --config.network.heads=8 --config.batch_prefixes=100 --config.epochs=10
--config.network.learning_rate=0.001 --config.network.decay_every=3 --config.network.decay_factor=0.1.

Not measured yet: what the authors publish is of another preparation of the log, with 42,596 items, and of an epoch
chosen on test. SR-GNN has Hits@20 0.4919 and MRR@20 0.1728 on these data.
"""

from ml_collections import ConfigDict

from alterrec_jax.config import ProtocolConfig
from alterrec_jax.config_files import overridable
from alterrec_jax.models.atten_mixer import AttenMixerConfig, AttenMixerNetworkConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        AttenMixerConfig(
            batch_prefixes=512,
            max_length=20,
            epochs=8,
            patience=3,
            protocol=ProtocolConfig(exclude_session_items="no"),
            network=AttenMixerNetworkConfig(dim=100, heads=4, learning_rate=2e-3, decay_every=2, decay_factor=0.3),
        )
    )
