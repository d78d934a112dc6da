from typing import Any

import numpy.typing as npt

NO_SITE: int

class Buffer:
    def __init__(
        self,
        name: str,
        array: npt.NDArray[Any],
        read_only: bool,
        granule: int,
        written: npt.NDArray[Any] | None = None,
    ) -> None: ...

class Report:
    @property
    def kind(self) -> str: ...
    @property
    def site(self) -> int: ...
    @property
    def message(self) -> str: ...
    @property
    def threadgroup(self) -> tuple[int, int, int]: ...
    @property
    def simdgroup(self) -> int: ...
    @property
    def lane(self) -> int: ...
    @property
    def count(self) -> int: ...

class Outcome:
    @property
    def fault(self) -> str: ...
    @property
    def site(self) -> int: ...
    @property
    def threadgroup(self) -> tuple[int, int, int]: ...
    @property
    def simdgroup(self) -> int: ...
    @property
    def lane(self) -> int: ...
    @property
    def reports(self) -> list[Report]: ...
    @property
    def counters(self) -> dict[str, Any]: ...
    @property
    def traffic(self) -> list[tuple[int, int, int, int]]: ...
    @property
    def seconds(self) -> float: ...

def symbols() -> dict[str, int]: ...
def dispatch(
    entry: int,
    buffers: list[Buffer],
    bindings: list[tuple[int, int, int]],
    threadgroup_bytes: list[int],
    threadgroups: tuple[int, int, int],
    threads: tuple[int, int, int],
    threads_per_threadgroup: tuple[int, int, int],
    constants: list[tuple[int, int]],
    checked: bool,
    workers: int,
    seed: int,
    timeout: float,
) -> Outcome: ...
