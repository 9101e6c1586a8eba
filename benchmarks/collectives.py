"""The collectives of a compiled program, read from its HLO text: what devices send one another, and how often.

The text of programs for CPU is read, where a collective is one instruction. What is not understood is an error, for
bytes that nobody counts would look like savings.
"""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

Groups = frozenset[frozenset[int]]
"""Which devices, by their place in the mesh, take part in a collective together."""

_KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|ragged-all-to-all|collective-permute|collective-broadcast"
_COLLECTIVE = re.compile(rf" = (?P<results>.*?) (?P<kind>{_KINDS})(?P<start>-start)?\(")
_GROUPS = re.compile(r"replica_groups=(\{\{.*?\}\}|mesh\[(.*?)\](?:, device_ids=\((.*?)\))? \{(.*?)\})(?:, |$)")
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%(?P<name>[\w.\-]+) .*\{$")
_CALLED = re.compile(r"(\w+)=(%[\w.\-]+|\{%[^}]*\})")
_ROUNDS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


class Collective(NamedTuple):
    """One collective.

    Attributes:
      kind: as in HLO, like "all-reduce".
      shapes: of its results, on one device.
      bytes: of its results, on one device.
      groups: who takes part together.
      times: how often it runs. A loop whose rounds the compiler does not know counts as going round once.
      searching: whether it is in such a loop.
    """

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    bytes: int
    groups: Groups
    times: int
    searching: bool


def read(text: str) -> list[Collective]:
    """The collectives of a program, by the text of its HLO after compilation.

    Raises:
      ValueError: one of them is written in a way that is not known here.
    """
    computations, entry = _computations(text)
    found: list[Collective] = []

    def visit(name: str, times: int, searching: bool) -> None:
        for line in computations[name]:
            if match := _COLLECTIVE.search(line):
                found.append(_collective(match, line, times, searching))
            rounds = _ROUNDS.search(line)
            loop = " while(" in line
            for _, called in _CALLED.findall(line):
                for callee in re.findall(r"%([\w.\-]+)", called):
                    if callee in computations:
                        of_loop = int(rounds[1]) if loop and rounds else 1
                        visit(callee, times * of_loop, searching or (loop and not rounds))

    visit(entry, 1, False)
    return found


def sent(kind: str, results: int, devices: int) -> float:
    """Bytes that each of some devices sends in a collective with so many bytes of results, by ring algorithms."""
    of_all = {"all-reduce": 2 * results, "all-gather": results}  # reduce, then gather; or gather alone
    return of_all[kind] * (devices - 1) / devices


def axis_of(groups: Groups, sizes: Mapping[str, int]) -> str:
    """The axis of a mesh along which groups of devices lie, or all axes, separated by commas.

    `sizes` are the devices along each axis, the last of which changes fastest.

    Raises:
      ValueError: they lie otherwise.
    """
    places = np.arange(math.prod(sizes.values())).reshape(tuple(sizes.values()))
    for number, axis in enumerate(sizes):
        if groups == _groups_of(np.moveaxis(places, number, -1).reshape(-1, sizes[axis])):
            return axis
    if groups == _groups_of(places.reshape(1, -1)):
        return ",".join(sizes)
    raise ValueError(f"groups along no axis of {dict(sizes)}: {sorted(map(sorted, groups))}")


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation by its name, and the name of the one that is the program."""
    computations: dict[str, list[str]] = {}
    name = entry = ""
    for line in text.splitlines():
        if start := _COMPUTATION.match(line):
            name = start["name"]
            computations[name] = []
            entry = name if start["entry"] else entry
        elif name:
            computations[name].append(line)
    return computations, entry


def _collective(match: re.Match[str], line: str, times: int, searching: bool) -> Collective:
    if match["start"]:
        raise ValueError(f"a collective in two instructions: {line.strip()}")
    results = re.findall(r"([a-z]\w*)\[([\d,]*)\]", match["results"])
    shapes = tuple(_numbers(dimensions) for _, dimensions in results)
    widths = [1 if kind == "pred" else int(re.findall(r"\d+", kind)[0]) // 8 for kind, _ in results]
    size = sum(width * math.prod(shape) for width, shape in zip(widths, shapes, strict=True))
    return Collective(match["kind"], shapes, size, _groups(line), times, searching)


def _groups(line: str) -> Groups:
    """Of a collective: {{0,1},{2,3}}, or mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'a'}."""
    match = _GROUPS.search(line)
    if match is None:
        raise ValueError(f"groups of devices in unknown words: {line.strip()}")
    written, sizes, order, axes = match.groups()
    if sizes is None:
        return frozenset(frozenset(_numbers(group)) for group in re.findall(r"\{([\d,]+)\}", written))
    named = {axis: int(size) for axis, size in re.findall(r"'(\w+)'=(\d+)", sizes)}
    places: np.ndarray = np.arange(math.prod(named.values()))
    if order:
        of_order = re.fullmatch(r"\[([\d,]+)\](?:T\(([\d,]+)\))?", order)
        if of_order is None:
            raise ValueError(f"an order of devices in unknown words: {line.strip()}")
        places = places.reshape(_numbers(of_order[1])).transpose(_numbers(of_order[2]) if of_order[2] else None)
    places = places.reshape(tuple(named.values()))
    along = [list(named).index(axis) for axis in re.findall(r"'(\w+)'", axes)]
    if axes != ",".join(f"'{list(named)[number]}'" for number in along):  # parts of axes have more words
        raise ValueError(f"groups along a part of an axis: {line.strip()}")
    count = math.prod(places.shape[number] for number in along)
    return _groups_of(np.moveaxis(places, along, range(-len(along), 0)).reshape(-1, count))


def _groups_of(rows: np.ndarray) -> Groups:
    return frozenset(frozenset(row) for row in rows.tolist())


def _numbers(words: str) -> tuple[int, ...]:
    return tuple(int(word) for word in words.split(",") if word)
