"""`gaslayers cost`: what a network costs, before anything is trained."""

from __future__ import annotations

from typing import Annotated

import typer

from gaslayers.accounting import CostTable, cost_of
from gaslayers.cli.inputs import HINT, parse_inputs
from gaslayers.cli.options import (
    AS_CODED,
    MEMORY_FORMATS,
    OPTIMIZERS,
    USAGE,
    Case,
    Format,
    MemoryFormat,
    StepOptimizer,
    Variant,
    in_one_sentence,
    parse_bytes,
)
from gaslayers.cli.target import load_network
from gaslayers.models import CASES

CASE_INPUT = "32,1,28,28"


def cost(
    target: Annotated[
        list[str] | None,
        typer.Argument(
            help="Blocks as 'InceptionBlock(3, 64)', paths to modules of your own as "
            "mypackage.nets:Discriminator, or cases. [default: all six cases]"
        ),
    ] = None,
    case: Annotated[list[Case] | None, typer.Option(help="A case. Repeatable.")] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            help="Shape of an input with the batch, float32 unless a dtype follows, as 32:int64; "
            "a keyword argument as labels=32:int64, an entry of a dict as batch.image=32,3,64,64. "
            f"Repeatable, in the order of the arguments. [default: {CASE_INPUT} for cases]",
        ),
    ] = None,
    variant: Annotated[Variant, typer.Option(help="Of the cases.")] = AS_CODED,
    optimizer: Annotated[StepOptimizer, typer.Option(help="Of the step whose peak is told.")] = (
        StepOptimizer.rmsprop
    ),
    budget: Annotated[
        str | None, typer.Option(help="Tell the largest batch in these bytes, as 4GiB.")
    ] = None,
    memory_format: Annotated[
        MemoryFormat | None,
        typer.Option(
            help="Of the weights and of inputs with four axes. [default: weights as they are, "
            "contiguous inputs]"
        ),
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.text,
) -> None:
    """Count parameters, operations and bytes of networks, lean and plain, without training."""
    budget_bytes = None if budget is None else parse_bytes(budget)
    layout = MEMORY_FORMATS[memory_format or MemoryFormat.contiguous]
    costs = []
    for name in [*(target or []), *(item.value for item in case or [])] or CASES:
        if not inputs and name not in CASES:
            raise typer.BadParameter(f"{name!r} needs the shape of its input.", param_hint=HINT)
        args, kwargs = parse_inputs(inputs or [CASE_INPUT], memory_format=layout)
        with in_one_sentence("cost", status=USAGE):
            network = load_network(name, variant=variant.value)
            if memory_format is not None:
                network = network.to(memory_format=layout)
            row = cost_of(
                name,
                network,
                args,
                kwargs=kwargs,
                optimizer=OPTIMIZERS[optimizer],
                budget_bytes=budget_bytes,
            )
        costs.append(row)
    table = CostTable(costs)
    written = {
        Format.text: table.__str__,
        Format.markdown: table.to_markdown,
        Format.json: table.to_json,
    }
    typer.echo(written[output]())
