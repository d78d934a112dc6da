"""From a module to a function in memory: optimisation, checks, code generation, linking."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import llvmlite.binding as llvm

from deltamoe_sim.errors import LaunchError, SimError
from deltamoe_sim.instrument import ENTRY, GLOBALS, instrument
from deltamoe_sim.ir import collect_constructors, drop_address_spaces, drop_target, drop_unset, specialise
from deltamoe_sim.lower import lower_functions, lower_matrices, lower_threadgroup_variables
from deltamoe_sim.module import Module
from deltamoe_sim.sites import Site, Sites, number_calls

INITIALISE = "sim.initialise"
LIBRARY_FUNCTIONS = frozenset(
    name + suffix
    for names, suffixes in (
        ("memcpy memmove memset memcmp", ("",)),
        (
            "acos asin atan atan2 cbrt ceil copysign cos cosh exp exp10 exp2 fabs floor fma fmax fmin fmod ldexp",
            ("", "f"),
        ),
        ("log log10 log2 nearbyint pow rint round roundeven sin sincos sinh sqrt tan tanh trunc", ("", "f")),
    )
    for name in names.split()
    for suffix in suffixes
)
"""Of the C library, what code generation may call."""


class Executable:
    """A kernel in memory, ready to be called."""

    def __init__(self, object_code: bytes, sites: Iterable[Site], symbols: Mapping[str, int]) -> None:
        """Links object code that `compile_kernel` made; `symbols` are the addresses of what it may call."""
        self.sites = list(sites)
        library = llvm.JITLibraryBuilder().add_object_img(object_code)
        for name, address in {**_library_functions(), **symbols}.items():
            library.import_symbol(name, address)
        for name in (ENTRY, INITIALISE, GLOBALS):
            library.export_symbol(name)
        try:
            self._library = library.link(_linker(), f"kernel.{next(_numbers)}")
        except RuntimeError as error:
            raise SimError(f"the kernel's code cannot be linked: {error}") from error
        self.entry: int = self._library[ENTRY]
        table = ctypes.cast(self._library[GLOBALS], ctypes.POINTER(ctypes.c_uint64))
        self.globals = [(table[1 + 2 * i], table[2 + 2 * i]) for i in range(table[0])]
        """Address and size of each of the module's own variables."""
        ctypes.CFUNCTYPE(None)(self._library[INITIALISE])()


def build(
    module: Module, kernel: str, constants: Mapping[int, Any], checked: bool, symbols: Mapping[str, int]
) -> Executable:
    """Compiles a kernel, with the given values of function constants, and links it."""
    object_code, sites = compile_kernel(module, kernel, constants, checked, symbols)
    return Executable(object_code, sites, symbols)


def compile_kernel(
    module: Module, kernel: str, constants: Mapping[int, Any], checked: bool, symbols: Iterable[str]
) -> tuple[bytes, list[Site]]:
    """Compiles a kernel to object code; also returns the places in the source that the code refers to by number."""
    if kernel not in module.kernels:
        raise LaunchError(f"unknown kernel {kernel!r}; the library has: {', '.join(sorted(module.kernels)) or 'none'}")
    text = _only(module.ir, module.kernels[kernel].symbol)
    text = drop_address_spaces(lower_matrices(lower_threadgroup_variables(drop_target(text))))
    text = specialise(text, module.constants, constants)
    unset = {c.symbol: f"{c.name} (index {i})" for i, c in module.constants.items() if i not in constants}
    if unset:
        text, unset = drop_unset(_fold(text), unset)
    text = lower_functions(text)
    text = _simplify(text) if checked else _optimise(text, speed=2)
    sites = Sites(text)
    text = number_calls(text, sites)
    text = instrument(text, sites, checked)
    text = collect_constructors(text, INITIALISE)
    final = _parse(text)
    if checked:
        _run_pipeline(final, speed=1)
    _check_symbols(final, {*symbols, *LIBRARY_FUNCTIONS}, unset, kernel)
    return _machine().emit_object(final), sites.table


def _parse(text: str) -> llvm.ModuleRef:
    _initialise_target()
    try:
        module = llvm.parse_assembly(text, llvm.create_context())
        module.verify()
    except RuntimeError as error:
        raise SimError(f"malformed IR: {error}") from error
    module.triple = _machine().triple
    module.data_layout = str(_machine().target_data)
    return module


def _only(text: str, symbol: str) -> str:
    """Drops what the kernel does not need; its entry is renamed to ENTRY."""
    module = _parse(text)
    for value in itertools.chain(module.functions, module.global_variables):
        if value.name.startswith("\1"):  # "do not mangle", which nobody does here
            value.name = value.name[1:]
        if value.is_declaration or value.name.startswith("llvm."):
            continue
        if value.name == symbol:
            value.name = ENTRY
        else:
            value.linkage = "internal"
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, _builder(0))
    return str(module)


def _fold(text: str) -> str:
    """Drops branches that constants exclude."""
    module = _parse(text)
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_sccp_pass()
    passes.run(module, _builder(0))
    return str(module)


def _simplify(text: str) -> str:
    """Brings variables into registers and drops code that function constants exclude; every access in memory stays."""
    module = _parse(text)
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    passes.add_global_opt_pass()
    passes.add_sccp_pass()
    passes.add_global_opt_pass()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, _builder(0))
    return str(module)


def _optimise(text: str, speed: int) -> str:
    module = _parse(text)
    _run_pipeline(module, speed)
    return str(module)


def _run_pipeline(module: llvm.ModuleRef, speed: int) -> None:
    builder = _builder(speed)
    builder.getModulePassManager().run(module, builder)


def _builder(speed: int) -> llvm.PassBuilder:
    options = llvm.create_pipeline_tuning_options(speed)
    options.loop_vectorization = options.slp_vectorization = speed > 1
    return llvm.create_pass_builder(_machine(), options)


def _check_symbols(module: llvm.ModuleRef, known: set[str], unset: Mapping[str, str], kernel: str) -> None:
    outside = [
        value.name
        for value in itertools.chain(module.functions, module.global_variables)
        if value.is_declaration and not value.name.startswith("llvm.") and value.name not in known
    ]
    if missing := sorted({unset[name] for name in outside if name in unset}):
        raise LaunchError(f"kernel {kernel} uses function constants that have no value: {', '.join(missing)}")
    if outside:
        raise SimError(
            f"kernel {kernel} calls functions that the simulator does not have: {', '.join(sorted(outside))}"
        )


_numbers = itertools.count()


@cache
def _initialise_target() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


@cache
def _machine() -> llvm.TargetMachine:
    """Of this computer."""
    _initialise_target()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=2,
        reloc="pic",
        codemodel="small",
    )


@cache
def _linker() -> llvm.LLJIT:
    return llvm.create_lljit_compiler(_machine(), use_jit_link=True)


@cache
def _library_functions() -> dict[str, int]:
    found = {name: llvm.address_of_symbol(name) for name in LIBRARY_FUNCTIONS}
    return {name: address for name, address in found.items() if address}
