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
USAGE = 2
"""The exit status of a command that was typed wrong."""


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


class MemoryFormat(str, Enum):
    """The orders in which weights and images can lie in memory."""

    contiguous = "contiguous"
    channels_last = "channels_last"


MEMORY_FORMATS = {
    MemoryFormat.contiguous: torch.contiguous_format,
    MemoryFormat.channels_last: torch.channels_last,
}
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
    except (OverflowError, ValidationError) as error:
        message = f"must be a size in bytes, as 4GiB or 500MB, got {text!r}."
        raise typer.BadParameter(message, param_hint="--budget") from error
    if size < 1:
        message = f"must be at least one byte, got {text!r}."
        raise typer.BadParameter(message, param_hint="--budget")
    return size


def fail(command: str, error: Exception, *, status: int = 1) -> NoReturn:
    """Say in one line on the error stream what went wrong, and end.

    Args:
        command: The subcommand.
        error: What it failed with.
        status: 1 for what was found on the disk, `USAGE` for what was typed.
    """
    message = " ".join(str(error).split())  # one line, whatever library the error comes from
    if not isinstance(error, OSError | RuntimeError | TypeError | ValueError) or not message:
        message = f"{type(error).__name__}: {message}"  # as of a KeyError, which says a key alone
    typer.echo(f"gaslayers {command}: {message}", err=True)
    raise typer.Exit(status) from error


class in_one_sentence:  # noqa: N801  (a context manager)
    """Within, an error of code that the user named ends the command in one line.

    Args:
        command: The subcommand.
        status: What it ends with.
    """

    def __init__(self, command: str, *, status: int) -> None:
        self._command = command
        self._status = status

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Say the error, whatever its class: a user's module has exceptions of its own."""
        is_said = isinstance(error, typer.BadParameter | typer.Exit)
        if isinstance(error, Exception) and not is_said:
            fail(self._command, error, status=self._status)
