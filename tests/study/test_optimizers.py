from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gaslayers.study.optimizers import TensorFlowRMSprop, make_optimizer
from gaslayers.study.rates import LARGEST_RATE, SMALLEST_RATE

RATE, DECAY, EPS = 0.1, 0.75, 0.5


def step_like_tensorflow(weight, gradient, mean_square, *, rate, decay, eps):
    """TensorFlow 1.3's ApplyRMSProp without momentum, for one number."""
    mean_square = decay * mean_square + (1 - decay) * gradient**2
    return weight - rate * gradient / math.sqrt(mean_square + eps), mean_square


def make_parameters():
    return [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in ((2, 3), (4,))]


def draw_gradients(parameters):
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)


def test_rmsprop_equals_slow_loop_over_numbers():
    parameters = make_parameters()
    optimizer = TensorFlowRMSprop(parameters, lr=RATE, decay=DECAY, eps=EPS)
    # TensorFlow's slot `rms` starts at one.
    expected = [[(w, 1.0) for w in p.flatten().tolist()] for p in parameters]
    for _ in range(4):
        draw_gradients(parameters)
        for numbers, p in zip(expected, parameters, strict=True):
            for index, gradient in enumerate(p.grad.flatten().tolist()):
                numbers[index] = step_like_tensorflow(
                    numbers[index][0], gradient, numbers[index][1], rate=RATE, decay=DECAY, eps=EPS
                )
        optimizer.step()
    for numbers, p in zip(expected, parameters, strict=True):
        weights = torch.tensor([w for w, _ in numbers], dtype=torch.float64)
        assert_close(p.detach().flatten(), weights)


def test_rmsprop_first_step_in_closed_form():
    weight = nn.Parameter(torch.tensor([3.0], dtype=torch.float64))
    optimizer = TensorFlowRMSprop([weight])
    weight.grad = torch.tensor([2.0], dtype=torch.float64)
    optimizer.step()
    # The mean square is 0.9 of one and 0.1 of the gradient's square: 1.3.
    assert_close(weight.item(), 3 - 0.002 / math.sqrt(1.3 + 1e-10), rtol=1e-14, atol=0)


def test_rmsprop_hardly_moves_a_weight_of_tiny_gradient():
    # What sets it apart from torch.optim.RMSprop, whose first step is 3.16 times the rate.
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    for weight in weights:
        weight.grad = torch.tensor([1e-6])
    TensorFlowRMSprop(weights[:1], lr=1e-3).step()
    torch.optim.RMSprop(weights[1:], lr=1e-3, alpha=0.9).step()
    assert abs(weights[0].item()) < 1.1e-9
    assert abs(weights[1].item()) > 3e-3


def test_rmsprop_passes_by_weights_without_gradient():
    parameters = make_parameters()
    before = [p.detach().clone() for p in parameters]
    optimizer = TensorFlowRMSprop(parameters, lr=RATE)
    optimizer.step()
    assert not optimizer.state_dict()["state"]
    parameters[1].grad = torch.ones_like(parameters[1])
    optimizer.step()
    assert_close(parameters[0].detach(), before[0], rtol=0, atol=0)
    assert (parameters[1] != before[1]).all()


def test_rmsprop_takes_the_rate_of_each_group():
    slow, fast = (nn.Parameter(torch.zeros(1)) for _ in range(2))
    slow.grad, fast.grad = torch.ones(1), torch.ones(1)
    TensorFlowRMSprop([{"params": [slow]}, {"params": [fast], "lr": 1e-2}], lr=1e-3).step()
    assert_close(fast.detach(), 10 * slow.detach())


def test_rmsprop_goes_on_from_its_state_dict():
    parameters = make_parameters()
    optimizer = TensorFlowRMSprop(parameters, lr=RATE)
    draw_gradients(parameters)
    optimizer.step()
    copies = [nn.Parameter(p.detach().clone()) for p in parameters]
    other = TensorFlowRMSprop(copies, lr=RATE)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    draw_gradients(parameters)
    for copied, p in zip(copies, parameters, strict=True):
        copied.grad = p.grad.clone()
    optimizer.step()
    other.step()
    for copied, p in zip(copies, parameters, strict=True):
        assert_close(copied.detach(), p.detach(), rtol=0, atol=0)


