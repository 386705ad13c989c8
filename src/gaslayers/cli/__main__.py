"""The command as a module: ``python -m gaslayers.cli``, or ``torchrun -m gaslayers.cli``."""

from gaslayers.cli import run

if __name__ == "__main__":
    run()
