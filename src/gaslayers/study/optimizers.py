"""The optimisers of the study."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gaslayers._checks import bad_type, check_float
from gaslayers.study.rates import LARGEST_RATE

if TYPE_CHECKING:
    from gaslayers.study.config import RunConfig

_OWNER = "TensorFlowRMSprop"


class TensorFlowRMSprop(torch.optim.Optimizer):
    """RMSProp as TensorFlow 1 wrote it.

    It differs from `torch.optim.RMSprop` in two places that matter to a network whose gradients
    are small: the mean square starts at one, not at zero, and epsilon stands under the root.

    Args:
        params: Parameters to optimise, or groups of them with rates of their own.
        lr: Learning rate, at least 0.
        decay: Of the running mean square, from 0 to below 1.
        eps: Added under the root; above 0, since the mean square of a gradient that stays zero
            reaches zero.

    Raises:
        TypeError: A rate is not a number.
        ValueError: A rate is not finite or out of its bounds.

    References:
        TensorFlow 1.3, ``tf.train.RMSPropOptimizer``; without momentum.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        lr: float = 1e-3,
        decay: float = 0.9,
        eps: float = 1e-10,
    ) -> None:
        rates = {"lr": lr, "decay": decay, "eps": eps}
        _check_rates(rates)
        super().__init__(params, rates)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take parameters with rates of their own; the constructor adds its groups here, too.

        Raises:
            TypeError: A rate is not a number.
            ValueError: A rate is not finite or out of its bounds.
        """
        _check_rates({**self.defaults, **param_group})
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is taken
        """Take one step.

        Raises:
            TypeError: A closure is given.
        """
        if closure is not None:
            raise bad_type(_OWNER, "closure", "be None", closure)
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params]
            for p in params:
                if not self.state[p]:
                    self.state[p]["mean_square"] = torch.ones_like(p)
            mean_squares = [self.state[p]["mean_square"] for p in params]
            torch._foreach_mul_(mean_squares, group["decay"])
            torch._foreach_addcmul_(mean_squares, grads, grads, value=1 - group["decay"])
            roots = torch._foreach_add(mean_squares, group["eps"])
            torch._foreach_sqrt_(roots)
            torch._foreach_addcdiv_(params, grads, roots, value=-group["lr"])


def _check_rates(rates: dict[str, Any]) -> None:
    check_float(_OWNER, "lr", rates["lr"], minimum=0.0, maximum=LARGEST_RATE)
    check_float(_OWNER, "decay", rates["decay"], minimum=0.0, below=1.0)
    # A smaller one is 0 in float32.
    check_float(_OWNER, "eps", rates["eps"], minimum=torch.finfo(torch.float32).tiny)


def make_optimizer(parameters: Iterable[nn.Parameter], config: RunConfig) -> torch.optim.Optimizer:
    """Build the optimiser that a run names, for one of its two networks."""
    rate = config.learning_rate
    if config.optimizer == "rmsprop_tf":
        return TensorFlowRMSprop(parameters, lr=rate)
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=rate, alpha=0.9)
    return torch.optim.Adam(parameters, lr=rate, betas=(0.5, 0.999))
