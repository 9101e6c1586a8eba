"""Collects the tables and figures of SRIM's paper that a study has written into one HTML page.

python -m experiments.srim_paper.report --workdir=DIR
"""

from alterrec_jax.runtime import command_line
from experiments.srim_paper.names import NAMES
from experiments.studies import report

if __name__ == "__main__":
    command_line.run(lambda: report.main("experiments.srim_paper", NAMES))
