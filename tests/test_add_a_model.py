"""docs/add_a_model.md, followed step by step: its files are written as it says, and its commands are run."""

import importlib
import pathlib
import re
import sys
from collections.abc import Iterator

import pytest

import alterrec_jax.models
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.models import registry
from alterrec_jax.serving.recommend import Recommender
from alterrec_jax.serving.trained_model import load_trained
from alterrec_jax.training.trainer import Trainer

PAGE = (pathlib.Path(__file__).parents[1] / "docs/add_a_model.md").read_text(encoding="utf-8")
FILES = re.findall(r"^## \d\. [^\n]*: `([\w/.]+)`$.*?^```python$\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, pathlib.Path]]:
    """The files of the page, in a folder of their own, of which the package of models knows."""
    folder, found = tmp_path_factory.mktemp("add_a_model"), {}
    for name, text in FILES:
        found[name] = folder / name
        found[name].parent.mkdir(parents=True, exist_ok=True)
        found[name].write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        models = str(folder / "alterrec_jax/models")
        patch.setattr(alterrec_jax.models, "__path__", [*alterrec_jax.models.__path__, models])
        known = dict(registry._FAMILIES)
        yield found
        registry._FAMILIES.clear()
        registry._FAMILIES.update(known)
        sys.modules.pop("alterrec_jax.models.last_item", None)


def run_file(path: pathlib.Path) -> dict:
    """The names that a file defines."""
    names: dict = {"__name__": path.stem}
    exec(compile(path.read_text(encoding="utf-8"), path, "exec"), names)
    return names


def test_the_page_has_a_model_a_configuration_and_a_test() -> None:
    assert [name for name, _ in FILES] == [
        "alterrec_jax/models/last_item.py",
        "experiments/configs/last_item.py",
        "tests/models/test_last_item.py",
    ]


def test_the_model_is_registered_by_lying_there(written: dict[str, pathlib.Path]) -> None:
    found = registry.family("last_item")
    assert found.title == "Last item"
    module = importlib.import_module("alterrec_jax.models.last_item")
    assert pathlib.Path(module.__file__ or "") == written["alterrec_jax/models/last_item.py"]


def test_its_configuration_trains_and_what_was_trained_recommends(
    written: dict[str, pathlib.Path], dataset: Dataset, tmp_path: pathlib.Path
) -> None:
    values = run_file(written["experiments/configs/last_item.py"])["get_config"]().to_dict()
    config = registry.read_run_config(values).check()
    best = Trainer(config, dataset, tmp_path / "run").run()
    assert 0 < best["last_item_hits@20"] <= 1
    (found,) = Recommender(load_trained(tmp_path / "run"), exclude_session_items=True)([[3, 4]], k=5)
    assert len(found) == 5 and not {3, 4} & {entry.item for entry in found}


def test_its_test_passes(written: dict[str, pathlib.Path]) -> None:
    tests = run_file(written["tests/models/test_last_item.py"])
    ran = [function() for name, function in tests.items() if name.startswith("test_")]
    assert ran == [None]
