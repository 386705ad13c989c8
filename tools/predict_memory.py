"""Predict the bytes of recorded studies anew, after a change to what the lean paths keep.

    python tools/predict_memory.py

A prediction is of the code, not of a run: nothing else in the records changes. The summaries and
pictures are drawn again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lightning_fabric import Fabric

from gaslayers.study import write_report
from gaslayers.study.data import load_digits
from gaslayers.study.memory import predict_discriminator_step
from gaslayers.study.records import RunFolder
from gaslayers.study.training import Game

RECORDS = Path(__file__).resolve().parents[1] / "examples" / "records"


def main() -> None:
    """Write the records of both studies, and their reports."""
    digits, fabric = load_digits(), Fabric(accelerator="cpu", devices=1)
    for study in sorted(path for path in RECORDS.iterdir() if path.is_dir()):
        for path in sorted(study.glob("*/record.json")):
            folder = RunFolder(path.parent)
            record = folder.read_record()
            found = predict_discriminator_step(Game(record.config, digits, fabric))
            if found != record.memory_predicted:
                folder.write_record(record.model_copy(update={"memory_predicted": found}))
                sys.stdout.write(f"{study.name}/{path.parent.name}: {record.memory_predicted}\n")
                sys.stdout.write(f"  now {found}\n")
        write_report(study)


if __name__ == "__main__":
    main()
