"""examples/own_logs.ipynb as it was executed: in order, without errors, by names that the library has.

It is not executed here, for that takes minutes; docs/api.md has the command.
"""

import ast
import json
import re
from typing import Any

import pytest

import alterrec_jax as ar
from tests.pages import ROOT

NOTEBOOK = json.loads((ROOT / "examples" / "own_logs.ipynb").read_text(encoding="utf-8"))
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
OWNERS = {"ar": ar, "run": ar.Run, "found": ar.Evaluation, "data": ar.Dataset}
"""What variables of the notebook are."""


def test_every_cell_was_executed_in_order_and_none_failed() -> None:
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    outputs = [output for cell in CODE for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3


def test_it_names_no_folder_of_a_machine() -> None:
    texts = json.dumps([cell for cell in NOTEBOOK["cells"]])
    texts = re.sub(r'"image/png": "[^"]*"', "", texts)
    assert not re.findall(r"/(?:home|root|tmp|usr|work|Users)/[\w./-]*", texts)


@pytest.mark.parametrize("cell", CODE, ids=lambda cell: cell["id"])
def test_a_cell_uses_what_the_library_has(cell: dict[str, Any]) -> None:
    used = [
        (node.value.id, node.attr)
        for node in ast.walk(ast.parse("".join(cell["source"])))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in OWNERS
    ]
    fields = {"items", "splits", "result"}  # of dataclasses
    assert [(name, what) for name, what in used if what not in fields and not hasattr(OWNERS[name], what)] == []
    assert all(what in ar.__all__ for name, what in used if name == "ar")


def test_it_goes_through_the_whole_library() -> None:
    text = "\n".join("".join(cell["source"]) for cell in CODE)
    assert [name for name in ("prepare", "load_config", "train") if f"ar.{name}(" not in text] == []
    assert [name for name in ("curves", "history", "evaluate", "recommend") if f"run.{name}" not in text] == []
