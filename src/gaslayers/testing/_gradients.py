"""Checks of a block's gradients, first and second."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from gaslayers.testing._common import require, require_close, training_pass


def check_parameter_gradients(block: nn.Module, x: Tensor) -> None:
    """Every trainable parameter, and the input, gets a gradient of finite numbers."""
    results = training_pass(block, x)
    require("the input's gradient" in results, "the input must get a gradient, got none")
    for name, parameter in block.named_parameters():
        if parameter.requires_grad:
            gradient = parameter.grad
            require(gradient is not None, f"`{name}` must get a gradient, got none")
    for name, value in results.items():
        require(bool(value.isfinite().all()), f"{name} must be finite")


def _as_function(block: nn.Module, x: Tensor) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """The block as a function of its input and trainable parameters, and where to evaluate it.

    All parameters are one vector, so that the time does not grow with their number.
    """
    trainable = {name: value for name, value in block.named_parameters() if value.requires_grad}
    sizes = [value.numel() for value in trainable.values()]

    def function(image: Tensor, vector: Tensor) -> Tensor:
        # Dropout draws the same mask each time, and running statistics move in a copy.
        torch.manual_seed(0)
        parameters = {
            name: part.view(value.shape)
            for (name, value), part in zip(
                trainable.items(), vector.split_with_sizes(sizes), strict=True
            )
        }
        buffers = {name: value.clone() for name, value in block.named_buffers()}
        return torch.func.functional_call(block, {**buffers, **parameters}, (image,))

    values = [value.detach().flatten() for value in trainable.values()]
    vector = torch.cat([x.new_empty(0), *values])
    return function, [x.detach().clone().requires_grad_(), vector.requires_grad_()]


def check_gradcheck(block: nn.Module, x: Tensor) -> None:
    """Gradients to input and parameters equal finite differences, in both modes."""
    for training in (True, False):
        function, inputs = _as_function(block.train(training), x)
        gradcheck(function, inputs, fast_mode=True)


def check_gradgradcheck(block: nn.Module, x: Tensor) -> None:
    """So do gradients of gradients, which gradient penalties need."""
    for training in (True, False):
        function, inputs = _as_function(block.train(training), x)
        gradgradcheck(function, inputs, fast_mode=True)


def check_frozen(block: nn.Module, x: Tensor) -> None:
    """With frozen parameters the input's gradient stays, and no parameter gets one."""
    expected = training_pass(copy.deepcopy(block), x)["the input's gradient"]
    actual = training_pass(block.requires_grad_(False), x)
    require_close(actual["the input's gradient"], expected, "the input's gradient when frozen")
    gradients = [name for name in actual if name.startswith("the gradient of ")]
    require(not gradients, f"frozen, but got: {', '.join(gradients)}")
