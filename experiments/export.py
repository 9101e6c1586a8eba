"""Exports a trained model for serving: StableHLO programs, item vectors with their ids, and an index to search them.

python -m experiments.export --workdir=DIR --out=DIR
"""

import pathlib
from typing import Any

from absl import flags

from alterrec_jax.runtime import command_line
from alterrec_jax.runtime.console import log
from alterrec_jax.runtime.text_table import aligned
from alterrec_jax.serving.index_settings import IndexSettings

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of experiments.train.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder to write; an earlier export there is replaced.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset folder; by default the one that the run was trained on.")
_K = flags.DEFINE_integer("k", 20, "How many items the exported program finds for each session.")
_EXCLUDE = flags.DEFINE_bool(
    "exclude_session_items", None, "Whether to leave out what the session holds; the run's own choice by default."
)
_LINKS = flags.DEFINE_integer(
    "index_links", IndexSettings.links, "Neighbours that the index keeps for each item.", lower_bound=2
)
_EFFORT = flags.DEFINE_integer(
    "index_effort",
    IndexSettings.effort,
    "Items that a search of the index looks at: more find more, and take longer. The index does not keep it; whoever "
    "restores it gives it as expansion_search.",
    lower_bound=1,
)


def main() -> int:
    """Writes the folder, and prints what was measured."""
    from alterrec_jax.evaluation.protocol import protocol_of
    from alterrec_jax.runtime.compiled_programs import keep_compiled_programs
    from alterrec_jax.serving.export_folder import require_replaceable, write_export
    from alterrec_jax.serving.trained_model import load_trained

    keep_compiled_programs()
    out = pathlib.Path(_OUT.value)
    require_replaceable(out)  # before a run is read
    trained = load_trained(_WORKDIR.value, _DATA_DIR.value)
    protocol = protocol_of(trained.config.protocol, trained.dataset)
    exclude = protocol.exclude_session_items if _EXCLUDE.value is None else _EXCLUDE.value
    _print(write_export(trained, out, _K.value, exclude, IndexSettings(_LINKS.value, _EFFORT.value)), out)
    return 0


def _print(about: dict[str, Any], out: pathlib.Path) -> None:
    measured, k = about["measured"], about["k"]
    rows = [
        ["one session's vector to its best items", f"recall@{k}", "ms, median"],
        ["top_items.jax, from the items of the session", "exact", f"{measured['program_ms']:.2f}"],
    ]
    if about["index"] is not None:
        rows[1:1] = [
            ["items.usearch", f"{measured['recall']:.4f}", f"{measured['index_ms']:.2f}"],
            ["exact scan of item_vectors.npy", "exact", f"{measured['scan_ms']:.2f}"],
        ]
    print(aligned(rows))
    print(f"{about['items']:,} items, dim {about['dim']}, {measured['sessions']:,} sessions of the validation split")
    if about["index"] is None:
        log("note: the model has neighbours, which no vectors hold: no session_encoder.jax and no index were written")
    log(f"wrote {out}; try: echo '{{\"session\": []}}' | python {out / 'serve.py'} {out}")


if __name__ == "__main__":
    command_line.run(main)
