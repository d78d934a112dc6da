"""What several commands take, and checks of it: what does not fit is said in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from deltamoe.errors import DeltamoeError

__all__ = ["Database", "check_model", "explained", "numbers"]

Database = Annotated[
    Path | None, typer.Option("--db", help="The database.", show_default="track.db in the user's data directory")
]


def check_model(model: str) -> None:
    """Refuse what is neither a model directory nor the name of a repository.

    Raises:
        DeltamoeError: a path that does not exist, or that holds no model.
    """
    path = Path(model)
    if path.exists():
        if not (path / "config.json").is_file():
            raise DeltamoeError(f"{model} holds no config.json; expected a model directory as mlx_lm.convert writes it")
    elif model.startswith((".", "~", "/")) or model.count("/") > 1:
        raise DeltamoeError(f"{model} does not exist; expected a model directory or a repository such as owner/name")


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Files, ports, networks and names that are not as a person thought end in one line; faults of ours do not."""
    from huggingface_hub.errors import HFValidationError

    try:
        yield
    except (OSError, HFValidationError) as error:
        raise DeltamoeError(f"{what}: {' '.join(str(error).split())}") from error


def numbers(option: str, text: str, least: int) -> list[int]:
    """Whole numbers with commas between them.

    Raises:
        DeltamoeError: anything else, or a number below the least.
    """
    try:
        found = [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise DeltamoeError(f"{option} {text}: numbers with commas between them are wanted, as in 1,8,64") from None
    if wrong := [number for number in found if number < least]:
        raise DeltamoeError(f"{option} has {wrong[0]}; it must be {least} or more")
    return list(dict.fromkeys(found))
