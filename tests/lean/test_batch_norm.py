"""Counting the batches of norms."""

from __future__ import annotations

import torch
import torch.nn.utils.parametrize
from torch import Tensor, nn

from gaslayers.lean.batch_norm import count_at_once, read_call


def test_several_norms_are_counted_at_once() -> None:
    norms = [nn.BatchNorm2d(2), nn.BatchNorm2d(3, track_running_stats=False), nn.BatchNorm2d(4)]
    norms[0].num_batches_tracked += 5
    assert count_at_once([read_call(norm) for norm in norms])
    assert norms[0].num_batches_tracked == 6
    assert norms[2].num_batches_tracked == 1


def test_norms_whose_order_matters_are_not_counted() -> None:
    norm, cumulative = nn.BatchNorm2d(2), nn.BatchNorm2d(2, momentum=None)
    # Where operators run on many tensors at once, two of them on one would race.
    for norms in ([norm, norm], [norm, cumulative]):
        assert not count_at_once([read_call(norm) for norm in norms])
    assert norm.num_batches_tracked == cumulative.num_batches_tracked == 0


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def test_a_weight_that_is_made_anew_is_read() -> None:
    norm = nn.BatchNorm2d(2)
    nn.utils.parametrize.register_parametrization(norm, "weight", Doubled())
    call = read_call(norm)
    assert torch.equal(call.weight, torch.full((2,), 2.0))
    assert call.bias is norm.bias
    assert call.running_mean is norm.running_mean
