r"""Turns raw logs and item texts into a dataset folder.

    python -m data_tools.prepare --source=complete_journey --weeks=12 --min_item_count=10 --out=data/complete_journey
    python -m data_tools.prepare --source=tabular --interactions=log.csv.gz --items=items.csv --session_column=user_id \
      --order_column=time --text_columns=title,brand --category_column=path --brand_column=brand \
      --interaction_price_column=paid --vectors=image=image.npy --split=leave_one_out --out=data/mine
    python -m data_tools.prepare --source=tabular --interactions='logs/*.csv' --items=items.csv --user_column=user_id \
      --order_column=time --session_gap=30m --since=2024-03-01 --split=temporal --out=data/march
    python -m data_tools.prepare --source=amazon_m2 --interactions=sessions_train.csv --items=products_train.csv \
      --locale=ES --text_model=distiluse-base-multilingual-cased-v1 --out=data/amazon_es
"""

import dataclasses
from typing import Any

from absl import flags

from alterrec_jax.runtime import command_line
from alterrec_jax.runtime.printable import printable
from data_tools.given import options_of
from data_tools.options import SOURCES, Options

FLAGS = flags.FLAGS


def _define_flags() -> None:
    """One flag for each field of `Options`."""
    for field in dataclasses.fields(Options):
        default: Any = field.default
        text, choices = field.metadata["help"], field.metadata["choices"]
        if field.metadata["sources"] != SOURCES:
            text += f" (read by {', '.join(field.metadata['sources'])})"
        if choices:
            flags.DEFINE_enum(field.name, default or None, list(choices), text)
        elif isinstance(default, bool):
            flags.DEFINE_boolean(field.name, default, text)
        elif isinstance(default, int):
            flags.DEFINE_integer(field.name, default, text)
        elif isinstance(default, tuple):
            flags.DEFINE_multi_string(field.name, list(default), text)
        elif isinstance(default, str):
            flags.DEFINE_string(field.name, default, text)
        else:
            flags.DEFINE_float(field.name, default, text)


_define_flags()


def options_from_flags() -> Options:
    """The options that the command line gives.

    Raises:
      UserError: --source is missing, or a flag was given that the source does not read.
    """
    given = {field.name: FLAGS[field.name] for field in dataclasses.fields(Options)}
    return options_of({name: flag.value for name, flag in given.items() if flag.present})


def main() -> None:
    """Prepares what the flags say and prints what was read, kept and dropped."""
    from data_tools.pipeline import prepare

    print(printable(prepare(options_from_flags())))


if __name__ == "__main__":
    command_line.run(main)
