"""mlx-lm's gated delta kernels: the text that MLX would compile for a GPU, and the launch that mlx-lm asks for.

mlx-lm hands pieces of source to ``mx.fast.metal_kernel``. MLX without Metal cannot run such a kernel, but it can export
a function that calls one, and then generates the text as for a GPU and, when asked, prints it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any
from unittest import mock

import mlx.core as mx


@dataclass(frozen=True)
class Captured:
    """A kernel as mlx-lm calls it."""

    kernel: str
    source: str
    grid: tuple[int, int, int]
    """Threads."""
    threadgroup: tuple[int, int, int]


def capture(function: str, *arrays: mx.array) -> Captured:
    """What ``function`` of ``mlx_lm.models.gated_delta`` launches for these arrays."""
    calls: list[dict[str, Any]] = []
    call = getattr(gated_delta_module(calls), function)
    with tempfile.TemporaryDirectory() as folder, standard_output() as printed:
        mx.export_function(str(Path(folder) / "function"), call, *arrays)
        printed.seek(0)
        text = printed.read()
    source = text[text.index("```\n") + 4 : text.rindex("```")]
    name = re.search(r'host_name\("(\w+)"\)', source)
    assert name is not None, f"no kernel in what MLX generated:\n{text}"
    (only,) = calls
    return Captured(name[1], source, only["grid"], only["threadgroup"])


def gated_delta_module(calls: list[dict[str, Any]]) -> ModuleType:
    """A copy of mlx-lm's module that believes in a GPU and notes the calls of its kernels."""
    real: Callable[..., Any] = mx.fast.metal_kernel

    def noting(**definition: Any) -> Callable[..., Any]:
        kernel = real(**definition)

        def launch(**arguments: Any) -> Any:
            calls.append(arguments)
            return kernel(**arguments, verbose=True)

        return launch

    package = importlib.util.find_spec("mlx_lm")
    assert package is not None, "mlx-lm is not installed"
    assert package.submodule_search_locations is not None
    path = Path(package.submodule_search_locations[0]) / "models" / "gated_delta.py"
    spec = importlib.util.spec_from_file_location("captured_gated_delta", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with (
        mock.patch.object(mx.fast, "metal_kernel", noting),
        mock.patch.object(mx.metal, "is_available", return_value=True),
    ):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def standard_output() -> Iterator[IO[str]]:
    """A file that gets what this process prints, from C++ as well."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with tempfile.TemporaryFile("w+") as file:
            os.dup2(file.fileno(), 1)
            try:
                yield file
            finally:
                os.dup2(kept, 1)
    finally:
        os.close(kept)
