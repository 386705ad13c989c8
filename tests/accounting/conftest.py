"""A module made of a function, and a picture of all that a count must leave alone."""

from __future__ import annotations

import logging
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree


class Made(nn.Module):
    """A module whose forward is the given function of itself and its inputs."""

    def __init__(self, function: Callable[..., Any], **children: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def _plain(value: Any) -> Any:
    """A value as something that compares with ==, by what it holds."""
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape), value.requires_grad, value.tolist())
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    return value


def _module_picture(module: nn.Module) -> dict[str, Any]:
    picture: dict[str, Any] = {}
    for name, part in module.named_modules():
        attributes = {k: v for k, v in vars(part).items() if k != "_modules"}
        picture[name] = (id(part), _plain(attributes), list(part._modules))
        for key, parameter in part._parameters.items():
            if parameter is not None:
                picture[f"{name}.{key}"] = (id(parameter), _plain(parameter.grad))
    return picture


def picture(module: nn.Module, inputs: Any) -> dict[str, Any]:
    """Everything that running a module may move."""
    loggers = [logging.getLogger()]
    loggers += [
        x for x in logging.root.manager.loggerDict.values() if isinstance(x, logging.Logger)
    ]
    return {
        "module": _module_picture(module),
        "inputs": _plain(pytree.tree_leaves(inputs)),
        "torch": torch.get_rng_state().tolist(),
        "python": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002  (the global state is at stake)
        "warnings": list(warnings.filters),
        "loggers": {x.name: (x.level, list(x.handlers), x.disabled, x.propagate) for x in loggers},
        "grad mode": torch.is_grad_enabled(),
        "functions": torch.autograd.Function.__dict__["apply"],
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "attention": (
            torch.backends.cuda.flash_sdp_enabled(),
            torch.backends.cuda.mem_efficient_sdp_enabled(),
        ),
        "global hooks": (
            list(nn.modules.module._global_forward_hooks),
            list(nn.modules.module._global_forward_pre_hooks),
        ),
    }


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Passes this small gain nothing from threads, which wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make() -> type[Made]:
    return Made


@pytest.fixture
def take_picture() -> Callable[[nn.Module, Any], dict[str, Any]]:
    return picture
