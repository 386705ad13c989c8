"""What cannot be counted gets an error that names the place and the remedy."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gaslayers import count
from gaslayers.accounting import _handles, saved_bytes, saved_bytes_by_module

X = torch.ones(2, 4)


@pytest.mark.parametrize("function", [count, saved_bytes, saved_bytes_by_module])
def test_bad_arguments_are_refused_by_name(function) -> None:
    owner = function.__name__
    with pytest.raises(TypeError, match=rf"{owner}: `module` must be a torch.nn.Module, got 'net'"):
        function("net", X)
    with pytest.raises(TypeError, match=rf"{owner}: `module` must be a .* got <class .*Linear'>"):
        function(nn.Linear, X)
    with pytest.raises(TypeError, match=rf"{owner}: `kwargs` must be a mapping"):
        function(nn.Linear(4, 4), X, kwargs=[1])


@pytest.mark.parametrize("argument", ["backward", "verify"])
def test_switches_are_bools(argument) -> None:
    with pytest.raises(TypeError, match=rf"count: `{argument}` must be a bool, got 1"):
        count(nn.Linear(4, 4), X, **{argument: 1})


@pytest.mark.parametrize("verify", [True, False])
def test_the_modules_own_error_comes_as_it_is(make, verify) -> None:
    with pytest.raises(RuntimeError, match=r"^mat1 and mat2 shapes cannot be multiplied"):
        count(nn.Linear(4, 4), torch.ones(2, 5), verify=verify)
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'input'"):
        count(nn.Linear(4, 4), (), verify=verify)

    class OwnError(Exception):
        pass

    def fail(_module, _x):
        raise OwnError("half-way")

    with pytest.raises(OwnError, match=r"^half-way$"):
        count(make(fail), X, verify=verify)


def test_lazy_module_is_refused() -> None:
    network = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d())
    with pytest.raises(ValueError, match=r"must be initialised, got 'lazy 0.weight'. Run one forw"):
        count(network, X)
    network(X)
    assert count(network, X).macs == 32


def test_lazy_buffer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got 'lazy running_mean'"):
        count(nn.LazyBatchNorm1d(affine=False), X)


def test_tensors_without_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be run on tensors that hold values, got 'meta'"):
        count(nn.Linear(4, 4, device="meta"), X)
    with pytest.raises(ValueError, match=r"must be run on tensors that hold values, got 'meta'"):
        count(nn.Linear(4, 4), X.to("meta"))
    fake = FakeTensorMode().from_tensor(X)
    with pytest.raises(ValueError, match=r"must be run on tensors that hold values"):
        count(nn.Linear(4, 4), fake)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_scripted_module_is_refused() -> None:
    network = nn.Sequential(torch.jit.script(nn.Linear(4, 4)))
    with pytest.raises(TypeError, match=r"`module` must not be scripted, got '0'. Pass the module"):
        count(network, X)


def test_module_that_cannot_be_copied_is_refused_by_attribute() -> None:
    network = nn.Sequential(nn.Linear(4, 4))
    network[0].lock = threading.Lock()
    with pytest.raises(
        TypeError, match=r"must be one that can be copied, got '0.lock'. It runs on"
    ):
        count(network, X)
    with pytest.raises(TypeError, match=r"must be one that can be copied, got 'among the inputs'"):
        count(nn.Linear(4, 4), (X, threading.Lock()))


DATA_DEPENDENT = {
    "branch": (lambda _, x: x * 2 if x.sum() > 0 else x, "_local_scalar_dense"),
    "item": (lambda _, x: x * x.max().item(), "_local_scalar_dense"),
    "mask": (lambda _, x: x[x > 0], "index"),
    "nonzero": (lambda _, x: x.nonzero(), "nonzero"),
}


@pytest.mark.parametrize("kind", DATA_DEPENDENT)
def test_control_flow_that_hangs_on_values_is_refused_by_module(make, kind) -> None:
    function, operator = DATA_DEPENDENT[kind]
    network = nn.Sequential(nn.Identity(), make(function))
    with pytest.raises(
        ValueError, match=rf"but '1' reads some, got 'aten.{operator}'. Pass verify"
    ):
        count(network, X)
    count(network, X, verify=False)


def test_reading_a_parameter_or_buffer_or_indexing_by_number_is_no_such_flow(make) -> None:
    count(nn.BatchNorm1d(4, momentum=None), X)  # reads num_batches_tracked
    count(make(lambda _, x: x[:, torch.tensor([0, 2])]), X)


def test_engines_that_disagree_are_an_error_with_place_operator_and_both_figures(
    monkeypatch,
) -> None:
    monkeypatch.setattr(_handles, "_convolution_mode", lambda i, o: _handles._product("conv", 7, o))
    network = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Conv2d(1, 2, 3, padding="same")))
    rule = r"in '1.0', got 7 \(fvcore\) and 288 \(dispatch\) in each convolution \(conv\)"
    with pytest.raises(RuntimeError, match=rule):
        count(network, torch.zeros(1, 1, 4, 4))
    assert count(network, torch.zeros(1, 1, 4, 4), verify=False).macs == 7


@torch.library.custom_op("gaslayers_tests::product", mutates_args=())
def custom_product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x @ weight


def test_custom_operator_is_an_error_and_no_silent_zero(make) -> None:
    module = make(lambda self, x: custom_product(x, self.linear.weight), linear=nn.Linear(4, 4))
    with pytest.raises(ValueError, match=r"not counted, got 'gaslayers_tests::product'. Pass ver"):
        count(module, X)
    report = count(module, X, verify=False)
    assert (report.macs, report.unsupported) == (0, {"gaslayers_tests::product": 1})


HIDING = {
    "bilinear": lambda x: F.bilinear(x, x, torch.ones(2, 4, 4)),
    "cdist": lambda x: torch.cdist(x, x),
    "addbmm": lambda x: torch.addbmm(x[:, :2], x[None], x[None].mT),
    "addr": lambda x: torch.addr(x, x[:, 0], x[0]),
    "linalg_multi_dot": lambda x: torch.linalg.multi_dot([x, x.T, x]),
    "linalg_matrix_power": lambda x: torch.linalg.matrix_power(x @ x.T, 3),
    "linalg_matrix_exp": lambda x: torch.linalg.matrix_exp(x @ x.T),
    "_trilinear": lambda x: torch._trilinear(x, x[None], x, [1], [], [0], [0]),
    "_sparse_mm": lambda x: torch.sparse.mm(torch.eye(2).to_sparse(), x),
}


@pytest.mark.parametrize("operator", HIDING)
def test_operator_that_hides_its_products_is_an_error_and_no_silent_zero(make, operator) -> None:
    module = make(lambda _, x: HIDING[operator](x))
    words = rf"must have no MACs that are not counted, got 'aten::{operator}'"
    with pytest.raises(ValueError, match=words):
        count(module, X)
    assert count(module, X, verify=False).unsupported[f"aten::{operator}"] == 1


@pytest.mark.parametrize("padding", [0, "same"])
@pytest.mark.parametrize("verify", [False, True])
def test_complex_convolution_is_refused_by_name(padding, verify) -> None:
    layer = nn.Conv2d(2, 3, 3, padding=padding, dtype=torch.complex64)
    x = torch.zeros(1, 2, 6, 6, dtype=torch.complex64)
    with pytest.raises(ValueError, match=r"MACs that are not counted, got 'complex conv2d'"):
        count(layer, x, verify=verify)
    transposed = nn.ConvTranspose1d(2, 3, 3, dtype=torch.complex64)
    with pytest.raises(ValueError, match=r"got 'complex conv_transpose1d'"):
        count(transposed, x[:, :, 0], verify=verify)


def test_module_that_cannot_be_traced_is_an_error_with_its_name(make) -> None:
    def penalty(self, x):
        x = x.clone().requires_grad_()
        with torch.enable_grad():
            score = self.score(x).sum()
        return torch.autograd.grad(score, x, create_graph=True)[0].square().sum()

    network = nn.Sequential(nn.ReLU(), make(penalty, score=nn.Linear(4, 1)))
    with pytest.raises(RuntimeError, match=r"must be traceable, but in '1.*' it is not: .* Count"):
        count(network, X)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_compiled_function_inside_a_forward_pass_is_refused_as_untraceable(make) -> None:
    compiled = torch.compile(lambda x: x * 2, backend="eager")
    with pytest.raises(RuntimeError, match=r"must be traceable, but in '' it is not: .*dynamo"):
        count(make(lambda _, x: compiled(x)), X)


def test_module_compiled_in_place_has_no_known_saved_bytes() -> None:
    network = nn.Sequential(nn.Linear(4, 4))
    network[0].compile(backend="eager")
    with pytest.raises(
        ValueError, match=r"saved_bytes: `module` must not be compiled in place, got"
    ):
        saved_bytes(network, X)


def test_compiled_module_has_no_saved_bytes_by_module() -> None:
    compiled = torch.compile(nn.Linear(4, 4), backend="eager")
    with pytest.raises(ValueError, match=r"saved_bytes_by_module: `module` must not be compiled, "):
        saved_bytes_by_module(nn.Sequential(compiled), X)
