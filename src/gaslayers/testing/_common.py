"""What the checks of the contract share: how they fail, what counts as equal, one training pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

# The checks run in float64, where another order of summation moves the last digits alone.
RELATIVE_TOLERANCE = 1e-9
ABSOLUTE_TOLERANCE = 1e-11

DROPOUTS = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)


class ContractError(AssertionError):
    """A block breaks its contract; the message names the block and the check."""


def require(holds: bool, sentence: str) -> None:  # noqa: FBT001  (reads as `assert`, which it is)
    """Fail with the sentence unless the condition holds."""
    if not holds:
        raise ContractError(sentence)


def require_close(actual: Tensor, expected: Tensor, what: str) -> None:
    """Fail unless two tensors are equal up to rounding."""
    torch.testing.assert_close(
        actual,
        expected,
        rtol=RELATIVE_TOLERANCE,
        atol=ABSOLUTE_TOLERANCE,
        equal_nan=True,
        msg=lambda detail: f"{what} differs. {detail}",
    )


def require_equal(actual: Tensor, expected: Tensor, what: str) -> None:
    """Fail unless two tensors are equal to the last bit."""
    require(torch.equal(actual, expected), f"{what} differs")


def unsettle(block: nn.Module) -> None:
    """Move every number of a block's state away from where it is.

    Initial values hide faults (a weight of 1, an offset of 0) and put activations on their kink.
    All moves are upwards: variances stay positive.
    """
    for value in block.state_dict().values():
        if value.is_floating_point():
            value.add_(torch.rand_like(value), alpha=0.3)


def training_pass(
    block: nn.Module,
    x: Tensor,
    *,
    training: bool = True,
    lay_out_grad: Callable[[Tensor], Tensor] = torch.clone,
) -> dict[str, Tensor]:
    """Run forward and backward; return output, gradients and buffers by name.

    Dropout layers are off: their masks depend on the memory order that some checks vary.

    Args:
        block: The block, which ends in another state.
        x: Its input.
        training: Whether it trains or evaluates.
        lay_out_grad: Makes the gradient of the output out of a contiguous one.
    """
    torch.manual_seed(0)
    block.train(training)
    for module in block.modules():
        if isinstance(module, DROPOUTS):
            module.eval()
    block.zero_grad()
    x = x.detach().requires_grad_()
    y = block(x)
    # A norm makes the sum of its outputs constant; uneven weights leave gradients to compare.
    weights = torch.linspace(-1.0, 1.0, y.numel(), dtype=y.dtype, device=y.device)
    if y.requires_grad:
        y.backward(lay_out_grad(weights.view(y.shape)))
    results = {"the output": y.detach()}
    if x.grad is not None:
        results["the input's gradient"] = x.grad
    for name, parameter in block.named_parameters():
        if parameter.grad is not None:
            results[f"the gradient of `{name}`"] = parameter.grad.clone()
    for name, buffer in block.named_buffers():
        results[f"the buffer `{name}`"] = buffer.clone()
    return results


def require_same_pass(
    actual: dict[str, Tensor], expected: dict[str, Tensor], condition: str
) -> None:
    """Fail unless two training passes agree in every result."""
    missing = sorted(expected.keys() ^ actual.keys())
    require(not missing, f"{', '.join(missing)} only on one side {condition}")
    for name, value in expected.items():
        require_close(actual[name], value, f"{name} {condition}")
