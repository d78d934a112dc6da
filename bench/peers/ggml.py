"""ggml, as the ``llama-cpp-python`` wheel brings it, through ctypes: tensors, graphs and the CPU back end."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Sequence
from ctypes import CDLL, POINTER, Structure, c_bool, c_char_p, c_float, c_int, c_int64, c_size_t, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from deltamoe.errors import DeltamoeError

__all__ = ["Graph", "Tensor", "Weights", "library_folder", "version"]

F32, I32 = 0, 26
CPU_FEATURES = ("avx2", "avx512", "avx512_vbmi", "avx512_vnni", "avx512_bf16", "amx_int8", "neon", "dotprod")

Tensor = c_void_p
Array = np.ndarray[Any, Any]


class _InitParams(Structure):
    _fields_ = (("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool))


_DIMENSIONS = [c_int64] * 4
_FUNCTIONS: dict[str, Any] = {
    "ggml_init": (c_void_p, [_InitParams]),
    "ggml_free": (None, [c_void_p]),
    "ggml_tensor_overhead": (c_size_t, []),
    "ggml_graph_overhead": (c_size_t, []),
    "ggml_nbytes": (c_size_t, [Tensor]),
    "ggml_new_tensor_4d": (Tensor, [c_void_p, c_int, *_DIMENSIONS]),
    "ggml_view_2d": (Tensor, [c_void_p, Tensor, c_int64, c_int64, c_size_t, c_size_t]),
    "ggml_add": (Tensor, [c_void_p, Tensor, Tensor]),
    "ggml_mul": (Tensor, [c_void_p, Tensor, Tensor]),
    "ggml_swiglu_split": (Tensor, [c_void_p, Tensor, Tensor]),
    "ggml_mul_mat_id": (Tensor, [c_void_p, Tensor, Tensor, Tensor]),
    "ggml_gated_delta_net": (Tensor, [c_void_p, *[Tensor] * 6, c_int64]),
    "ggml_new_graph": (c_void_p, [c_void_p]),
    "ggml_build_forward_expand": (None, [c_void_p, Tensor]),
    "ggml_backend_cpu_init": (c_void_p, []),
    "ggml_backend_cpu_set_n_threads": (None, [c_void_p, c_int]),
    "ggml_backend_cpu_reg": (c_void_p, []),
    "ggml_backend_cpu_buffer_type": (c_void_p, []),
    "ggml_backend_reg_dev_get": (c_void_p, [c_void_p, c_size_t]),
    "ggml_backend_reg_get_proc_address": (c_void_p, [c_void_p, c_char_p]),
    "ggml_backend_buft_name": (c_char_p, [c_void_p]),
    "ggml_backend_alloc_ctx_tensors_from_buft": (c_void_p, [c_void_p, c_void_p]),
    "ggml_backend_buffer_free": (None, [c_void_p]),
    "ggml_backend_tensor_set": (None, [Tensor, c_void_p, c_size_t, c_size_t]),
    "ggml_backend_tensor_get": (None, [Tensor, c_void_p, c_size_t, c_size_t]),
    "ggml_backend_graph_compute": (c_int, [c_void_p, c_void_p]),
    "ggml_version": (c_char_p, []),
    "ggml_log_set": (None, [c_void_p, c_void_p]),
} | {f"ggml_cpu_has_{name}": (c_int, []) for name in CPU_FEATURES}


_SILENT = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)(lambda level, text, data: None)


def library_folder() -> Path:
    """Where the wheel has its shared libraries.

    Raises:
        DeltamoeError: it is not installed.
    """
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or not spec.submodule_search_locations:
        raise DeltamoeError(
            "llama-cpp-python is not installed; in a checkout, make bench-peers builds it for this CPU (ten minutes or "
            "more) and runs this"
        )
    return Path(spec.submodule_search_locations[0]) / "lib"


@cache
def _ggml() -> Any:
    """All of its functions, with their types, under one roof.

    Raises:
        DeltamoeError: it is not installed, or another version of it that lacks a function.
    """
    folder = library_folder()
    suffix = ".dylib" if (folder / "libggml-cpu.dylib").exists() else ".so"
    try:
        libraries = [CDLL(str(folder / f"lib{name}{suffix}")) for name in ("ggml-base", "ggml-cpu")]
    except OSError as error:
        raise DeltamoeError(
            f"ggml does not load ({error}); another llama-cpp-python than that of pyproject.toml?"
        ) from None
    functions = {}
    for name, (result, arguments) in _FUNCTIONS.items():
        function = next((getattr(library, name) for library in libraries if hasattr(library, name)), None)
        if function is None:
            raise DeltamoeError(f"{folder} has no {name}; install the llama-cpp-python that pyproject.toml names")
        function.restype, function.argtypes = result, arguments
        functions[name.removeprefix("ggml_")] = function
    functions["log_set"](_SILENT, None)
    return type("Ggml", (), {name: staticmethod(function) for name, function in functions.items()})


def version() -> str:
    """ggml's version and the instruction sets that it was built for."""
    ggml = _ggml()
    found = [name for name in CPU_FEATURES if getattr(ggml, f"cpu_has_{name}")()]
    return f"ggml {ggml.version().decode()} ({', '.join(found)})"


