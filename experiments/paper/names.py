"""The commands of the study, in the order in which its report shows them."""

NAMES = (
    "data",
    "comparison",
    "naive_vs_independent",
    "imbalance",
    "components",
    "ablation",
    "long_tail",
    "alpha",
    "k2",
    "k1",
    "p",
    "beta",
)
