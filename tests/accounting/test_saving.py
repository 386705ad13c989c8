"""The bytes kept for backward, by hand, and against what autograd's graph holds."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from gaslayers import DenseBlock, DownBlock
from gaslayers.accounting import saved_bytes, saved_bytes_by_module
from gaslayers.models import CASES, build_discriminator

X = (2, 4, 6, 8)
MAP = 2 * 4 * 6 * 8 * 4  # bytes


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Conv2d(4, 6, 3), MAP),  # its input; the weight exists anyway
        (nn.Linear(8, 5), MAP),
        (nn.ReLU(), MAP),  # its output
        (nn.Sequential(nn.ReLU(), nn.Conv2d(4, 6, 3)), MAP),  # one storage, saved twice
        (nn.Sequential(nn.Sigmoid(), nn.ReLU()), 2 * MAP),
        (nn.BatchNorm2d(4), MAP + 2 * 4 * 4),  # the input, and mean and deviation
        (nn.MaxPool2d(2), MAP + MAP // 4 * 2),  # the input, and 8-byte indices of the output
        (nn.Flatten(), 0),
    ],
    ids=str,
)
def test_saved_bytes_of_a_layer(module, expected) -> None:
    x = torch.zeros(X, requires_grad=True)
    assert saved_bytes(module, x) == expected
    assert sum(saved_bytes_by_module(module, x).values()) == expected


def test_saved_bytes_of_a_frozen_pass_without_gradient_are_none() -> None:
    assert saved_bytes(nn.Conv2d(4, 6, 3).requires_grad_(False), torch.zeros(X)) == 0


def test_saved_bytes_count_a_storage_once_and_whole(make) -> None:
    weight = nn.Linear(1, 1)
    squares = make(lambda self, x: (x[:, :1] * self.linear.weight) * x[:, 1:2], linear=weight)
    # One channel each of the input, which is kept whole, and one product.
    assert saved_bytes(squares, torch.zeros(X, requires_grad=True)) == MAP + MAP // 4


def test_saved_bytes_leave_out_parameters_and_buffers_and_their_views(make) -> None:
    def forward(self, x):
        return (x @ self.linear.weight.t()[:, :2]) * self.scale[:1]

    module = make(forward, linear=nn.Linear(8, 5))
    module.register_buffer("scale", torch.ones(2))
    assert saved_bytes(module, torch.zeros(X)) == MAP


def test_saved_bytes_of_a_released_graph_are_not_kept(make) -> None:
    def forward(self, x):
        self.linear(x).sigmoid().sum()  # no output hangs on it
        return self.linear(x)

    assert saved_bytes(make(forward, linear=nn.Linear(8, 8)), torch.zeros(X)) == MAP


@pytest.mark.parametrize("reentrant", [True, False])
def test_saved_bytes_see_a_checkpoint(make, reentrant) -> None:
    body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Sigmoid())
    checkpointed = make(
        lambda self, x: checkpoint(self.body, x, use_reentrant=reentrant), body=body
    )
    x = torch.zeros(X, requires_grad=True)
    assert saved_bytes(body, x) == 3 * MAP
    assert saved_bytes(checkpointed, x) == MAP


def test_saved_bytes_are_the_same_whatever_the_grad_mode_around_them() -> None:
    with torch.no_grad():
        assert saved_bytes(nn.Conv2d(4, 6, 3), torch.zeros(X)) == MAP
    with torch.inference_mode():
        assert saved_bytes(nn.Conv2d(4, 6, 3), torch.zeros(X)) == MAP


def test_saved_bytes_take_keywords(make) -> None:
    module = make(lambda self, *, x: self.linear(x), linear=nn.Linear(8, 5))
    assert saved_bytes(module, (), kwargs={"x": torch.zeros(X)}) == MAP
    assert saved_bytes_by_module(module, (), kwargs={"x": torch.zeros(X)}) == {"linear": MAP}


def test_saved_bytes_of_the_original_discriminator_are_known() -> None:
    network = build_discriminator("original", memory_efficient=False)
    mebibytes = saved_bytes(network, torch.zeros(32, 1, 28, 28)) / 2**20
    assert round(mebibytes, 2) == 10.53  # measured on a port of the original, without norm


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("memory_efficient", [False, True])
def test_saved_bytes_by_module_sum_to_the_whole(case, memory_efficient) -> None:
    network = build_discriminator(case, variant="modern", memory_efficient=memory_efficient)
    x = torch.zeros(4, 1, 28, 28)
    shares = saved_bytes_by_module(network, x)
    assert sum(shares.values()) == saved_bytes(network, x) > 0
    assert set(shares) <= {name for name, _ in network.named_modules()}


def test_saved_bytes_by_module_name_the_module_that_saves() -> None:
    network = nn.Sequential(
        nn.Conv2d(4, 4, 1), nn.Sequential(nn.Sigmoid(), nn.Flatten()), nn.ReLU()
    )
    assert saved_bytes_by_module(network, torch.zeros(X)) == {"0": MAP, "1.0": MAP, "2": MAP}


class Lean(nn.Module):
    """Runs plain where a hook sits on its inner module, as our blocks do."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.Sigmoid()

    def forward(self, x):
        hooked = self.act._forward_hooks or self.act._forward_pre_hooks
        return self.act(x * 1.0) if hooked else x * 1.0


def test_saved_bytes_run_the_module_as_it_is() -> None:
    lean = nn.Sequential(Lean())
    x = torch.zeros(X, requires_grad=True)
    assert saved_bytes(lean, x) == 0
    assert saved_bytes_by_module(lean, x) == {}


@pytest.mark.parametrize(
    "build",
    [
        lambda lean: DownBlock(4, 8, memory_efficient=lean),
        lambda lean: DenseBlock(4, 4, num_layers=6, memory_efficient=lean),
    ],
    ids=["DownBlock", "DenseBlock"],
)
def test_saved_bytes_see_the_lean_paths(build) -> None:
    lean, plain = build(True), build(False)
    x = torch.zeros(X)
    assert saved_bytes(lean, x) <= saved_bytes(plain, x)


def test_saved_bytes_of_a_compiled_module_are_those_of_its_compiled_code() -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 1), *(nn.Sigmoid() for _ in range(4)))
    eager = saved_bytes(network, torch.zeros(X))
    compiled = torch.compile(network, backend="aot_eager_decomp_partition")
    assert 0 < saved_bytes(compiled, torch.zeros(X)) < eager == 5 * MAP
