"""Photographs to recommendations: a shop of real pictures, its words and vectors, and three networks that alternate."""

import json
import pathlib
import random
import shutil

import polars as pl
import pytest

from alterrec_jax.data.dataset import load_dataset
from tests.data_tools.photos import photo
from tests.entry_points.conftest import Command

PHOTOS = {
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "scooter": "motorcycle_left.png",
    "flower": "flower.jpg",
    "palace": "china.jpg",
    "rocket": "rocket.jpg",
    "page": "page.png",
    "nothing": None,
    "lost": "lost.jpg",
}
TINY = (
    *("--config.networks.id.dim=8", "--config.networks.text.dim=8", "--config.networks.image.dim=8"),
    *("--config.networks.text.encoder=mean", "--config.networks.image.encoder=mean"),
    *("--config.networks.text.mlp_hidden=(7,)", "--config.networks.image.mlp_hidden=(7,)"),
    *("--config.epochs=3", "--config.batch_prefixes=100", "--config.max_length=7"),
)


@pytest.fixture(scope="module")
def shop(command: Command, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of a prepared dataset, its photographs beside it; one is lost after it was prepared."""
    folder, draw = tmp_path_factory.mktemp("shop"), random.Random(0)
    (folder / "photos").mkdir()
    for name in filter(None, PHOTOS.values()):
        shutil.copy(photo("rocket.jpg" if name == "lost.jpg" else name), folder / "photos" / name)
    pl.DataFrame({"item_id": PHOTOS.keys(), "title": [f"a {name}" for name in PHOTOS], "photo": PHOTOS.values()}).cast(
        pl.String
    ).write_csv(folder / "items.csv")
    clicks = [(f"s{s}", draw.choice([*PHOTOS]), t) for s in range(60) for t in range(draw.randint(3, 6))]
    pl.DataFrame(clicks, ["session_id", "item_id", "time"], orient="row").write_csv(folder / "clicks.csv")
    done = command(
        *("data_tools.prepare", "--source=tabular", f"--interactions={folder / 'clicks.csv'}"),
        *(f"--items={folder / 'items.csv'}", "--order_column=time", "--image_column=photo"),
        *(f"--image_dir={folder / 'photos'}", "--duplicates=keep", f"--out={folder / 'data'}"),
    )
    assert done.returncode == 0, done.stderr
    (folder / "photos/lost.jpg").unlink()
    return folder / "data"


@pytest.fixture(scope="module")
def labelled(command: Command, shop: pathlib.Path) -> str:
    """What is printed where the images are labelled, in place."""
    done = command("data_tools.label_images", f"--data_dir={shop}", "--least_probability=0.1")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_words_say_what_the_photographs_show(labelled: str, shop: pathlib.Path) -> None:
    assert "8 of 9 items name one, 7 were classified" in labelled and "1 are missing, the first being lost" in labelled
    dataset = load_dataset(shop)
    words = dict(dataset.items.select("item_id", "image_words").iter_rows())
    assert words["cat"] == "a cat having a striped coat, Egyptian Mau" and words["coffee"] == "espresso"
    assert words["scooter"] == "moped, motor scooter" and words["lost"] is words["nothing"] is None
    assert {name: rows.shape[1] for name, rows in dataset.vectors.items()} == {
        "image": 1280,
        "image_words": 384,
        "text": 384,
        "text_and_image": 384,
    }


def test_describe_prints_of_how_many_items_there_is_an_image(
    command: Command, labelled: str, shop: pathlib.Path
) -> None:
    done = command("data_tools.describe", str(shop))
    assert done.returncode == 0, done.stderr
    shares = {line.split("  ")[0]: line.split() for line in done.stdout.splitlines()}
    assert "77.8%" in shares["image vectors"] and "100.0%" in shares["text_and_image vectors"]


def test_three_modalities_alternate(
    command: Command, labelled: str, shop: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    workdir = tmp_path / "run"
    config = "--config=experiments/configs/three_networks.py"
    done = command("experiments.train", config, *TINY, f"--data_dir={shop}", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    history = pl.read_csv(workdir / "history.csv")
    assert history["network"].unique().sort().to_list() == ["id", "image", "text"]
    output = tmp_path / "metrics.json"
    done = command("experiments.evaluate", f"--workdir={workdir}", f"--output={output}", "--resamples=10")
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert {"fused", "id", "text", "image"} <= found["protocol"]["views"].keys()
    done = command("experiments.recommend", f"--workdir={workdir}", "--k=3", input='{"session": ["cat", "coffee"]}\n')
    assert done.returncode == 0, done.stderr
    (answer,) = map(json.loads, done.stdout.splitlines())
    assert len(answer["recommendations"]) == 3
