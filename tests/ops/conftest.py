"""Fixtures of the op tests."""

from __future__ import annotations

from collections.abc import Iterator

import mlx.core as mx
import pytest

from tests.arrays import short
from tests.backends import BACKENDS, Backend


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each back end in turn."""
    return request.param


@pytest.fixture(scope="module", autouse=True)
def _on_cpu() -> Iterator[None]:
    """The kernels under test are the CPU's, whatever else the machine has."""
    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(before)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Ids that carry shapes and dtypes."""
    return short(val)
