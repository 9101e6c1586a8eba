"""The readings in which the authors' released code departs from their paper, as far as they are fields, all at once.

Temperatures 1 and 0.07, so that text weighs 14 times as much in the fused score; LayerNorm on both item tables; one
linear map, ReLU and dropout over the catalogue as the text MLP, on sentence vectors as they are; every parameter
uniform in +-1/sqrt(d); half of the rank window drawn without replacement and as many items drawn uniformly with it;
beta the weight of all augmented positives of a prefix together; learning rates x 0.1 after every 2 (ID) and 5 (text)
epochs of a network's own; chosen by validation Hits@20 with a patience of 15 epochs.

With the LayerNorm epsilons of that code (1e-6 in the encoder, 1e-5 on item tables), which every AlterRec here has, the
scores of both networks equal the released ones (tests/models/test_alterrec_parity.py).

Left out are two mistakes of that code, the ID network's positives that come from itself and padding that is read as
clicks; augmented rows with negatives of their own, averaged with the others; and what is data preparation there.

For: comparing with the paper's code on the same data.

    python -m experiments.train --config=official --data_dir=DIR --workdir=DIR

Not measured to its end: the peer's whole top k2 is sorted out for every prefix, at each step, since ranks are drawn
from it.
"""

from ml_collections import ConfigDict

from alterrec_jax.config import ProtocolConfig
from alterrec_jax.config_files import overridable
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        AlterRecConfig(
            patience=15,
            networks={
                "id": IdNetworkConfig(item_norm=True, init="uniform", decay_every=2),
                "text": VectorNetworkConfig(
                    item_norm=True,
                    init="uniform",
                    decay_every=5,
                    temperature=0.07,
                    mlp_hidden=(),
                    unit_variance=False,
                    mlp_output_relu=True,
                    item_dropout=0.1,
                ),
            },
            fusion_weights="fixed",
            mining=MiningConfig(hard_fraction=0.5, beta_per="prefix"),
            protocol=ProtocolConfig(exclude_session_items="no", select_on="hits@20"),
        )
    )
