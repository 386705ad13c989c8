"""Parts of the call of a norm: counting its batches, its gradients."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
import torch
import torch.nn.utils.parametrize
from torch import Tensor, nn

from gaslayers.lean.batch_norm import count_at_once, norm_backward, read_call


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


def _in_any_strides(values: Tensor) -> Iterator[Tensor]:
    """The same values in both memory formats, with any step along axes of one."""
    size = values.shape
    for layout in (torch.contiguous_format, torch.channels_last):
        dense = values.contiguous(memory_format=layout)
        steps = [[s] if n > 1 else [0, 3, 999] for n, s in zip(size, dense.stride(), strict=True)]
        for strides in product(*steps):
            yield dense.as_strided(size, strides)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (2, 3, 1, 5), (2, 3, 5, 1), (1, 3, 5, 1)])
def test_gradients_are_right_in_any_strides_along_axes_of_one(shape, training) -> None:
    """A single image that was turned from rows, columns, channels has such strides."""
    grad, x = torch.randn(2, *shape, dtype=torch.float64)
    weight, mean, variance = torch.rand(3, 3, dtype=torch.float64) + 0.5
    by_batch = x.mean((0, 2, 3)), (x.var((0, 2, 3), unbiased=False) + 1e-5).rsqrt()
    rest = (weight, mean, variance, *by_batch, training, 1e-5, [True, True, True])
    expected = torch.ops.aten.native_batch_norm_backward(grad, x, *rest)
    for other_grad, other_x in product(_in_any_strides(grad), _in_any_strides(x)):
        found = norm_backward(other_grad, other_x, *rest)
        torch.testing.assert_close(found, [*expected])
