"""The `gaslayers` command: parses, calls, prints."""

from __future__ import annotations

import sys


def run() -> None:
    """Run the command; where a package that it takes is missing, say how to install it."""
    if sys.argv[1:] == ["info"]:  # which tells of an installation that may lack the others
        from gaslayers.cli.facts import collect_facts, facts_as_text

        sys.stdout.write(facts_as_text(collect_facts()) + "\n")
        return
    try:
        from gaslayers.cli.app import app
    except ModuleNotFoundError as error:
        sys.exit(
            f"gaslayers: the command takes {error.name}, which is not installed. "
            "Install it by: pip install 'gaslayers[study]'"
        )
    app()
