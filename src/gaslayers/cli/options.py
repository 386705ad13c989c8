"""What several subcommands share: named choices, sizes in bytes, one-line errors."""

from __future__ import annotations

from enum import Enum
from typing import NoReturn

import torch
import typer
from pydantic import ByteSize, TypeAdapter, ValidationError

from gaslayers.models import CASES, VARIANTS

Case = Enum("Case", {case: case for case in CASES}, type=str)  # type: ignore[misc]  # not static
Variant = Enum("Variant", {variant: variant for variant in VARIANTS}, type=str)  # type: ignore[misc]  # nor this
AS_CODED = Variant("as_coded")


class Format(str, Enum):
    """How a table is printed."""

    text = "text"
    markdown = "markdown"
    json = "json"


class StepOptimizer(str, Enum):
    """The optimisers that a training step can be priced with."""

    none = "none"
    sgd = "sgd"
    rmsprop = "rmsprop"
    adam = "adam"


OPTIMIZERS: dict[StepOptimizer, type[torch.optim.Optimizer] | None] = {
    StepOptimizer.none: None,
    StepOptimizer.sgd: torch.optim.SGD,
    StepOptimizer.rmsprop: torch.optim.RMSprop,
    StepOptimizer.adam: torch.optim.Adam,
}


def parse_bytes(text: str) -> int:
    """Read ``4GiB``, ``500MB`` or a plain number of bytes."""
    try:
        size = int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError as error:
        message = f"must be a size in bytes, as 4GiB or 500MB, got {text!r}."
        raise typer.BadParameter(message) from error
    if size < 1:
        raise typer.BadParameter(f"must be at least one byte, got {text!r}.")
    return size


def fail(command: str, error: Exception) -> NoReturn:
    """Say in one line on the error stream what went wrong, and end with status 1."""
    message = " ".join(str(error).split())  # one line, whatever library the error comes from
    typer.echo(f"gaslayers {command}: {message}", err=True)
    raise typer.Exit(1) from error
