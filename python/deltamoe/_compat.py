"""The check that must pass before ``deltamoe._ext`` is loaded. Imports nothing of deltamoe that needs ``_ext``."""

from __future__ import annotations

from deltamoe._build_info import MLX_VERSION
from deltamoe.errors import MissingBackendError, VersionMismatchError

__all__ = ["check_mlx"]


def check_mlx() -> None:
    """Compare the running mlx with the one deltamoe was built for.

    Raises:
        MissingBackendError: mlx.core does not import.
        VersionMismatchError: the two versions differ.
    """
    try:
        import mlx.core as mx
    except ImportError as error:
        raise MissingBackendError(
            f"mlx.core does not import ({error}). deltamoe needs mlx {MLX_VERSION} with a back end.\n"
            f'Run: pip install "mlx[cpu]=={MLX_VERSION}"    (NVIDIA: "mlx[cuda]=={MLX_VERSION}")'
        ) from error
    running: str = mx.__version__  # type: ignore[attr-defined]  # not in mlx's stub
    if running != MLX_VERSION:
        raise VersionMismatchError(
            f"deltamoe was built for mlx {MLX_VERSION}, but mlx {running} is installed.\n"
            f'Run: pip install "mlx=={MLX_VERSION}"'
        )
