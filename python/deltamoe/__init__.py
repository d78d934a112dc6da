"""Makes Qwen3.5-family models (Gated DeltaNet + sparse MoE) fast under mlx-lm."""

from __future__ import annotations

import sys
from pathlib import Path

from deltamoe._compat import check_mlx
from deltamoe.errors import DeltamoeError, MissingBackendError, VersionMismatchError

__version__ = "0.1.0"

try:
    check_mlx()  # before anything that loads _ext
except DeltamoeError as error:
    if Path(sys.argv[0]).stem == "deltamoe":  # the command line, which shows a person no traceback
        sys.exit(f"deltamoe: {error}")
    raise

from deltamoe import ops
from deltamoe._ext import cpu_features

# Here and not lazily: this binds the name to the function, and no later import of the subpackage binds it again.
from deltamoe.patch import patch, patched, status, unpatch

__all__ = [
    "DeltamoeError",
    "MissingBackendError",
    "VersionMismatchError",
    "__version__",
    "cpu_features",
    "ops",
    "patch",
    "patched",
    "status",
    "unpatch",
]
