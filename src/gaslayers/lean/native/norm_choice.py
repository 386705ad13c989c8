"""Whether the norm's kernels run."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from gaslayers.lean.batch_norm import BatchNormCall
from gaslayers.lean.native import availability
from gaslayers.lean.native.door import KINDS
from gaslayers.lean.native.norm import normalize_backward, run
from gaslayers.lean.native.norm_call import LAYOUT, is_dense, suits
from gaslayers.lean.native.pool_choice import same_bits


def take(x: Tensor, tensors: Iterable[Tensor | None]) -> bool:
    """Whether kernels can run here for layers that read ``x`` and these tensors."""
    present = [tensor for tensor in tensors if tensor is not None]
    return (
        availability.takes(x)
        and KINDS.issuperset(map(type, present))
        # The kernels read no more than lines.
        and all(t.dtype == x.dtype and (t.dim() > 1 or t.is_contiguous()) for t in present)
        and are_exact()
    )


def take_call(x: Tensor, call: BatchNormCall) -> bool:
    """Whether the kernels take a whole map and a norm in training."""
    own = call.weight, call.bias, call.running_mean, call.running_var
    return (
        call.training
        and is_dense(x)
        and suits(x)
        # A norm of another size is left to its module, which refuses it.
        and all(line is None or line.numel() == x.shape[1] for line in own)
        and take(x, own)
    )


@functools.cache
def are_exact() -> bool:
    """Whether PyTorch rounds as the kernels do, which depends on how it was compiled."""
    with _disable_current_modes(), torch.no_grad():
        return all(map(_is_exact, (torch.float32, torch.float64)))


def _is_exact(dtype: torch.dtype) -> bool:
    channels = 19  # two vectors and a rest
    random = partial(
        torch.randn, generator=torch.Generator().manual_seed(0), dtype=dtype, device="cpu"
    )
    maps = random(2, 4, channels, 5, 7)
    x, grad = (values.contiguous(memory_format=LAYOUT) for values in maps)
    weight, bias, *running = random(4, channels)
    # Zeros, whose signs a ReLU keeps or not, in a vector and in the rest.
    weight[::6], bias[::6] = 0.0, -0.0
    moved = [values.clone() for values in running]
    call = BatchNormCall(weight, bias, moved[0], moved[1], training=True, momentum=0.1, eps=1e-5)
    _, y, moments = run(x, call, slope_behind=0.0)
    gradients = normalize_backward(
        grad, x, moments, weight, bias, slope_behind=0.0, wanted=(True,) * 3
    )

    normed, *expected_moments = torch.native_batch_norm(
        x, weight, bias, running[0], running[1], True, 0.1, 1e-5
    )
    activated = F.relu(normed)
    expected_gradients = torch.ops.aten.native_batch_norm_backward(
        torch.ops.aten.threshold_backward(grad, activated, 0),
        *(x, weight, None, None, *expected_moments, True, 1e-5, [True] * 3),
    )
    found = (*moments, *moved, y, *gradients)
    expected = (*expected_moments, *running, activated, *expected_gradients)
    return all(map(same_bits, found, expected))
