"""metalsim: checks Metal shaders and runs them on any machine.

    library = compile("kernel.metal")
    result = library.kernel("k").run(grid=(8, 1, 1), threadgroup=(64, 1, 1), buffers={"x": x, "y": y}, outputs=["y"])
    for report in result.reports:
        print(report)

docs/verification.md says what it proves and what only a Mac can decide.
"""

from deltamoe_sim.errors import CompileError, Diagnostic, KernelFault, LaunchError, Report, SimError
from deltamoe_sim.library import Counters, Kernel, Library, Result, Traffic, check, compile, load_metallib
from deltamoe_sim.lint import lint
from deltamoe_sim.plan import Dispatch, Plan, run_plan

__all__ = [
    "CompileError",
    "Counters",
    "Diagnostic",
    "Dispatch",
    "Kernel",
    "KernelFault",
    "LaunchError",
    "Library",
    "Plan",
    "Report",
    "Result",
    "SimError",
    "Traffic",
    "check",
    "compile",
    "lint",
    "load_metallib",
    "run_plan",
]
