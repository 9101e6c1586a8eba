"""The library as notebooks use it, in one process; and docs/api.md, whose code is run as it stands."""

import dataclasses
import io
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest

import alterrec_jax as ar
from alterrec_jax.config import to_mapping
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.core import COREConfig
from alterrec_jax.models.registry import families, read_config
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig
from alterrec_jax.serving.recommend import Recommender
from alterrec_jax.serving.requests import Answerer, encoded
from alterrec_jax.training import loop
from experiments.configs import best as best_file
from tests.conftest import CATALOGUE, CLOCKS
from tests.data_tools.examples import FakeEncoder, random_clicks
from tests.examples import random_model
from tests.pages import ROOT, run_page

CONFIG = AlterRecConfig(
    batch_prefixes=53,
    max_length=7,
    networks={
        "id": IdNetworkConfig(encoder="mean", dim=3),
        "text": VectorNetworkConfig(encoder="mean", dim=5, mlp_hidden=()),
    },
    mining=MiningConfig(negatives="full", augment=False),
    warmup_epochs=1,
    turn_epochs=1,
    epochs=2,
)
ITEMS = pl.DataFrame(
    {
        "item_id": [f"i{item:02d}" for item in range(20)],
        "title": [f"Thing {item % 7} of {item % 3}" for item in range(20)],
        "brand": [f"maker {item % 3}" for item in range(20)],
    }
)
CLICKS = pl.DataFrame(random_clicks(3), ["session_id", "item_id", "time"], orient="row")


@pytest.fixture(scope="module")
def run(dataset: ar.Dataset, tmp_path_factory: pytest.TempPathFactory) -> ar.Run:
    """A run on the small dataset, trained by a call."""
    return ar.train(CONFIG, dataset, tmp_path_factory.mktemp("api") / "run")


def without_clocks(run: ar.Run) -> list[dict[str, Any]]:
    return run.history.drop(CLOCKS).to_dicts()


@pytest.fixture
def no_text_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_tools.encode_text.load_encoder", lambda model="": FakeEncoder())


@pytest.fixture
def prepare(no_text_model: None, tmp_path: pathlib.Path) -> Callable[..., ar.Dataset]:
    """Prepares those tables, in a folder of the test, with an encoder that needs no model."""

    def prepare(interactions: Any = CLICKS, items: Any = ITEMS, **options: Any) -> ar.Dataset:
        options = {"order_column": "time", "cache_dir": tmp_path / "cache", **options}
        return ar.prepare(tmp_path / "data", interactions=interactions, items=items, **options)

    return prepare


# The package


def test_names_are_offered_and_imported_when_they_are_asked_for() -> None:
    assert dir(ar) == sorted(ar.__all__, key=str) and all(getattr(ar, name).__doc__ for name in ar.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        ar.trian  # noqa: B018
    quick = "import sys, alterrec_jax.errors; sys.exit('jax' in sys.modules or 'polars' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", quick], cwd=ROOT).returncode == 0


# Configurations


def test_a_shipped_configuration_is_read_by_its_name_whatever_folder_hides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = read_config(best_file.get_config().to_dict())
    monkeypatch.setitem(sys.modules, "experiments", types.ModuleType("experiments"))
    assert ar.load_config("best") == wanted
    changed = ar.load_config("best", epochs=8, **{"networks.id.dropout": 0, "networks.text.mlp_hidden": [7]})
    assert to_mapping(changed) == {
        **to_mapping(wanted),
        "epochs": 8,
        "networks": {
            **to_mapping(wanted)["networks"],
            "id": {**to_mapping(wanted)["networks"]["id"], "dropout": 0.0},
            "text": {**to_mapping(wanted)["networks"]["text"], "mlp_hidden": (7,)},
        },
    }


def test_a_configuration_of_ones_own_is_read_by_its_path() -> None:
    path = ROOT / "experiments" / "configs" / "diginetica_core.py"
    assert ar.load_config(path, epochs=3) == ar.load_config("diginetica_core", **{"epochs": 3})


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        ("bets", {}, "did you mean 'best'?"),
        ("no/such.py", {}, "configuration no/such.py fails: FileNotFoundError"),
        ("best", {"epoch": 3}, "has no field 'epoch'; did you mean 'epochs'?"),
        ("best", {"networks.id.droput": 0.1}, "did you mean 'networks.id.dropout'?"),
        ("best", {"epochs": "3"}, "best.epochs must be of type int, not '3'"),
        ("best", {"networks.id.dropout": 1.5}, "networks.id.dropout is 1.5; it must be at least 0 and below 1"),
    ],
)
def test_a_wrong_configuration_is_named(name: str, overrides: dict[str, Any], said: str) -> None:
    with pytest.raises(ar.UserError) as error:
        ar.load_config(name, **overrides)
    assert said in str(error.value)