def test_rmsprop_refuses_a_closure():
    optimizer = TensorFlowRMSprop(make_parameters())
    with pytest.raises(TypeError, match="TensorFlowRMSprop: `closure` must be None, got <function"):
        optimizer.step(lambda: 0.0)


@pytest.mark.parametrize(
    ("rates", "error", "match"),
    [
        ({"lr": -1e-3}, ValueError, r"`lr` must be >= 0\.0, got -0\.001"),
        ({"lr": math.nan}, ValueError, "`lr` must be finite, got nan"),
        ({"lr": math.inf}, ValueError, "`lr` must be finite, got inf"),
        ({"lr": 1e31}, ValueError, r"`lr` must be <= 1e\+30, got 1e\+31"),
        ({"lr": "0.1"}, TypeError, "`lr` must be a number, got '0.1'"),
        ({"decay": -0.1}, ValueError, r"`decay` must be >= 0\.0, got -0\.1"),
        ({"decay": 1.0}, ValueError, r"`decay` must be < 1\.0, got 1\.0"),
        ({"decay": math.nan}, ValueError, "`decay` must be finite, got nan"),
        ({"decay": True}, TypeError, "`decay` must be a number, got True"),
        ({"eps": 0.0}, ValueError, r"`eps` must be >= 1\.17.*e-38, got 0\.0"),
        ({"eps": -1e-10}, ValueError, r"`eps` must be >= 1\.17.*e-38, got -1e-10"),
        ({"eps": math.inf}, ValueError, "`eps` must be finite, got inf"),
    ],
    ids=str,
)
@pytest.mark.parametrize("in_group", [False, True])
def test_rmsprop_refuses_rates_that_cannot_be(rates, error, match, in_group):
    weights = make_parameters()
    groups, settings = ([{"params": weights, **rates}], {}) if in_group else (weights, rates)
    with pytest.raises(error, match=f"^TensorFlowRMSprop: {match}"):
        TensorFlowRMSprop(groups, **settings)


def test_rmsprop_keeps_weights_finite_whose_gradient_stays_zero():
    # The mean square decays to 0 in float32; what is under the root must not.
    weight = nn.Parameter(torch.ones(1))
    optimizer = TensorFlowRMSprop([weight], decay=0.01, eps=torch.finfo(torch.float32).tiny)
    weight.grad = torch.zeros(1)
    for _ in range(30):
        optimizer.step()
    assert optimizer.state[weight]["mean_square"].item() == 0.0
    assert weight.item() == 1.0


@pytest.mark.parametrize("name", ["rmsprop_tf", "rmsprop", "adam"])
@pytest.mark.parametrize("rate", [SMALLEST_RATE, LARGEST_RATE])
def test_optimisers_take_steps_at_the_bounds_of_the_rate(make_config, name, rate):
    weight = nn.Parameter(torch.zeros(1))
    weight.grad = torch.ones(1)
    make_optimizer([weight], make_config(optimizer=name, learning_rate=rate)).step()
    assert -1e31 < weight.item() < 0


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("rmsprop_tf", TensorFlowRMSprop, {"lr": 0.25, "decay": 0.9, "eps": 1e-10}),
        ("rmsprop", torch.optim.RMSprop, {"lr": 0.25, "alpha": 0.9, "momentum": 0}),
        ("adam", torch.optim.Adam, {"lr": 0.25, "betas": (0.5, 0.999)}),
    ],
)
def test_make_optimizer_builds_the_one_named(make_config, name, kind, settings):
    config = make_config(optimizer=name, learning_rate=0.25)
    optimizer = make_optimizer(make_parameters(), config)
    assert type(optimizer) is kind
    assert optimizer.defaults.items() >= settings.items()
