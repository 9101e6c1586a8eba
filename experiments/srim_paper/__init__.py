"""The study of SRIM's paper: `names.NAMES` are its commands, and `report` shows what they found."""

from experiments.srim_paper.names import NAMES
from experiments.studies import refuse_other_modules

refuse_other_modules((*NAMES, "report"))
