"""What `explain_saving` says of each saved tensor, against what is really saved."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import Tensor, nn

from gaslayers import explain_saving, make_lean, saved_bytes
from gaslayers.lean.engine import operation, provenance


@pytest.fixture(autouse=True)
def _nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation, "SMALLEST_BYTES", 64)
    monkeypatch.setattr(provenance, "LARGE_BYTES", 64)


def critic() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 4, 3),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * 49, 1),
    )


def test_totals_are_what_is_saved_plain_and_lean() -> None:
    network, x = critic(), torch.randn(4, 3, 34, 34)
    report = explain_saving(network, x)
    assert report.plain_bytes == saved_bytes(network, x)
    assert report.lean_bytes == saved_bytes(make_lean(copy.deepcopy(network)), x)
    assert report.lean_bytes < report.plain_bytes
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    frozen = saved_bytes(make_lean(network), x.requires_grad_())
    assert report.frozen_bytes == frozen


def test_each_row_names_its_module_operator_and_form() -> None:
    report = explain_saving(critic(), torch.randn(4, 3, 34, 34))
    found = {
        (row.module, row.operator, row.form)
        for row in report.rows
        if len(row.shape) == 4 and row.dtype != "int64"
    }
    assert {
        ("0", "conv2d", "whole"),
        ("1", "batch_norm", "run again"),  # what reads an image takes no time
        ("2", "relu", "signs"),
        ("3", "max_pool2d", "shape"),
        ("5", "avg_pool2d", "shape"),
    } <= found
    assert ("4", "conv2d", "run again") not in found  # pooled maxima are not computed again
    assert all(row.reason for row in report.rows)


def test_it_leaves_no_trace() -> None:
    network, x = critic(), torch.randn(4, 3, 34, 34)
    before = copy.deepcopy(network.state_dict())
    random = torch.get_rng_state()
    explain_saving(network, x)
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_advice_is_to_freeze_where_that_keeps_less() -> None:
    report = explain_saving(critic(), torch.randn(4, 3, 34, 34))
    assert "with frozen(module)" in report.advice[0]
    frozen = critic().requires_grad_(False)
    assert explain_saving(frozen, torch.randn(4, 3, 34, 34)).advice == ()


def test_advice_names_activations_that_can_work_in_place() -> None:
    """Behind a convolution or a norm they can; behind one that reads its result they cannot."""
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.LeakyReLU(0.2),
        nn.Conv2d(8, 8, 3),
        nn.Sigmoid(),  # its backward pass reads its result
        nn.ReLU(),
        nn.Dropout2d(0.5),
        nn.Flatten(),
        nn.Linear(8 * 100, 1),
    )
    x = torch.randn(2, 3, 14, 14)
    report = explain_saving(network, x)
    assert report.could_be_in_place == ("1",)
    assert "inplace=True" in report.advice[-1]
    network[1].inplace = True
    assert explain_saving(network, x).could_be_in_place == ()
    assert explain_saving(critic(), torch.randn(4, 3, 34, 34)).could_be_in_place == ("2",)


class Pair(nn.Module):
    """Scores real and generated samples, one call each."""

    def __init__(self, discriminator: nn.Module) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        return self.discriminator(real).mean() - self.discriminator(fake).mean()


def test_advice_joins_two_calls_where_the_batch_has_no_statistics() -> None:
    x = torch.randn(2, 3, 12, 12)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(800, 1))
    report = explain_saving(Pair(plain), (x, x))
    assert report.could_be_joined == (("discriminator", 2),)
    assert "torch.cat" in report.advice[-1]
    live = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(800, 1))
    assert explain_saving(Pair(live), (x, x)).could_be_joined == ()
    convolutions = nn.Sequential(nn.Conv2d(3, 8, 3))
    assert explain_saving(Pair(convolutions), (x, x[..., :9])).could_be_joined == ()


def test_it_prints_in_four_ways() -> None:
    report = explain_saving(critic(), torch.randn(4, 3, 34, 34))
    for text in (str(report), report.to_markdown(), report._repr_html_()):
        assert "max_pool2d" in text
        assert "its shape alone is read" in text
    read = json.loads(report.to_json())
    assert read["plain_bytes"] == report.plain_bytes
    assert len(read["rows"]) == len(report.rows)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(TypeError, match=r"explain_saving: `module` must be a torch.nn.Module"):
        explain_saving(None, torch.zeros(1))
    with pytest.raises(RuntimeError, match="channels"):
        explain_saving(critic(), torch.zeros(1, 5, 34, 34))


class Recurrent(nn.Module):
    """Calls one part on what it made before."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.part(x).tanh()
        return x


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.ReLU(), nn.Conv2d(3, 8, 3)),  # would overwrite the caller's batch
        nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 8, 3)),
        Recurrent(),
    ],
)
def test_advice_that_would_do_harm_is_not_given(network: nn.Module) -> None:
    report = explain_saving(network, torch.randn(2, 3, 12, 12))
    assert report.could_be_in_place == ()
    assert report.could_be_joined == ()


def test_a_small_tensor_says_why_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = nn.Sequential(nn.Linear(8, 8), nn.Tanh()), torch.randn(4, 8)
    found = {}
    for smallest in (64, 4096):
        monkeypatch.setattr(operation, "SMALLEST_BYTES", smallest)
        report = explain_saving(network, x)
        (row,) = [row for row in report.rows if row.operator == "tanh"]
        assert row.form == "whole"
        found[smallest] = row.reason
    assert found[4096] == "small: kept whole"
    assert found[64] != found[4096]
