"""`gaslayers cost`: what a network costs, before anything is trained."""

from __future__ import annotations

from typing import Annotated

import torch
import typer

from gaslayers.accounting import CostTable, cost_of
from gaslayers.cli.options import (
    AS_CODED,
    OPTIMIZERS,
    Format,
    StepOptimizer,
    Variant,
    fail,
    parse_bytes,
)
from gaslayers.cli.target import load_network
from gaslayers.models import CASES

CASE_SHAPE = (32, 1, 28, 28)


def parse_shape(text: str) -> tuple[int, ...]:
    """Read ``32,3,64,64``."""
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        message = f"must be sizes with commas between, as 32,3,64,64, got {text!r}."
        raise typer.BadParameter(message) from error
    if min(shape) < 1:
        raise typer.BadParameter(f"must be sizes of at least 1, got {text!r}.")
    return shape


def cost(
    target: Annotated[
        list[str] | None,
        typer.Argument(
            help="Cases, blocks as 'InceptionBlock(3, 64)', or paths to modules of your own as "
            "mypackage.nets:Discriminator. [default: all six cases]"
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option("--input", help="Shape with the batch. [default: 32,1,28,28 for cases]"),
    ] = None,
    variant: Annotated[Variant, typer.Option(help="Of the cases.")] = AS_CODED,
    optimizer: Annotated[StepOptimizer, typer.Option(help="Of the step whose peak is told.")] = (
        StepOptimizer.rmsprop
    ),
    budget: Annotated[
        str | None, typer.Option(help="Tell the largest batch in these bytes, as 4GiB.")
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.text,
) -> None:
    """Count parameters, operations and bytes of networks, lean and plain, without training."""
    budget_bytes = None if budget is None else parse_bytes(budget)
    costs = []
    for name in target or CASES:
        network = load_network(name, variant=variant.value)
        if shape is None and name not in CASES:
            raise typer.BadParameter(
                f"{name!r} needs the shape of its input.", param_hint="--input"
            )
        x = torch.zeros(CASE_SHAPE if shape is None else parse_shape(shape))
        try:
            row = cost_of(
                name, network, x, optimizer=OPTIMIZERS[optimizer], budget_bytes=budget_bytes
            )
        except (RuntimeError, TypeError, ValueError) as error:
            fail("cost", error)
        costs.append(row)
    table = CostTable(costs)
    written = {
        Format.text: table.__str__,
        Format.markdown: table.to_markdown,
        Format.json: table.to_json,
    }
    typer.echo(written[output]())
