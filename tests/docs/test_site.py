"""The site of the docs: it builds without a warning, so every link and every anchor leads somewhere."""

import pathlib
import subprocess
import sys

from docs import configuration
from tests.docs.pages import PAGES, ROOT


def test_the_site_builds_and_every_link_leads_somewhere(tmp_path: pathlib.Path) -> None:
    flags = ["-q", "-W", "--keep-going", "-d", str(tmp_path / "read"), "-c", "docs"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *flags, ".", str(tmp_path / "site")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    made = {path.relative_to(tmp_path / "site") for path in (tmp_path / "site").rglob("*.html")}
    assert {page.relative_to(ROOT).with_suffix(".html") for page in PAGES} <= made
    assert pathlib.Path("index.html") in made


def test_the_page_of_the_fields_is_that_of_the_records() -> None:
    found = configuration.PAGE.read_text(encoding="utf-8")
    assert found == configuration.page(), "make it anew: python -m docs.configuration"
