"""How a report prints, serialises and scales."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import pytest
import torch
from torch import nn

from gaslayers import count
from gaslayers.models import build_discriminator


@pytest.fixture
def network() -> nn.Module:
    inner = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    return nn.Sequential(inner, nn.Flatten(), nn.Linear(8, 1))


def test_report_is_frozen_and_travels(network) -> None:
    report = count(network, torch.zeros(3, 1, 4, 4), backward=True)
    with pytest.raises(dataclasses.FrozenInstanceError, match=r"macs"):
        report.macs = 0
    assert pickle.loads(pickle.dumps(report)) == copy.deepcopy(report) == report


def test_report_becomes_plain_data(network) -> None:
    report = count(network, torch.zeros(3, 1, 4, 4), backward=True)
    data = report.to_dict()
    assert json.loads(report.to_json()) == data
    assert (data["macs"], data["batch_size"]) == (3 * (4 * 2 * 9 + 8), 3)
    assert data["by_module"]["0.0"] == {
        "macs": 216,
        "flops": 432,
        "activations": 24,
        "fixed_macs": 0,
        "fixed_flops": 0,
        "fixed_activations": 0,
        "type": "Conv2d",
        "params": 20,
        "backward_macs": 216,
    }
    assert data["by_operator"]["relu"]["flops"] == 24
    numbers = [value for value in data.values() if not isinstance(value, str | dict | list)]
    assert all(type(value) is int for value in numbers)


TEXT = """\
Sequential, batch of 3, convention gaslayers-1
29 parameters, 29 trainable, 0 in buffers

module  type        parameters  MACs  FLOPs  activations  backward MACs
------  ----------  ----------  ----  -----  -----------  -------------
(all)   Sequential          29   240    504           27            264
0       Sequential          20   216    456           24            216
1       Flatten              0     0      0            0              0
2       Linear               9    24     48            3             48"""


def test_report_prints_as_text(network) -> None:
    report = count(network, torch.zeros(3, 1, 4, 4), backward=True)
    assert report.to_text(depth=1) == TEXT
    assert str(report) == report.to_text(depth=2) == report.to_text(depth=None)
    assert [line.split()[0] for line in str(report).splitlines()[5:]] == [
        "(all)", "0", "0.0", "0.1", "1", "2",
    ]  # fmt: skip
    assert repr(report) == (
        "CountReport(module='Sequential', batch_size=3, params=29, trainable=29, macs=240, "
        "flops=504, backward_macs=264, ...)"
    )


def test_report_prints_as_markdown_and_html(network) -> None:
    report = count(network, torch.zeros(3, 1, 4, 4))
    lines = report.to_markdown(depth=1).splitlines()
    assert lines[3] == "| module | type | parameters | MACs | FLOPs | activations |"
    assert lines[4] == "| --- | --- | ---: | ---: | ---: | ---: |"
    assert lines[8] == "| `2` | Linear | 9 | 24 | 48 | 3 |"
    html = report._repr_html_()
    assert html.count("<tr>") == 1 + len(report.by_module)
    assert "<caption" in html
    assert html.count("<table>") == html.count("</table>") == 1


def test_report_escapes_names_in_html() -> None:
    odd = nn.Sequential()
    odd.add_module("<b>", nn.Identity())
    assert "<b>" not in count(odd, torch.zeros(1, 1))._repr_html_()


def test_report_says_what_it_lacks(make) -> None:
    module = make(lambda self, x: torch.special.i0(x), unused=nn.Conv2d(1, 1, 1))
    text = str(count(module, torch.zeros(2, 2)))
    assert "operators without a cost: aten::i0 (1)" in text
    assert "modules not called: unused" in text


@pytest.mark.parametrize("batch_size", [1, 8, 64])
def test_report_scales_to_what_another_batch_counts(network, batch_size) -> None:
    report = count(network, torch.zeros(2, 1, 4, 4), backward=True)
    other = count(network, torch.zeros(batch_size, 1, 4, 4), backward=True)
    assert report.scaled(batch_size) == other
    assert report.per_sample == report.scaled(1)


@pytest.mark.parametrize("case", ["original", "depthwise_inception_dense"])
def test_report_keeps_what_does_not_grow_with_the_batch(case) -> None:
    # The frozen norms of these compute their scale from constants, whatever the batch.
    network = build_discriminator(case, variant="as_coded")
    report = count(network, torch.zeros(3, 1, 28, 28))
    assert report.by_module[""].fixed_flops > 0
    assert report.per_sample == count(network, torch.zeros(1, 1, 28, 28))


def test_report_keeps_the_products_of_a_spectral_norm() -> None:
    layer = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3))
    report = count(layer, torch.zeros(2, 3, 8, 8))
    assert report.by_module[""].fixed_macs == 3 * 4 * 27 + 4
    assert report.scaled(5) == count(layer, torch.zeros(5, 3, 8, 8))


def test_report_without_a_batch_cannot_be_scaled(make) -> None:
    report = count(make(lambda self: self.linear(torch.zeros(2, 4)), linear=nn.Linear(4, 4)), ())
    with pytest.raises(ValueError, match=r"`batch_size` must belong to inputs that have a batch"):
        report.scaled(2)


def test_report_is_not_scaled_where_a_cost_is_no_multiple(make) -> None:
    report = count(make(lambda _, x: x.sum().exp()), torch.zeros(4, 1))  # 4 + 1 FLOPs
    with pytest.raises(ValueError, match=r"must be the counted one, 4, got 2. The cost 5 is no"):
        report.scaled(2)


@pytest.mark.parametrize(
    ("batch_size", "error", "message"),
    [(0, ValueError, "must be >= 1, got 0"), (2.0, TypeError, "must be an int, got 2.0")],
)
def test_report_checks_the_batch_size(network, batch_size, error, message) -> None:
    report = count(network, torch.zeros(3, 1, 4, 4))
    with pytest.raises(error, match=message):
        report.scaled(batch_size)
