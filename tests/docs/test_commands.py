"""Every command of README, BUILD.md, the docs and the configurations exists, with its flags, choices and fields."""

import contextlib
import pkgutil
import re
from collections.abc import Iterator, Mapping

import pytest

from alterrec_jax.models.registry import families
from alterrec_jax.serving import requests
from experiments.models import fields_of
from tests.command_flags import Interface, command_modules, interface, parse
from tests.docs.pages import CONFIGS, PAGES, ROOT, Block, blocks, commands, docstring_blocks, spans

# What stands for a value of the reader's own, or is made by docs/add_a_model.md, and a value that its flag takes.
PLACEHOLDERS = {
    "FILE": "experiments/configs/best.py",
    "experiments/configs/last_item.py": "experiments/configs/best.py",
    "last_item": "best",
    "K": "20",
    "N": "2",
    "I": "0",
}
# What the shell puts into the commands of results/README.md.
VARIABLES = {
    "experiments.paper.$1": "experiments.paper.comparison",
    "--config=$CONFIG": "--config=experiments/configs/quickstart.py",
    "$OVERRIDES": "--config.networks.id.dim=64",
    "--seeds=$2": "--seeds=0,1,2",
}
PROGRAMS = re.compile(r"(\.venv/bin/)?(python3?|pip)|make|echo|alterrec|jupyter|study\(\)|for|\}")
MODULE = re.compile(r"(experiments|data_tools|benchmarks|docs)\.\w[\w.]*")
OF_MAKE = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
OF_FAULTS = re.findall(r'"--(\w+)"', (ROOT / "faults/conftest.py").read_text(encoding="utf-8"))

_SHELL = [block for page in PAGES for block in blocks(page) if block.language == "sh"]
_SPANS = [block for page in PAGES for block in spans(page)]
WHOLE = [
    *_SHELL,
    *(block for path in CONFIGS for block in docstring_blocks(path)),
    *(span for span in _SPANS if re.match(r"(python -m|alterrec|make) \w", span.text)),
]
PARTS = [span for span in _SPANS if re.match(r"--[a-z]", span.text) or MODULE.match(span.text)]


def _page(block: Block) -> str:
    return block.where.partition(":")[0]


@contextlib.contextmanager
def _where(what: str) -> Iterator[None]:
    """Tells of which command an error is."""
    try:
        yield
    except Exception as error:
        error.add_note(what)
        raise


@pytest.fixture(scope="module")
def interfaces() -> Mapping[str, Interface]:
    """What each command understands."""
    return {module: interface(module) for module in command_modules()}


@pytest.fixture(scope="module")
def fields() -> set[str]:
    """The fields of all families; a network's own name is NAME."""
    return {_without_names(field.name) for one in families().values() for field in fields_of(one.config())}


@pytest.mark.parametrize("page", sorted({_page(block) for block in WHOLE}))
def test_commands_are_understood(
    page: str, interfaces: Mapping[str, Interface], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    for block in WHOLE:
        if _page(block) != page:
            continue
        for command in commands(block):
            if not command.module:
                check_other_program(command.where, command.words)
                continue
            for module, words in alternatives(command.module, command.words):
                assert module in interfaces, f"{command.where}: there is no command {module}"
                if words or block.language != "span":  # a span may only name a command
                    with _where(f"{command.where}: {module} {' '.join(words)}"):
                        parse(interfaces[module], words, monkeypatch)


@pytest.mark.parametrize("page", sorted({_page(span) for span in PARTS}))
def test_parts_of_commands_are_understood(page: str, interfaces: Mapping[str, Interface], fields: set[str]) -> None:
    for span in PARTS:
        if _page(span) != page:
            continue
        (command,) = commands(span)
        words, known = command.words, list(interfaces.values())
        if len(words) == 1 and MODULE.fullmatch(words[0]) and words[0] not in interfaces:
            pkgutil.resolve_name(words[0])  # no command, but a module, or what is in it
            continue
        if MODULE.fullmatch(words[0]):
            assert words[0] in interfaces, f"{span.where}: there is no command {words[0]}"
            known, words = [interfaces[words[0]]], words[1:]
        for word in words:
            name, _, value = word.removeprefix("--").partition("=")
            if name.startswith("config."):
                field = _without_names(name.removeprefix("config."))
                assert field in fields, f"{span.where}: no system has a field {field}"
            elif name not in ("help", *OF_FAULTS):
                assert any(understands(one, name, value) for one in known), f"{span.where}: no command takes {word}"


def test_what_does_not_exist_is_noticed(interfaces: Mapping[str, Interface], monkeypatch: pytest.MonkeyPatch) -> None:
    train, evaluate = interfaces["experiments.train"], interfaces["experiments.evaluate"]
    given = ("--config=experiments/configs/best.py", "--data_dir=DIR", "--workdir=DIR")
    parse(train, given, monkeypatch)
    for wrong in ("--config.networks.id.depth=2", "--config.networks.id.dropout=2", "--split=test", "--precision=int8"):
        with pytest.raises(Exception, match=r"depth|dropout|split|int8"):
            parse(train, (*given, wrong), monkeypatch)
    with pytest.raises(Exception, match="workdir"):
        parse(train, given[:2], monkeypatch)
    assert understands(evaluate, "nocomponents", "") and understands(evaluate, "split", "test")
    assert not understands(evaluate, "split", "training") and not understands(evaluate, "epochs", "")


def understands(one: Interface, name: str, value: str) -> bool:
    """Whether a command has a flag, or its negation, and takes a value for it; without a value, whether it has it."""
    flag = one.flags.get(name, one.flags.get(name.removeprefix("no")))
    if flag is None or not value:
        return flag is not None
    try:
        flag.parser.parse(PLACEHOLDERS.get(value, value))
    except ValueError:
        return False
    return True


def check_other_program(where: str, words: tuple[str, ...]) -> None:
    """Checks a command that is not one of ours, as far as targets, files, options and requests go."""
    assert PROGRAMS.fullmatch(words[0]), f"{where}: what is {words[0]}?"
    match words:
        case ("make", target, *rest):
            assert target in OF_MAKE, f"{where}: make has no {target}"
            arguments = " ".join(rest).removeprefix("ARGS=").split()
            assert all((ROOT / word).exists() for word in arguments if word.startswith("tests/"))
            assert {word.partition("=")[0][2:] for word in arguments if word.startswith("--")} <= set(OF_FAULTS)
        case ("echo", line):
            assert requests.parse(line.encode())["session"]
        case ("for", *_):
            names = " ".join(words).partition(" in ")[2].partition(";")[0].split()
            assert names and all((ROOT / f"experiments/paper/{name}.py").is_file() for name in names)


def alternatives(module: str, words: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
    """A command with values for what stands for one; where it says "a|b", one command for each."""
    module = VARIABLES.get(module, module.replace("paper.NAME", "paper.comparison"))
    package, _, names = module.rpartition(".")
    lists: list[tuple[str, ...]] = [()]
    for word in words:
        name, equals, value = VARIABLES.get(word, word).rpartition("=")
        values = [PLACEHOLDERS.get(one, one) for one in value.split("|")]
        if name == "--config":  # a bare name is one of ours
            values = [f"experiments/configs/{one}.py" if one.isidentifier() else one for one in values]
        lists = [(*before, name + equals + one) for before in lists for one in values]
    return [(f"{package}.{one}", found) for one in names.split("|") for found in lists]


def _without_names(field: str) -> str:
    return re.sub(r"^networks\.\w+", "networks.NAME", field)
