"""Counting leaves everything as it was, also where the forward pass raises."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from gaslayers import DownBlock, count
from gaslayers.accounting import saved_bytes, saved_bytes_by_module

COUNTS = {
    "forward": lambda module, inputs: count(module, inputs),
    "unverified": lambda module, inputs: count(module, inputs, verify=False),
    "backward": lambda module, inputs: count(module, inputs, backward=True),
    "saved": saved_bytes,
    "saved by module": saved_bytes_by_module,
}


class Restless(nn.Module):
    """Moves all that a module can move: itself, its input, every random state."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)
        self.conv = nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 3, padding=1))
        self.old = nn.utils.spectral_norm(nn.Conv2d(4, 4, 1))
        self.drop = nn.Dropout(0.5)
        self.block = DownBlock(4, 4)
        self.calls, self.seen, self.last = 0, [], None
        self.failure = failure
        self.register_buffer("hidden", torch.zeros(1), persistent=False)
        self.norm.weight.grad = torch.ones(4)
        self.conv.register_forward_hook(lambda module, args, output: output * 1)
        self.conv.eval()

    def forward(self, x):
        self.calls += 1
        self.seen.append(self.calls)
        self.extra = torch.rand(1)
        self.hidden += random.random() + np.random.rand()  # noqa: NPY002  (the global state)
        x.add_(1.0)
        x = self.old(self.conv(self.norm(x)))
        self.last = x
        self.train(not self.training)
        if self.failure is not None:
            raise self.failure
        return self.block(self.drop(x))


# An already run module holds a tensor with a history, which cannot be copied as it is.
@pytest.fixture(params=["fresh", "used"])
def restless(request) -> Restless:
    module = Restless()
    if request.param == "used":
        module(torch.zeros(2, 4, 6, 6))
    return module


@pytest.mark.filterwarnings("ignore:.*spectral_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("how", COUNTS)
def test_counting_leaves_no_trace(restless, take_picture, how) -> None:
    x = torch.randn(2, 4, 6, 6)
    COUNTS[how](nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 2, 2))  # fvcore adds its loggers at import
    before = take_picture(restless, x)
    COUNTS[how](restless, x)
    assert take_picture(restless, x) == before


@pytest.mark.filterwarnings("ignore:.*spectral_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("how", COUNTS)
@pytest.mark.parametrize("error", [KeyError("gone"), KeyboardInterrupt()], ids=repr)
def test_counting_leaves_no_trace_when_the_forward_pass_raises(take_picture, how, error) -> None:
    module, x = Restless(error), torch.randn(2, 4, 6, 6)
    COUNTS[how](nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 2, 2))
    before = take_picture(module, x)
    with pytest.raises(type(error)):
        COUNTS[how](module, x)
    assert take_picture(module, x) == before
    assert count(nn.Linear(2, 3), torch.zeros(1, 2)).macs == 6  # and the next count works


@pytest.mark.parametrize("how", COUNTS)
def test_counting_leaves_the_graph_of_its_inputs(take_picture, how) -> None:
    source = torch.randn(2, 4, 6, 6, requires_grad=True)
    generated = source * 2
    COUNTS[how](nn.Conv2d(4, 2, 3), generated)
    generated.sum().backward()
    assert torch.equal(source.grad, torch.full_like(source, 2.0))


def test_both_engines_start_from_the_same_state(make) -> None:
    def every_second_time(self, x):
        self.calls += 1
        return self.linear(x) if self.calls % 2 and random.random() < 2 else x

    module = make(every_second_time, linear=nn.Linear(4, 4))
    module.calls = 0
    assert count(module, torch.zeros(1, 4)).macs == 16
    module.calls = 1
    assert count(module, torch.zeros(1, 4)).macs == 0


def test_random_depth_takes_the_same_turn_in_both_engines(make) -> None:
    module = make(
        lambda self, x: self.linear(x) if random.random() < 0.5 else x, linear=nn.Linear(4, 4)
    )
    found = set()
    for seed in range(8):
        random.seed(seed)
        found.add(count(module, torch.zeros(1, 4)).macs)
    assert found == {0, 16}


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad * ctx.saved_tensors[0]


def test_custom_functions_of_other_threads_keep_their_gradients(make) -> None:
    def forward(_self, x):
        pool.submit(train).result()  # in the midst of the count
        return x

    def train():
        y = torch.ones(1, requires_grad=True)
        Square.apply(y).backward()
        gradients.append(y.grad.item())

    gradients: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        module = make(forward)
        count(module, torch.zeros(1))
    assert gradients == [2.0, 2.0]