def test_the_systems_are_a_table() -> None:
    table = ar.list_models()
    assert table["name"].to_list() == list(families())
    assert table.filter(kind="counted")["layout"].unique().to_list() == [""]


# Datasets


def test_files_and_tables_in_memory_make_one_dataset(
    prepare: Callable[..., ar.Dataset], tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    CLICKS.write_csv(tmp_path / "log.csv")
    ITEMS.write_csv(tmp_path / "items.csv")
    of_files = prepare(tmp_path / "log.csv", str(tmp_path / "items.csv"), text_columns=["title", "brand"])
    out, err = capfd.readouterr()
    assert out == "" and "before the split" in err and of_files.fingerprint in err
    assert of_files.items["text"][1] == "Thing 1 of 1, maker 1"
    for clicks, items in ((CLICKS, ITEMS), (CLICKS.to_pandas(), ITEMS.to_pandas())):
        found = prepare(clicks, items, text_columns="title,brand", source="tabular")
        assert found.fingerprint == of_files.fingerprint
    assert repr(found).startswith(f"Dataset({tmp_path / 'data'}: ") and " 20 items in the catalogue" in repr(found)
    assert ar.load_dataset(tmp_path / "data").fingerprint == found.fingerprint


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sessions_column": "s"}, "no option 'sessions_column'; did you mean 'session_column'?"),
        ({"split": "tempral"}, "--split is 'tempral'; did you mean 'temporal'?"),
        ({"weeks": 3}, "--weeks is read by --source=complete_journey only"),
        ({"min_item_count": "3"}, "--min_item_count takes a number, not '3'"),
        ({"min_item_count": True}, "--min_item_count takes a number, not True"),
        ({"drop_unknown_items": 1}, "--drop_unknown_items takes True or False, not 1"),
        ({"text_columns": 3}, "--text_columns takes a text, not 3"),
        ({"vectors": "image.npy"}, "--vectors takes a list, not 'image.npy'"),
        ({"vectors": {"image": pathlib.Path("no.npy")}}, "no.npy"),
        ({"interactions": [1]}, "interactions is of type list; give a file, or a DataFrame"),
        ({"interactions": None}, "--interactions is missing"),
        ({"source": ""}, "--source is missing"),
    ],
)
def test_wrong_options_of_a_preparation_are_named(
    prepare: Callable[..., ar.Dataset], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ar.UserError) as error:
        prepare(**options)
    assert said in str(error.value)


