"""The page of `experiments.explore` in a real browser: search, a session, rankings with evidence, own items."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from alterrec_jax.config import ProtocolConfig
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.neighbours import NeighbourConfig
from alterrec_jax.models.unimodal import IdNetworkConfig
from alterrec_jax.serving.trained_model import load_trained
from alterrec_jax.training.trainer import Trainer
from experiments.explore_answers import Explorer
from experiments.explore_server import Server
from tests.experiments.examples import MARKUP, dataset_with_markup, serving

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
# Where CI=true a browser must be there: nothing is passed over in silence.
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER) and os.environ.get("CI") != "true",
    reason="there is no Chromium; apt-get install chromium chromium-driver",
)
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
CONFIG = AlterRecConfig(
    batch_prefixes=24,
    epochs=1,
    networks={
        "id": IdNetworkConfig(encoder="mean", dim=6, learning_rate=0.03),
        "together": NeighbourConfig(ridge=1.0),
    },
    mining=MiningConfig(negatives="full", augment=False),
    protocol=ProtocolConfig(exclude_session_items="no"),
)
VIEWS = ["fused", "id", "together"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The page of a run that was trained."""
    folder = tmp_path_factory.mktemp("explore")
    Trainer(CONFIG, dataset_with_markup(folder / "data"), folder / "run").run()
    with serving(Explorer(load_trained(folder / "run"), "tiny run")) as server:
        yield server


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    """A browser with a profile of its own."""
    assert CHROMIUM and DRIVER, "CI=true, but there is no Chromium; apt-get install chromium chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "--window-size=1400,1000"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


class Page:
    """The page as its reader sees it."""

    def __init__(self, driver: WebDriver, url: str):
        self.driver = driver
        driver.get("about:blank")
        driver.get(url)
        self.wait(lambda: self.text("#run") == "tiny run")

    def wait(self, condition: Callable[[], Any]) -> None:
        WebDriverWait(self.driver, 10, poll_frequency=0.05).until(lambda _: condition())

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """What an element says, read at once: the page may be drawing it anew. Empty where there is none."""
        said: str = self.driver.execute_script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
        return said.strip()

    def script(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def items(self, selector: str) -> list[str]:
        """The ids of the items that some elements are about, read at once: the page may be drawing them anew."""
        found: list[str] = self.driver.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map((node) => node.dataset.of)", selector
        )
        return found

    def ranking(self, view: str) -> list[str]:
        return self.items(f".view[data-view={view}] .found")

    def search(self, words: str, first: str) -> None:
        """Types words, and waits until an item is the first that is found, and no later answer is to come."""
        self.one("#query").send_keys(words)
        self.wait(lambda: first in self.text("#option0"))
        before = ""
        while before != (before := self.text("#results")):
            time.sleep(0.4)

    def ranked(self, *session: str) -> None:
        """Waits until the rankings of a session stand there."""
        self.wait(lambda: self.items("#session li") == [*session] and self.all("#views[aria-busy=false]"))


@pytest.fixture
def page(chromium: WebDriver, server: Server) -> Iterator[Page]:
    """The page, freshly opened; nothing may stand in the browser's log at the end."""
    yield Page(chromium, server.url)
    assert chromium.get_log("browser") == []  # type: ignore[no-untyped-call]


def test_a_session_is_built_ranked_and_explained(page: Page) -> None:
    assert "alterrec · best epoch" in page.text("#facts") and page.one("#empty").is_displayed()
    page.search("B003", "thing 3")
    page.one("#query").send_keys(Keys.ENTER)
    page.ranked("B003")
    page.search("thing 2", "thing")
    second = page.text("#option1").split("\n")[1].split(" ")[0]
    page.one("#query").send_keys(Keys.ARROW_DOWN, Keys.ENTER)
    page.ranked("B003", second)
    assert not page.one("#empty").is_displayed() and not page.one("#results").is_displayed()

    assert [one.get_attribute("data-view") for one in page.all(".view")] == VIEWS
    assert all(len(page.ranking(view)) == 10 for view in VIEWS)
    assert page.text(".view.main h2") == "fused\nmain view" and " + " in page.text(".view.main header p")
    of = page.items(".view[data-view=id] .chip")[0]
    said = page.one(".view[data-view=id] .chip").get_attribute("aria-label") or ""
    assert of in ("B003", second) and "% of what speaks for it" in said
    page.script("document.querySelector('.view[data-view=id] .chip').focus()")
    assert page.items("#session li.lit") == [of]

    page.one("#session [data-action=up][data-place='1']").click()
    page.ranked(second, "B003")
    page.one("#session [data-action=remove][data-place='0']").click()
    page.ranked("B003")
    assert {*page.items(".chip")} == {"B003"}
    page.driver.refresh()  # the address holds the session
    page.ranked("B003")
    page.one("#clear").click()
    page.wait(lambda: page.one("#empty").is_displayed() and not page.items("#session li"))


def test_own_items_come_and_go_with_the_checkbox(page: Page) -> None:
    page.search("B003", "thing 3")
    page.one("#results li").click()
    page.ranked("B003")
    assert not page.one("#exclude").is_selected() and "B003" in page.ranking("id")
    page.one("#exclude").click()
    page.wait(lambda: "B003" not in page.ranking("id"))
    page.ranked("B003")
    first = page.ranking("fused")[0]
    page.one(".view.main .add").send_keys(Keys.ARROW_DOWN, Keys.ARROW_UP, Keys.ENTER)  # adds what is recommended
    page.ranked("B003", first)


def test_names_are_text_and_never_markup(page: Page) -> None:
    page.search("onerror", "<img src=x")
    assert page.text("#option0").startswith(MARKUP)
    page.one("#query").send_keys(Keys.ENTER)
    page.ranked("B005")
    assert page.text("#session .name") == MARKUP
    assert page.driver.title == "tiny run · explore" and not page.all("img, #session b")


def test_a_test_session_tells_what_came_next(page: Page) -> None:
    page.script("Math.random = () => 0.3")
    page.one("#begin").click()
    page.wait(lambda: page.one("#next").is_displayed() and len(page.all(".view")) == len(VIEWS))
    assert "came next" in page.text("#next")
    next_item = page.text("#next .name")
    assert all(hit.text == next_item for hit in page.all(".found.hit .add > .name"))


def test_unknown_ids_and_errors_are_told(page: Page, server: Server) -> None:
    page.driver.get("about:blank")
    page.driver.get(f"{server.url}#s=nobody,B003")
    page.ranked("B003")
    assert page.text("#unknown").endswith("nobody")
    page.driver.get("about:blank")
    page.driver.get(f"{server.url}#s=nobody")
    page.wait(lambda: page.one("#error").is_displayed())
    assert "no item that training had" in page.text("#error") and not page.all(".view")
    page.driver.get_log("browser")  # type: ignore[no-untyped-call]  # the browser logs the status of that answer


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_a_desk_in_light_and_dark(page: Page, width: int, scheme: str) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
    page.search("onerror", "<img")
    page.one("#query").send_keys(Keys.ENTER)
    page.ranked("B005")
    assert page.script("return document.documentElement.scrollWidth") <= width
    red, green, blue = page.script(
        "return getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)"
    )
    assert (max(red, green, blue) < 60) == (scheme == "dark")
    assert len({one.location["y"] for one in page.all(".view")}) == 1  # side by side
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
