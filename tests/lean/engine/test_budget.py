"""A budget of bytes: convolutions run again as far as it takes, the cheapest per byte first."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gaslayers import make_lean, make_plain
from tests.lean.engine.test_traps import kept, tensors_of

SHAPE = (4, 3, 32, 32)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for a, b, size in ((3, 8, 3), (8, 16, 1), (16, 16, 5), (16, 32, 3), (32, 8, 1)):
        layers += [nn.Conv2d(a, b, size, padding=size // 2), nn.BatchNorm2d(b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(8, 1, 1))


def image(seed: int = 1) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def bytes_of(lean: nn.Module) -> int:
    """By a watcher of storages: what a pass keeps, its output left out."""
    x = image()

    def run() -> Tensor:
        return lean(x)

    return kept(run, *tensors_of(lean, x))


def least() -> int:
    with pytest.raises(ValueError, match=r"make_lean: `budget_bytes` must be >= \d+") as refused:
        make_lean(network(), budget_bytes=0, inputs=image())
    return int(str(refused.value).split(">= ")[1].split(",")[0])


def gradients(module: nn.Module) -> list[Tensor]:
    grads = torch.autograd.grad(module(image()).square().mean(), [*module.parameters()])
    return [*grads, *(buffer.clone() for buffer in module.buffers())]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("first", ["inputs", "a pass"])
def test_what_is_kept_is_within_the_budget_and_gradients_are_plains(share, first) -> None:
    smallest, cheap = least(), bytes_of(make_lean(network()))
    budget = int(smallest + share * (cheap - smallest))
    options = {"inputs": image()} if first == "inputs" else {}
    lean = make_lean(network(), budget_bytes=budget, **options)
    plain = network()
    for _ in range(3):
        for found, expected in zip(gradients(lean), gradients(plain), strict=True):
            assert torch.equal(found, expected)
    output = 4 * 4 * 32 * 32
    assert bytes_of(lean) <= budget + output


def test_the_least_is_less_than_where_every_second_convolution_runs_again() -> None:
    assert least() < bytes_of(make_lean(network(), recompute="convolutions"))


def test_a_larger_budget_keeps_more_and_the_largest_one_all_that_a_cheap_pass_keeps() -> None:
    smallest, cheap = least(), bytes_of(make_lean(network()))
    found = []
    for share in (0.0, 0.4, 0.8, 1.2):
        budget = int(smallest + share * (cheap - smallest))
        found.append(bytes_of(make_lean(network(), budget_bytes=budget, inputs=image())))
    assert found == sorted(found)
    assert found[0] < found[-1] == cheap


def test_the_cheapest_per_byte_runs_again_first() -> None:
    """A 1x1 convolution of few channels rather than a 5x5 one."""
    smallest, cheap = least(), bytes_of(make_lean(network()))
    budget = int(smallest + 0.7 * (cheap - smallest))
    lean = make_lean(network(), budget_bytes=budget, inputs=image())
    calls: list[tuple[int, ...]] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.convolution.default:
                calls.append(tuple(args[1].shape))
            return func(*args, **(kwargs or {}))

    loss = lean(image()).sum()
    with Watch():
        loss.backward()
    assert calls
    assert (16, 16, 5, 5) not in calls


def test_the_budget_goes_with_copies_and_pickles_and_ends_with_make_plain() -> None:
    lean = make_lean(network(), budget_bytes=least(), inputs=image())
    expected = bytes_of(lean)
    for other in (copy.deepcopy(lean), pickle.loads(pickle.dumps(lean))):
        assert bytes_of(other) == expected
    assert bytes_of(make_plain(lean)) > expected


def test_a_weight_that_was_computed_before_can_be_copied_for_a_try() -> None:
    module = nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(3, 8, 3)), nn.ReLU())
    module(image()).sum().backward()
    vector = module[0].weight_u.clone()
    make_lean(module, budget_bytes=10**7, inputs=image())
    assert torch.equal(module[0].weight_u, vector)


def test_shapes_and_frozen_weights_are_decided_for_on_their_own() -> None:
    lean = make_lean(network(), budget_bytes=10**8, inputs=image())
    lean(torch.randn(2, 3, 16, 16)).sum().backward()
    lean.requires_grad_(False)
    x = image().requires_grad_()
    lean(x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_a_first_pass_that_is_refused_says_the_least_and_leaves_nothing_on() -> None:
    lean = make_lean(network(), budget_bytes=1)
    lean(image())
    with pytest.raises(ValueError, match=r"the least for inputs of shape \(4, 3, 32, 32\), got 1"):
        lean(image())
    make_plain(lean)
    lean.load_state_dict(network().state_dict())
    assert torch.equal(lean(image()), network()(image()))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"budget_bytes": 1.5}, TypeError, "`budget_bytes` must be an int"),
        ({"budget_bytes": -1}, ValueError, "`budget_bytes` must be >= 0"),
        ({"inputs": torch.zeros(1)}, ValueError, "`inputs` must come with `budget_bytes`"),
    ],
)
def test_wrong_arguments_are_named(options, error, message) -> None:
    module = network()
    with pytest.raises(error, match=message):
        make_lean(module, **options)
    assert not module._forward_hooks


def test_a_failed_pass_decides_nothing() -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.fails = network(), True

        def forward(self, x: Tensor) -> Tensor:
            y = self.inner[0](x)
            if self.fails:
                raise ArithmeticError("of the module")
            return self.inner[1:](y)

    module = make_lean(Fails(), budget_bytes=least())
    with pytest.raises(ArithmeticError):
        module(image())
    module.fails = False
    for _ in range(2):
        module(image()).sum().backward()