def test_a_folder_that_hides_data_tools_is_named(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data_tools").mkdir()
    (tmp_path / "data_tools" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "data_tools"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ar.UserError, match="hides the package data_tools of alterrec_jax; rename it"):
        ar.prepare(tmp_path / "data")


# Training


def test_a_run_tells_what_it_is(run: ar.Run, dataset: ar.Dataset) -> None:
    history = run.history
    written = pl.read_csv(run.workdir / "history.csv")
    assert history.columns == written.columns and history["epoch"].to_list() == written["epoch"].to_list() == [0, 1]
    assert history["fused_hits@20"].to_list() == pytest.approx(written["fused_hits@20"].to_list())
    assert run.best in history.to_dicts() and run.best["fused_hits@20"] == history["fused_hits@20"].max()
    assert (run.config, run.finished, run.curves.read_bytes()[1:4]) == (CONFIG, True, b"PNG")
    assert run.dataset is dataset
    assert f"finished; best epoch {run.best['epoch'] + 1}, validation fused_hits@20" in repr(run)


def test_a_finished_run_is_only_loaded_and_a_longer_one_goes_on(
    run: ar.Run, dataset_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    again = ar.train(CONFIG, dataset_folder, str(run.workdir))
    assert again.history.equals(run.history)
    with pytest.raises(ar.UserError, match="seed=0, not 1"):
        ar.train(dataclasses.replace(CONFIG, seed=1), dataset_folder, run.workdir)
    short = ar.train(dataclasses.replace(CONFIG, epochs=1), dataset_folder, tmp_path)
    assert len(short.history) == 1
    assert without_clocks(ar.train(CONFIG, dataset_folder, tmp_path)) == without_clocks(run)


def test_a_stopped_call_has_saved_its_place_and_the_same_call_continues(
    run: ar.Run, dataset: ar.Dataset, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress, handler = loop.progress, signal.getsignal(signal.SIGINT)

    def stopped(items: Iterable[Any], *args: Any, initial: int, **kwargs: Any) -> Iterator[Any]:
        for step, item in enumerate(progress(items, *args, initial=initial, **kwargs)):
            if step == 1 and (tmp_path / "history.csv").exists():  # in the second epoch
                signal.raise_signal(signal.SIGINT)
            yield item

    with monkeypatch.context() as patch:
        patch.setattr(loop, "progress", stopped)
        with pytest.raises(KeyboardInterrupt, match="the same call continues"):
            ar.train(CONFIG, dataset, tmp_path)
    assert signal.getsignal(signal.SIGINT) is handler
    assert not ar.load(tmp_path, dataset).finished
    assert without_clocks(ar.train(CONFIG, dataset, tmp_path)) == without_clocks(run)


def test_a_run_trains_in_a_thread(run: ar.Run, dataset: ar.Dataset, tmp_path: pathlib.Path) -> None:
    found: list[ar.Run] = []
    thread = threading.Thread(target=lambda: found.append(ar.train(CONFIG, dataset, tmp_path)))
    thread.start()
    thread.join()
    assert without_clocks(found[0]) == without_clocks(run)


def test_what_cannot_be_trained_is_named(dataset: ar.Dataset, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ar.UserError, match="'best', not a configuration; alterrec_jax.load_config makes one"):
        ar.train("best", dataset, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(ar.UserError, match="session_knn only counts"):
        ar.train(ar.load_config("session_knn"), dataset, tmp_path)
    with pytest.raises(ar.UserError, match="epochs must be of type int, not '2'"):
        ar.train(COREConfig(epochs="2"), dataset, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(ar.UserError, match="holds no checkpoint"):
        ar.load(tmp_path)


# Recommendations


def test_recommendations_are_those_of_the_command(run: ar.Run, capfd: pytest.CaptureFixture[str]) -> None:
    sessions = [["B003", "B010"], [], ["B004", "lost", "B003"], ["B028"]]
    exclude, only = [["B001"], [], ["gone"], []], [None, None, ["B001", "B005", "B004"], None]
    lines = []
    for session, out, allowed in zip(sessions, exclude, only, strict=True):
        asked = {"session": session, "exclude": out, **({} if allowed is None else {"only": allowed})}
        lines.append(encoded(asked))
    items = run.dataset.items.head(CATALOGUE)
    recommender = Recommender(run.trained, run.dataset.exclude_session_items)
    answers = Answerer(recommender, items["item_id"].to_list(), items["name"].to_list(), 4)
    wanted = [
        (session, rank, one["id"], one["name"], one["score"], one["by"])
        for session, answer in enumerate(answers(io.BytesIO(b"".join(lines))))
        for rank, one in enumerate(answer["recommendations"], 1)
    ]
    found = run.recommend(sessions, 4, exclude=exclude, only=only)
    assert found.rows() == wanted and len(wanted) > 12
    assert dict(found.schema) == {
        "session": pl.Int64,
        "rank": pl.Int64,
        "item_id": pl.String,
        "name": pl.String,
        "score": pl.Float64,
        "by": pl.String,
    }
    assert "left out 2 ids unknown to the run: 'lost', 'gone'" in capfd.readouterr().err
    assert run.recommend([], 4).schema == found.schema and run.recommend([], 4).is_empty()


def test_lists_may_hold_for_all_sessions_and_sessions_may_be_columns(run: ar.Run) -> None:
    sessions = pl.Series([["B003"], ["B004", "B007"]])
    found = run.recommend(sessions, 3, exclude=["B001"], only=pl.Series(["B001", "B002", "B005"]))
    assert [set(part["item_id"]) for part in found.partition_by("session")] == [{"B002", "B005"}] * 2


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"sessions": ["B001"]}, "session 0 is 'B001', which is no list"),
        ({"sessions": "B001"}, "sessions is 'B001', which is no list"),
        ({"sessions": [["B001"], [2]]}, "session 1 holds 2; item ids are texts"),
        ({"sessions": [["B001"], ["no"]], "unknown": "error"}, "session 1 has ids unknown to the run: 'no'"),
        ({"sessions": [["B001"]], "unknown": "eror"}, "did you mean 'error'?"),
        ({"sessions": [["B001"]], "exclude": [["B002"], []]}, "exclude has 2 lists for 1 sessions"),
        ({"sessions": [["B001"]], "only": [[3]]}, "only 0 holds 3"),
        ({"sessions": [["B001"]], "k": 30}, "k=30 is not between 1 and the number of items, 29"),
    ],
)
def test_wrong_requests_are_named(run: ar.Run, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ar.UserError) as error:
        run.recommend(**asked)
    assert said in str(error.value)


def test_what_recommends_is_made_once(run: ar.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run.recommend([["B003"]], 3)

    def again(*_: Any) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr("alterrec_jax.run.Recommender", again)
    assert run.recommend([["B003"]], 3).equals(before)


def test_new_items_are_placed_by_their_text(prepare: Callable[..., ar.Dataset], tmp_path: pathlib.Path) -> None:
    data = prepare()
    run = ar.Run(tmp_path, random_model(CONFIG, data))
    new = pl.DataFrame({"item_id": ["n1"], "title": ["Thing 5 of 2"]})
    found = run.recommend([["i03", "n1"]], 20, new_items=new, unknown="error")
    (placed,) = found.filter(item_id="n1").rows(named=True)
    assert placed["name"] == "Thing 5 of 2" and placed["by"] == "text"
    new.write_csv(tmp_path / "new.csv")
    assert run.recommend([["i03", "n1"]], 20, new_items=tmp_path / "new.csv").equals(found)
    with pytest.raises(ar.UserError, match="item 'i03' was in training and is not new"):
        run.recommend([["i03"]], 3, new_items=ITEMS.filter(item_id="i03"))
    ids_alone = dataclasses.replace(CONFIG, networks={"id": IdNetworkConfig(encoder="mean", dim=3)})
    with pytest.raises(ar.UserError, match="cannot place new items"):
        ar.Run(tmp_path, random_model(ids_alone, data)).recommend([["i03"]], 3, new_items=new)


def test_new_items_bring_the_vectors_that_no_text_model_makes(
    prepare: Callable[..., ar.Dataset], tmp_path: pathlib.Path
) -> None:
    for name, rows in (("mine", len(ITEMS)), ("new", 1)):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32))
    run = ar.Run(tmp_path, random_model(CONFIG, prepare(text_vectors=tmp_path / "mine.npy")))
    new = pl.DataFrame({"item_id": ["n1"]})
    with pytest.raises(ar.UserError, match="bring those of the new items by --vectors=text=FILE.npy"):
        run.recommend([["i03"]], 3, new_items=new)
    found = run.recommend([["i03", "n1"]], 20, new_items=new, new_vectors={"text": tmp_path / "new.npy"})
    (placed,) = found.filter(item_id="n1").rows(named=True)
    assert placed["name"] == "n1" and placed["by"] == "text"
    with pytest.raises(ar.UserError, match="new_vectors are of new_items"):
        run.recommend([["i03"]], 3, new_vectors={"text": tmp_path / "new.npy"})


