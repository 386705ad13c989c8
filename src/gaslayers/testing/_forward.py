"""Checks of a block's forward pass: shape, layout, batch, device, compiler, refused inputs."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from gaslayers.testing._common import (
    ContractError,
    require,
    require_close,
    require_equal,
    require_same_pass,
    training_pass,
)


def check_output_shape(block: nn.Module, x: Tensor) -> None:
    """The output is (N, out_channels, H', W') in the input's dtype, also for float32."""
    channels = getattr(block, "out_channels", None)
    for dtype in (torch.float64, torch.float32):
        y = block.to(dtype)(x.to(dtype))
        found = f"got {tuple(y.shape)}"
        expected = f"the output must be of shape ({len(x)}, out_channels={channels}, H, W)"
        require(y.dim() == 4 and y.shape[:2] == (len(x), channels), f"{expected}, {found}")
        require(y.dtype == dtype, f"the output must be {dtype} for such an input, got {y.dtype}")


def check_input_unchanged(block: nn.Module, x: Tensor) -> None:
    """The input still holds its numbers after the forward pass, with a graph and without."""
    for recording in (True, False):
        given = x.clone()
        with torch.set_grad_enabled(recording):
            block(given)
        require_equal(given, x, "the input after the forward pass")


def check_no_grad(block: nn.Module, x: Tensor) -> None:
    """The output without a graph is the output with one, in both modes."""
    for training in (False, True):
        torch.manual_seed(0)
        expected = copy.deepcopy(block).train(training)(x).detach()
        torch.manual_seed(0)
        with torch.no_grad():
            found = copy.deepcopy(block).train(training)(x)
        require_close(found, expected, f"the output under no_grad with training={training}")


def check_batch_independence(block: nn.Module, x: Tensor) -> None:
    """In eval mode an image's output does not depend on the other images of its batch."""
    block.eval()
    alone = torch.cat([block(x[i : i + 1]) for i in range(len(x))])
    require_close(alone, block(x), "the output of an image alone")


def check_meta(block: nn.Module, x: Tensor) -> None:
    """On the meta device the output has the real output's shape."""
    expected = block(x).shape
    found = block.to("meta")(x.to("meta"))
    require(found.is_meta, f"the output must be on the meta device, got {found.device}")
    require(found.shape == expected, f"the shape on meta, {found.shape}, is not {expected}")


def check_compile(block: nn.Module, x: Tensor, backend: str) -> None:
    """``torch.compile(fullgraph=True)`` takes the block and changes no result."""
    expected = training_pass(copy.deepcopy(block), x)
    torch.compiler.reset()
    try:
        block.compile(fullgraph=True, backend=backend)
        actual = training_pass(block, x)
    finally:
        torch.compiler.reset()
    require_same_pass(actual, expected, "when compiled")


def check_input_errors(block: nn.Module, x: Tensor) -> None:
    """An input of another rank or channel count is a ValueError."""
    wrong = {
        "without a batch axis": x[0],
        "of rank 5": x[None],
        "with a channel too many": torch.cat([x, x[:, :1]], dim=1),
    }
    for what, value in wrong.items():
        try:
            block(value)
        except ValueError:
            continue
        raise ContractError(f"an input {what} must raise a ValueError, and was accepted")
