"""The `gaslayers` command: parses, calls, prints."""

from gaslayers.cli.app import app

__all__ = ["app"]