# Evaluation and export


def test_an_evaluation_is_a_table_of_what_was_measured(run: ar.Run) -> None:
    found = run.evaluate("validation", resamples=50, recommended=True)
    result = found.result
    names = ["fused", "id", "text", "popularity", "cooccurrence", "session_cooccurrence"]
    assert found.table["name"].to_list() == names
    of_id, of_popularity = found.table.row(1, named=True), found.table.row(3, named=True)
    assert (
        of_id["hits@10"] == result["id"]["hits@10"]
        and of_popularity["mrr@20"] == result["baselines"]["popularity"]["mrr@20"]
    )
    assert [of_id["low"], of_id["high"]] == result["id"]["intervals"]["hits@20"]
    difference = result["differences"]["fused - id"]
    assert (of_id["difference"], of_id["p"]) == (difference["hits@20"], difference["p"]["hits@20"])
    assert found.table.row(0)[-2:] == (None, None)
    lines = repr(found).splitlines()
    assert lines[0].split()[:2] == ["hits@10", "ndcg@10"] and lines[1].split()[0] == "fused"
    assert result["protocol"]["split"] == "validation" and "coverage" in repr(found)
    json.dumps(result)
    bare = run.evaluate("validation", resamples=0, components=False).table
    assert bare["hits@20"].equals(found.table["hits@20"]) and bare["low"].null_count() == len(bare)
    with pytest.raises(ar.UserError, match="split is 'tset'; did you mean 'test'?"):
        run.evaluate("tset")  # type: ignore[arg-type]


def test_an_export_is_written(run: ar.Run, tmp_path: pathlib.Path) -> None:
    about = run.export(tmp_path / "served", k=3)
    assert about == json.loads((tmp_path / "served" / "export.json").read_text())
    assert about["k"] == 3 and (tmp_path / "served" / "serve.py").is_file()
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ar.UserError, match="name another folder"):
        run.export(tmp_path)


# The documentation


def test_the_page_runs_as_it_stands(tmp_path: pathlib.Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = run_page(ROOT / "docs" / "api.md", sys.executable, tmp_path, environment)
    assert done.returncode == 0, done.stderr
    assert re.search(r"no configuration is called 'bets' \(.*\); did you mean 'best'\?", done.stdout)
    assert "hits@20, 95% interval  fused minus this" in done.stdout
    for path in ("data/mine/manifest.json", "runs/mine/curves.png", "runs/core/history.csv", "served/serve.py"):
        assert (tmp_path / path).is_file(), path


def test_every_name_is_on_the_page() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    public = [name for name in vars(ar.Run) if not name.startswith("_") and name != "trained"]
    assert [name for name in public if f".{name}" not in page] == []
    assert [name for name in ar.__all__ if name not in page] == []
