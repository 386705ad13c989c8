"""`gaslayers info`: what a bug report should say of an installation."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from gaslayers.cli.facts import collect_facts, facts_as_text


def info(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Print versions, devices, and which compiled kernels run and why: for a bug report."""
    facts = collect_facts()
    typer.echo(json.dumps(facts, indent=2) if as_json else facts_as_text(facts))
