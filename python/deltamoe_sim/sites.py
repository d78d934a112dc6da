"""Where in the source an instruction comes from, out of the debug metadata of LLVM IR."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from deltamoe_sim.ir import RENDEZVOUS, bracket_end, function_name, functions


@dataclass(frozen=True)
class Frame:
    """A place in the source."""

    file: str
    line: int
    column: int
    function: str


Site = tuple[Frame, ...]
"""A place in the program: its frame and those that it was inlined into, innermost first."""

_METADATA = re.compile(
    r"^!(\d+) = (?:distinct )?!(DI(?:Location|Subprogram|LexicalBlock|LexicalBlockFile|File))\((.*)\)$"
)
_FIELD = re.compile(r'(\w+): (?:"((?:[^"\\]|\\.)*)"|!?([^,]+))')
_LOCATION = re.compile(r"!dbg !(\d+)")


class Sites:
    """Numbers the places of a module that the executor may report."""

    def __init__(self, ir: str) -> None:
        self.table: list[Site] = []
        matches = (_METADATA.match(line) for line in ir.split("\n") if line.startswith("!"))
        self._nodes = {match[1]: (match[2], match[3]) for match in matches if match}
        self._fields = cache(self._read_fields)
        self._shared: dict[Site, int] = {}

    def unique(self, define: str, line: str) -> int:
        """A number of its own for an instruction of the function that begins with the line `define`."""
        self.table.append(self._site(define, line))
        return len(self.table) - 1

    def in_function(self, define: str) -> Callable[..., int]:
        """Of one function: what gives the number of an instruction's place, shared by all that stand there."""

        @cache
        def number(location: str) -> int:
            site = self._site(define, location)
            if site not in self._shared:
                self._shared[site] = len(self.table)
                self.table.append(site)
            return self._shared[site]

        def at(line: str = "") -> int:
            match = _LOCATION.search(line)
            return number(match[0] if match else "")

        return at

    def _site(self, define: str, line: str) -> Site:
        if location := _LOCATION.search(line):
            return self._frames(location[1])
        if subprogram := _LOCATION.search(define):
            fields = self._fields(subprogram[1])
            return (Frame(self._file(fields), int(fields.get("line", 0)), 0, fields.get("name", "")),)
        return (Frame("", 0, 0, function_name(define)),)

    def _frames(self, location: str) -> Site:
        frames: list[Frame] = []
        while location:
            here = self._fields(location)
            scope = self._fields(here.get("scope", ""))
            file = self._file(scope)
            while "scope" in scope and scope["kind"] != "DISubprogram":
                scope = self._fields(scope["scope"])
            frames.append(Frame(file, int(here.get("line", 0)), int(here.get("column", 0)), scope.get("name", "")))
            location = here.get("inlinedAt", "")
        return tuple(frames)

    def _file(self, scope: dict[str, str]) -> str:
        return self._fields(scope.get("file", "")).get("filename", "")

    def _read_fields(self, node: str) -> dict[str, str]:
        kind, text = self._nodes.get(node, ("", ""))
        return {"kind": kind, **{name: quoted or value for name, quoted, value in _FIELD.findall(text)}}


_MEETING = re.compile("@(?:" + "|".join(re.escape(prefix) for prefix in RENDEZVOUS) + ")")


def number_calls(ir: str, sites: Sites) -> str:
    """Gives each call of a function at which lanes meet a number of its own, as a last argument."""
    lines = ir.split("\n")
    for number, line in enumerate(lines):
        if line.startswith("declare ") and (match := _MEETING.search(line)):
            lines[number] = _append(line, match.end(), "i32")
    for start, end in functions(lines):
        for number in range(start + 1, end):
            if (match := _MEETING.search(lines[number])) and " call " in lines[number]:
                site = sites.unique(lines[start], lines[number])
                lines[number] = _append(lines[number], match.end(), f"i32 {site}")
    return "\n".join(lines)


def _append(line: str, name_end: int, argument: str) -> str:
    opening = line.index("(", name_end)
    closing = bracket_end(line, opening) - 1
    return f"{line[:closing]}{', ' * (closing > opening + 1)}{argument}{line[closing:]}"
