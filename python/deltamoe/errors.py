"""The exceptions a user may meet: each says what was wrong, what was expected and what to do."""

from __future__ import annotations

__all__ = ["DeltamoeError", "MissingBackendError", "VersionMismatchError"]


class DeltamoeError(Exception):
    """Base of deltamoe's own errors; the command line prints its message without a traceback."""


class MissingBackendError(DeltamoeError, ImportError):
    """``mlx.core`` does not import: usually mlx is installed without a back end."""


class VersionMismatchError(DeltamoeError, ImportError):
    """The running mlx is not the one deltamoe was built for; a binary built for one release loads with no other."""
