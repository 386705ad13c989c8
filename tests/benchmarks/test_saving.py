"""The networks of the benchmark of `make_lean`: bit-equal gradients from fewer bytes."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from typer.testing import CliRunner

from benchmarks import saving
from benchmarks.discriminators import CLIENTS
from benchmarks.saving import CONVOLUTIONS, LEAN, PLAIN, Step, pieces


@pytest.mark.slow
@pytest.mark.parametrize("title", pieces())
def test_gradients_of_a_network_are_plains_from_fewer_bytes(title: str) -> None:
    name, kind = pieces()[title]
    client = CLIENTS[name]
    small = dataclasses.replace(client, shape=(2, *client.shape[1:]))
    steps = [Step(small, way, kind) for way in (PLAIN, LEAN, CONVOLUTIONS)]
    plain, *others = [step.run() for step in steps]
    for found in others:
        assert len(found) == len(plain)
        assert all(map(torch.equal, found, plain))
    kept, lean, less = [step.bytes()[0] for step in steps]
    assert max(lean, less) < kept


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch) -> None:
    row = {
        "kept_bytes": 2**20,
        "peak_bytes": 2**21,
        "time_ratio": 1.0,
        "median_seconds": 1.0,
        "gradients": "bit-equal",
    }
    measured: list[str] = []

    class Here:
        def __init__(self, *_: object) -> None:
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def submit(self, _function, name, _kind, **_options):
            measured.append(name)
            return self

        def result(self):
            return {"shape": [1], "rows": {PLAIN: row, LEAN: {"failed": "too large"}}}

    monkeypatch.setattr(saving, "ProcessPoolExecutor", Here)
    out = tmp_path / "saving.json"
    for _ in range(2):
        ended = CliRunner().invoke(saving.app, ["--only", "DCGAN", "--out", str(out)])
        assert ended.exit_code == 0, ended.output
    assert len(measured) == 2  # a D step and a G step, once each
    assert f"| {PLAIN} | 1.00 | 1.00 | 2.0 | 1.00 | 1.00 | bit-equal |" in ended.output
    assert f"| {LEAN} | - | - | - | - | - | too large |" in ended.output
    assert len(json.loads(out.read_text())["work"]) == 2
