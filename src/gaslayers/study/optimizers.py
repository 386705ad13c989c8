"""The optimisers of the study."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import nn

from gaslayers._checks import bad_type

if TYPE_CHECKING:
    from gaslayers.study.config import RunConfig


class TensorFlowRMSprop(torch.optim.Optimizer):
    """RMSProp as TensorFlow 1 wrote it.

    It differs from `torch.optim.RMSprop` in two places that matter to a network whose gradients
    are small: the mean square starts at one, not at zero, and epsilon stands under the root.

    Args:
        params: Parameters to optimise.
        lr: Learning rate.
        decay: Of the running mean square.
        eps: Added under the root.

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
        super().__init__(params, {"lr": lr, "decay": decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is taken
        """Take one step.

        Raises:
            TypeError: A closure is given.
        """
        if closure is not None:
            raise bad_type("TensorFlowRMSprop", "closure", "be None", closure)
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


def make_optimizer(parameters: Iterable[nn.Parameter], config: RunConfig) -> torch.optim.Optimizer:
    """Build the optimiser that a run names, for one of its two networks."""
    rate = config.learning_rate
    if config.optimizer == "rmsprop_tf":
        return TensorFlowRMSprop(parameters, lr=rate)
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=rate, alpha=0.9)
    return torch.optim.Adam(parameters, lr=rate, betas=(0.5, 0.999))