class _Context:
    """Tensors in memory of one kind."""

    def __init__(self, tensors: int) -> None:
        self.ggml = _ggml()
        size = tensors * self.ggml.tensor_overhead() + self.ggml.graph_overhead()
        self.context = self.ggml.init(_InitParams(size, None, True))
        self.buffer: int | None = None

    def __del__(self) -> None:
        if getattr(self, "buffer", None):
            self.ggml.backend_buffer_free(self.buffer)
        if getattr(self, "context", None):
            self.ggml.free(self.context)

    def new(self, kind: int, shape: Sequence[int]) -> Tensor:
        """A tensor of numpy's ``shape``, without memory yet."""
        dimensions = [*reversed(shape), *[1] * (4 - len(shape))]
        return Tensor(self.ggml.new_tensor_4d(self.context, kind, *dimensions))

    def allocate(self, kind: int) -> None:
        self.buffer = self.ggml.backend_alloc_ctx_tensors_from_buft(self.context, kind)
        if not self.buffer:
            raise DeltamoeError("ggml could not allocate its tensors; free some memory")

    def set(self, tensor: Tensor, values: Array) -> None:
        values = np.ascontiguousarray(values)
        expected = self.ggml.nbytes(tensor)
        assert values.nbytes == expected, f"{values.nbytes} bytes for a tensor of {expected}"
        self.ggml.backend_tensor_set(tensor, values.ctypes.data, 0, values.nbytes)


class Weights(_Context):
    """Quantised matrices ``[experts, rows, columns]``, as raw blocks or in the form that ggml repacks them to."""

    def __init__(self, kind: int, blocks: Sequence[Array], columns: Sequence[int], *, repacked: bool) -> None:
        """
        Args:
            kind: ggml's number of the format.
            blocks: uint8 [experts, rows, bytes of a row] each.
            columns: of each.
        """
        super().__init__(len(blocks))
        self.tensors = [self.new(kind, (*b.shape[:2], n)) for b, n in zip(blocks, columns, strict=True)]
        self.allocate(_repacking() if repacked else self.ggml.backend_cpu_buffer_type())
        for tensor, values in zip(self.tensors, blocks, strict=True):
            self.set(tensor, values)


def _repacking() -> int:
    """The memory whose tensors ggml repacks, the default of llama.cpp."""
    ggml = _ggml()
    registry = ggml.backend_cpu_reg()
    address = ggml.backend_reg_get_proc_address(registry, b"ggml_backend_dev_get_extra_bufts")
    kinds = ctypes.CFUNCTYPE(POINTER(c_void_p), c_void_p)(address)(ggml.backend_reg_dev_get(registry, 0))
    for kind in kinds:
        if not kind:
            break
        if b"REPACK" in ggml.backend_buft_name(kind):
            return kind
    raise DeltamoeError("this ggml was built without repacking (GGML_CPU_REPACK)")


class Graph(_Context):
    """A computation and its tensors, each in memory of its own."""

    TENSORS = 64

    def __init__(self, threads: int) -> None:
        super().__init__(self.TENSORS)
        self.backend = _backend(threads)
        self.values: list[tuple[Tensor, Array]] = []
        self.graph: int | None = None

    def input(self, values: Array) -> Tensor:
        """A tensor that holds float32 or int32 ``values``."""
        tensor = self.new({"f": F32, "i": I32}[values.dtype.kind], values.shape)
        self.values.append((tensor, values))
        return tensor

    def op(self, name: str, *arguments: Any) -> Tensor:
        """``ggml_NAME``"""
        return Tensor(getattr(self.ggml, name)(self.context, *arguments))

    def build(self, output: Tensor) -> None:
        """Make it ready to run."""
        self.output = output
        self.graph = self.ggml.new_graph(self.context)
        self.ggml.build_forward_expand(self.graph, output)
        self.allocate(self.ggml.backend_cpu_buffer_type())
        for tensor, values in self.values:
            self.set(tensor, values)

    def run(self) -> None:
        status = self.ggml.backend_graph_compute(self.backend, self.graph)
        if status != 0:
            raise DeltamoeError(f"ggml's graph ended with status {status}")

    def result(self) -> Array:
        """What the last run put out, flat float32."""
        values = np.empty(self.ggml.nbytes(self.output) // ctypes.sizeof(c_float), np.float32)
        self.ggml.backend_tensor_get(self.output, values.ctypes.data, 0, values.nbytes)
        return values


@cache
def _backend(threads: int) -> int:
    backend = _ggml().backend_cpu_init()
    _ggml().backend_cpu_set_n_threads(backend, threads)
    return int(backend)
