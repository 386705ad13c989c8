"""`gaslayers fit`: the widest discriminator that trains within a budget."""

from __future__ import annotations

from typing import Annotated

import typer

from gaslayers.cli.options import (
    AS_CODED,
    OPTIMIZERS,
    USAGE,
    StepOptimizer,
    Variant,
    in_one_sentence,
    parse_bytes,
)
from gaslayers.models import CASES
from gaslayers.study.fitting import fit_base_filters

FAMILY = "inception"
"""The three inception cases differ in their base filters alone."""


def fit(
    case: Annotated[str, typer.Option(help=f"A case, or {FAMILY} for any of the three.")],
    budget: Annotated[str, typer.Option(help="Bytes of a D step's tensors, as 2MiB.")],
    variant: Annotated[Variant, typer.Option(help="Of the case.")] = AS_CODED,
    batch_size: Annotated[int, typer.Option(min=1, help="Of real and of generated images.")] = 32,
    in_channels: Annotated[int, typer.Option(min=1, help="Channels of the images.")] = 1,
    image_size: Annotated[int, typer.Option(min=16, help="Height and width of the images.")] = 28,
    optimizer: Annotated[StepOptimizer, typer.Option(help="Of D.")] = StepOptimizer.rmsprop,
    plain: Annotated[bool, typer.Option("--plain", help="With the lean paths off.")] = False,
) -> None:
    """Find the most base filters whose D step fits a budget of memory, without training."""
    if case not in (*CASES, FAMILY):
        message = f"must be one of {', '.join((*CASES, FAMILY))}, got {case!r}."
        raise typer.BadParameter(message, param_hint="--case")
    with in_one_sentence("fit", status=USAGE):
        found = fit_base_filters(
            "inception_8" if case == FAMILY else case,
            budget_bytes=parse_bytes(budget),
            variant=variant.value,
            batch_size=batch_size,
            in_channels=in_channels,
            image_size=image_size,
            memory_efficient=not plain,
            optimizer=OPTIMIZERS[optimizer],
        )
    typer.echo(
        f"{case}: {found.base_filters} base filters, {found.params:,} parameters\n"
        f"peak of a D step: {found.peak_bytes:,} of {found.budget_bytes:,} bytes; "
        f"with {found.base_filters + 2} filters {found.next_peak_bytes:,}"
    )
