"""Is each barrier of a shader needed, and would the simulator say so if it were not there?

A barrier that is missing changes a result only when simdgroups happen to run in an unlucky order. So a shader's
barriers are deleted and weakened here one at a time, and each such mutant is run: the checker should catch it, and
where it does not, either the result shows it or the barrier is not needed.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from deltamoe_sim.errors import KernelFault, Report
from deltamoe_sim.library import Array, Library, Result, compile

Change = Literal["deleted", "simdgroup_barrier", "mem_none"]
Outcome = Literal["caught", "wrong result", "harmless", "not executed"]
Launch = Callable[[Library, int], tuple[Result, Mapping[str, Array]]]
"""Runs a dispatch of a library's kernel in checked mode with a seed, and hands back what it left in each output."""

BARRIER = re.compile(
    r"""//[^\n]* | /\*.*?\*/ | "(?:\\.|[^"\\])*"                                    # not in comments and strings
      | (?P<scope>(?:\w+\s*::\s*)*) \b(?P<name>threadgroup|simdgroup)_barrier \s* \((?P<flags>[^()]*)\)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Mutant:
    """A shader with one barrier deleted or weakened, and what came of it."""

    file: str
    line: int
    barrier: str
    """As it was."""
    change: Change
    """Deleted, or made a simdgroup_barrier, or given mem_flags::mem_none."""
    outcome: Outcome
    """Harmless: the same results and no report with every seed."""
    reports: tuple[Report, ...] = ()
    """Those that the shader as it was does not have."""

    def __str__(self) -> str:
        why = "".join(f"\n    {report}" for report in self.reports)
        return f"{self.file}:{self.line}: {self.barrier}: {self.change}: {self.outcome}{why}"


@dataclass(frozen=True)
class Barrier:
    """A barrier in the text of a file."""

    file: Path
    text: str
    """Of the whole file."""
    match: re.Match[str]

    @property
    def line(self) -> int:
        """Where it is."""
        return self.text.count("\n", 0, self.match.start("name")) + 1

    def replaced(self, new: str) -> str:
        """The file's text with this barrier replaced, every line where it was."""
        lost = self.match.group().count("\n") - new.count("\n")
        return self.text[: self.match.start()] + new + "\n" * lost + self.text[self.match.end() :]

    def weaker(self) -> Iterator[tuple[Change, str]]:
        """What it can be weakened to."""
        scope, name, flags = self.match.group("scope", "name", "flags")
        if name == "threadgroup":
            yield "simdgroup_barrier", f"{scope}simdgroup_barrier({flags})"
        if "mem_none" not in flags:
            yield "mem_none", f"{scope}{name}_barrier(metal::mem_flags::mem_none)"


def mutate_barriers(
    source: str | Path,
    launch: Launch,
    *,
    include: Iterable[str | Path] = (),
    files: Iterable[str | Path] | None = None,
    defines: Mapping[str, str] | None = None,
    version: int = 310,
    seeds: Sequence[int] = (0, 1, 2),
) -> list[Mutant]:
    """Deletes and weakens every barrier of a shader, one at a time.

    Args:
        source: a .metal file.
        launch: runs it; called with each mutant and each seed.
        include: directories for #include.
        files: whose barriers: headers in ``include`` or next to the source, or the source. The source alone, if None.
        defines: macros.
        version: of the Metal language.
        seeds: orders of simdgroups to try before a mutant is called harmless.

    Raises:
        ValueError: the shader's own result depends on the seed, so that no other can be compared with it.
    """
    source = Path(source).resolve()
    folders = [source.parent, *(Path(folder).resolve() for folder in include)]
    with tempfile.TemporaryDirectory() as scratch:
        copies = {folder: mirror(folder, Path(scratch, str(i))) for i, folder in enumerate(dict.fromkeys(folders))}

        def build() -> Library:
            return compile(
                copies[source.parent] / source.name, include=copies.values(), defines=defines, version=version
            )

        trial = Trial(build, launch, seeds, {str(copy): str(folder) for folder, copy in copies.items()})
        mutants: list[Mutant] = []
        for file in [source] if files is None else [Path(file).resolve() for file in files]:
            text = file.read_text()
            places = [copy / file.relative_to(folder) for folder, copy in copies.items() if file.is_relative_to(folder)]
            if not places:
                raise ValueError(f"{file} is neither next to the source nor in an include directory")
            for match in BARRIER.finditer(text):
                if match["name"]:
                    mutants += trial.mutants(Barrier(file, text, match), places)
            rewrite(places, text)
        return mutants


def mirror(folder: Path, copy: Path) -> Path:
    """A tree of links to a folder's files, in which a file can be changed."""
    shutil.copytree(folder, copy, copy_function=os.symlink)
    return copy


def rewrite(places: Iterable[Path], text: str) -> None:
    """Give a file of the copies other text."""
    for path in places:
        path.unlink()
        path.write_text(text)


class Trial:
    """A shader's run as it is, to hold its mutants' runs to."""

    def __init__(
        self, build: Callable[[], Library], launch: Launch, seeds: Sequence[int], originals: Mapping[str, str]
    ) -> None:
        self._build = build
        self._launch = launch
        self._seeds = seeds
        self._originals = originals
        library = build()
        runs = [launch(library, seed) for seed in seeds]
        self._result, self._outputs = runs[0]
        self._known = {self._identity(report) for result, _ in runs for report in result.reports}
        if not all(self._is_right(outputs) for _, outputs in runs):
            raise ValueError("the shader's results depend on the order of simdgroups: repair that first")

    def mutants(self, barrier: Barrier, places: Sequence[Path]) -> Iterator[Mutant]:
        """Delete the barrier in the copies of its file; then, if it is executed at all, weaken it."""
        deleted = self._mutant(barrier, places, "deleted", "((void)0)")
        if deleted.outcome == "harmless" and not self._is_executed(barrier, places):
            yield replace(deleted, outcome="not executed")
            return
        yield deleted
        for change, new in barrier.weaker():
            yield self._mutant(barrier, places, change, new)

    def _mutant(self, barrier: Barrier, places: Sequence[Path], change: Change, new: str) -> Mutant:
        rewrite(places, barrier.replaced(new))
        outcome, reports = self._outcome()
        what = " ".join(barrier.match.group().split())
        return Mutant(str(barrier.file), barrier.line, what, change, outcome, reports)

    def _outcome(self) -> tuple[Outcome, tuple[Report, ...]]:
        library = self._build()
        for seed in self._seeds:
            try:
                result, outputs = self._launch(library, seed)
            except KernelFault:
                return "wrong result", ()
            if reports := self._new(result):
                return "caught", reports
            if not self._is_right(outputs):
                return "wrong result", ()
        return "harmless", ()

    def _is_executed(self, barrier: Barrier, places: Sequence[Path]) -> bool:
        """Whether one more barrier in its place is seen."""
        both = f"(metal::threadgroup_barrier(metal::mem_flags::mem_none), {barrier.match.group()})"
        rewrite(places, barrier.replaced(both))
        try:
            result, _ = self._launch(self._build(), self._seeds[0])
        except KernelFault:
            return True
        return bool(self._new(result)) or result.counters.barriers != self._result.counters.barriers

    def _is_right(self, outputs: Mapping[str, Array]) -> bool:
        """To the bit."""
        return all(
            np.array_equal(self._outputs[name].view(np.uint8), found.view(np.uint8)) for name, found in outputs.items()
        )

    def _new(self, result: Result) -> tuple[Report, ...]:
        """Reports that the shader as it was does not have, in terms of its files."""
        return tuple(
            replace(report, file=self._original(report.file))
            for report in result.reports
            if self._identity(report) not in self._known
        )

    def _identity(self, report: Report) -> tuple[str, str, int]:
        return report.kind, report.file, report.line

    def _original(self, file: str) -> str:
        for copy, folder in self._originals.items():
            if file.startswith(copy + os.sep):
                return folder + file.removeprefix(copy)
        return file
