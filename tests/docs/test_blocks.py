"""Every code block says in which language it is and holds what that language understands; named files exist."""

import json
import pathlib
import re

import pytest

from tests.docs.pages import PAGES, ROOT, Block, blocks, spans

BLOCKS = [block for page in PAGES for block in blocks(page)]
LANGUAGES = {"sh", "python", "json", "text", "{toctree}"}  # a shell's are in test_commands, the trees in the site
SOURCES = ("", "alterrec_jax", "docs", "experiments", "data_tools", "tests")
# Made by the reader who follows docs/add_a_model.md, released by others, or left by a command.
ELSEWHERE = re.compile(r"last_item\.py|pytorch_code/|^(runs|data|served|DIR|RUN)/|[*$]")


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_a_block_is_in_its_language(block: Block) -> None:
    assert block.language in LANGUAGES, "write the language behind the fence"
    if block.language == "python":
        compile(block.text, block.where, "exec")
    elif block.language == "json":
        json.loads(block.text)


def test_every_page_has_whole_fences() -> None:
    odd = [page.name for page in PAGES if len(re.findall(r"^```", page.read_text("utf-8"), re.MULTILINE)) % 2]
    assert odd == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: pathlib.Path) -> None:
    named = {span.text for span in spans(page) if re.fullmatch(r"[\w.-]+(/[\w.*$-]+)+\.\w+|(\w+/)+", span.text)}
    missing = [name for name in named if not ELSEWHERE.search(name) and not _exists(name)]
    assert sorted(missing) == []


def test_the_tree_of_the_architecture_is_that_of_the_library() -> None:
    (tree,) = (block for block in BLOCKS if block.text.startswith("alterrec_jax/\n"))
    rooms = re.findall(r"^  (\w+)(/?) ", tree.text, re.MULTILINE)
    library = ROOT / "alterrec_jax"
    assert [name for name, folder in rooms if not (library / (name if folder else f"{name}.py")).exists()] == []
    there = {path.stem for path in library.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert there - {"__init__", "__pycache__"} == {name for name, _ in rooms}


def _exists(name: str) -> bool:
    return any((ROOT / source / name).exists() for source in SOURCES)
