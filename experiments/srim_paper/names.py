"""The commands of the study of SRIM's paper, in the order in which its report shows them."""

NAMES = ("data", "comparison", "ablation", "layers", "heads", "session_length", "attention")
