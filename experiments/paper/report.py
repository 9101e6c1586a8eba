"""Collects the tables and figures that a study has written into one HTML page that needs nothing beside it.

python -m experiments.paper.report --workdir=DIR
"""

from alterrec_jax.runtime import command_line
from experiments.paper.names import NAMES
from experiments.studies import report

if __name__ == "__main__":
    command_line.run(lambda: report.main("experiments.paper", NAMES))
