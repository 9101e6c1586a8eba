"""Commands where something that they need is missing: an extra, or text vectors."""

import importlib
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from absl import flags

from alterrec_jax.data.dataset import load_dataset
from alterrec_jax.errors import UserError
from alterrec_jax.serving.export_folder import write_export
from alterrec_jax.serving.index_settings import IndexSettings
from data_tools.new_items import read_new_items
from tests.command_flags import nothing_imported
from tests.conftest import write_small_dataset


@pytest.fixture
def no_flags() -> Iterator[None]:
    """Each command is a process of its own, with flags of its own: here as if none had been imported."""
    with nothing_imported():
        yield


@pytest.mark.usefixtures("no_flags")
@pytest.mark.parametrize(
    ("module", "package", "extra", "arguments"),
    [("sweep", "optuna", "sweep", ()), ("studies.report", "jinja2", "plots", ("experiments.paper", ("k1",)))],
)
def test_a_missing_extra_is_named(
    module: str, package: str, extra: str, arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    command = importlib.import_module(f"experiments.{module}")
    with pytest.raises(UserError, match=rf"needs {package}.*" + re.escape(f'pip install "alterrec_jax[{extra}]"')):
        command.main(*arguments)


@pytest.mark.usefixtures("no_flags")
def test_a_study_that_cannot_draw_trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    command: Any = importlib.import_module("experiments.studies.command")
    with pytest.raises(UserError, match=r"the study's k1 needs matplotlib"):
        command._main(None, "k1", None, None)


@pytest.mark.usefixtures("no_flags")
def test_a_dataset_is_described_without_a_picture(
    dataset_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    command = importlib.import_module("data_tools.describe")
    flags.FLAGS.mark_as_parsed()
    flags.FLAGS["data_dir"].value = str(dataset_folder)
    command.main()
    told = capsys.readouterr()
    assert "catalogue" in told.out and 'pip install "alterrec_jax[plots]"' in told.err
    assert not (dataset_folder / "describe.png").exists()
    flags.FLAGS["output"].value = "asked_for.png"
    with pytest.raises(UserError, match=r"--output=asked_for.png needs matplotlib"):
        command.main()


def test_an_export_without_its_extra_writes_nothing(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "usearch", None)
    nothing: Any = None  # what is missing is told before anything is looked at
    with pytest.raises(UserError, match=r"an export needs usearch.*" + re.escape('"alterrec_jax[export]"')):
        write_export(nothing, tmp_path / "out", 5, True, IndexSettings())
    assert not (tmp_path / "out").exists()


def test_new_items_need_vectors(tmp_path: pathlib.Path) -> None:
    def changed(arguments: dict[str, Any]) -> None:
        arguments["vectors"] = {"image": arguments["text_vectors"]}
        arguments["provenance"]["text_encoders"] = {"text": {"given": True, "sha256": "abc"}}

    data = load_dataset(write_small_dataset(tmp_path / "data", changed))
    line = r"new.csv: new items are placed by their {0} vectors, which in .*data {1}.* by --vectors={0}=FILE.npy"
    with pytest.raises(UserError, match=line.format("text", "take the place of a text model's")):
        read_new_items("new.csv", data, ["text"])
    with pytest.raises(UserError, match=line.format("image", "were given, and not made of texts")):
        read_new_items("new.csv", data, ["text", "image"], vectors={"text": "new.npy"})
    with pytest.raises(UserError, match="--vectors=image: new items are placed by text alone"):
        read_new_items("new.csv", data, ["text"], vectors={"image": "new.npy"})
