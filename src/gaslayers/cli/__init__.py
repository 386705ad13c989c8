"""The `gaslayers` command: parses, calls, prints."""

from __future__ import annotations

import sys


def run() -> None:
    """Run the command; where a package that it takes is missing, say how to install it."""
    try:
        from gaslayers.cli.app import app
    except ModuleNotFoundError as error:
        sys.exit(
            f"gaslayers: the command takes {error.name}, which is not installed. "
            "Install it by: pip install 'gaslayers[study]'"
        )
    app()
