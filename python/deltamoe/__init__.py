"""Makes Qwen3.5-family models (Gated DeltaNet + sparse MoE) fast under mlx-lm."""

from __future__ import annotations

from deltamoe._compat import check_mlx
from deltamoe.errors import DeltamoeError, MissingBackendError, VersionMismatchError

__version__ = "0.1.0"

check_mlx()  # before anything that loads _ext

from deltamoe import ops  # noqa: E402
from deltamoe._ext import cpu_features  # noqa: E402

# Here and not lazily: this binds the name to the function, and no later import of the subpackage binds it again.
from deltamoe.patch import patch, patched, status, unpatch  # noqa: E402

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
