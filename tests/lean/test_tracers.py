"""Tracers, exporters and transforms see a block's layers, or what equals them."""

from __future__ import annotations

import copy
import io
import warnings

import onnx
import onnx.reference
import pytest
import torch
from hypothesis import given
from torch import Tensor, nn

from gaslayers import DenseBlock, DepthwiseInceptionBlock, DownBlock, InceptionBlock
from tests.lean.compositions import compose
from tests.lean.outcomes import Drawn, Results, assert_as_plain, assert_same, blocks, draws
from tests.lean.subjects import SUBJECTS, build

DRAWS = draws(25)
PLAIN_TRACE = "ignore::torch.jit.TracerWarning"  # on the checks of shapes


def in_eval(block: nn.Module, x: Tensor) -> Results:
    return {"output": block(x).detach()}


@pytest.mark.filterwarnings(PLAIN_TRACE)
@pytest.mark.parametrize("recording", [True, False])
@DRAWS
@given(drawn=blocks(dtypes=(torch.float32,)))  # a trace of float64 rounds some of it to float32
def test_a_trace_computes_what_the_composition_computes(recording: bool, drawn: Drawn) -> None:
    block, x, other = drawn.block.eval(), drawn.input(), drawn.input(seed=1)
    with torch.set_grad_enabled(recording):
        traced = torch.jit.trace(block, x.detach(), check_trace=False)
    composition = compose(block)
    for value in (x, other):
        assert_same(in_eval(traced, value), in_eval(composition, value))
    grads = [torch.autograd.grad(m(x).square().sum(), x)[0] for m in (traced, composition)]
    assert_same({"x": grads[0]}, {"x": grads[1]})


EXPORTED = {
    "stage": lambda: DownBlock(4, 8),
    "recomputed stage": lambda: DownBlock(4, 8, memory_efficient="recompute"),
    "inception": lambda: InceptionBlock(4, 6),
    "depthwise inception": lambda: DepthwiseInceptionBlock(4, 6),
    "dense": lambda: DenseBlock(4, 4, num_layers=2),
}


class Asking(nn.Module):
    """A block that is asked, when it is called, which path it takes."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block, self.executions = block, []

    def forward(self, x: Tensor) -> Tensor:
        self.executions.append(self.block.execution)
        return self.block(x)


@pytest.mark.filterwarnings(PLAIN_TRACE)
@pytest.mark.parametrize("name", ["stage", "recomputed stage", "inception", "dense"])
def test_a_block_says_that_a_trace_runs_the_composition(name: str) -> None:
    asking = Asking(EXPORTED[name]())
    torch.jit.trace(asking, torch.randn(2, 4, 8, 8), check_trace=False)
    assert [str(execution) for execution in asking.executions] == [
        "plain: the tracer does not look into autograd functions"
    ]
    assert asking.block.execution.is_lean


def _with_free_size(block: nn.Module) -> nn.Module:
    size = torch.export.Dim("height", min=4, max=64), torch.export.Dim("width", min=4, max=64)
    shapes = {"x": {0: torch.export.Dim("batch", min=2, max=64), 2: size[0], 3: size[1]}}
    x = torch.randn(2, 4, 8, 12)
    return torch.export.export(block, (x,), dynamic_shapes=shapes).module()


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_block_takes_any_height_and_width(name: str, frozen: bool) -> None:
    block = EXPORTED[name]().eval().requires_grad_(not frozen)
    exported = _with_free_size(block)
    for shape in [(2, 4, 8, 12), (3, 4, 7, 20)]:
        x = torch.randn(shape)
        torch.testing.assert_close(exported(x), compose(block)(x))


@pytest.mark.filterwarnings("ignore", PLAIN_TRACE)  # the exporter warns of its own age
@pytest.mark.parametrize("name", EXPORTED)
def test_the_older_onnx_exporter_writes_the_composition(name: str) -> None:
    block, x = EXPORTED[name]().eval(), torch.randn(2, 4, 8, 12)
    file = io.BytesIO()
    torch.onnx.export(block, (x,), file, dynamo=False)
    exported = onnx.reference.ReferenceEvaluator(onnx.load_from_string(file.getvalue()))
    (found,) = exported.run(None, {exported.input_names[0]: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), compose(block)(x), rtol=1e-4, atol=1e-5)


@DRAWS
@given(drawn=blocks(dtypes=(torch.float64,)))
def test_transforms_of_functions_differentiate_the_composition(drawn: Drawn) -> None:
    drawn.block.eval()

    def act(module: nn.Module, owner: nn.Module) -> Results:
        x = drawn.input().detach()

        def loss(image: Tensor) -> Tensor:
            return module(image[None]).square().sum()

        slope = torch.func.vmap(torch.func.grad(loss))(x)
        _, tangent = torch.func.jvp(module, (x,), (torch.ones_like(x),))
        return {"slope": slope, "tangent": tangent}

    assert_as_plain(drawn.block, act)


@DRAWS
@given(drawn=blocks(dtypes=(torch.float64,)))
def test_other_tensors_may_stand_in_for_the_blocks_own(drawn: Drawn) -> None:
    drawn.block.eval()
    state = {k: v.detach() * 0.5 for k, v in drawn.block.named_parameters()}
    halved = copy.deepcopy(drawn.block)
    halved.load_state_dict(state, strict=False)
    x = drawn.input()
    found = {name: value.clone().requires_grad_() for name, value in state.items()}
    y = torch.func.functional_call(drawn.block, found, (x,))
    expected = compose(halved)(x)
    assert_same({"output": y.detach()}, {"output": expected.detach()})
    halved.requires_grad_()
    expected = compose(halved)(x)
    grads = [
        torch.autograd.grad(z.square().sum(), [*ps])
        for z, ps in ((y, found.values()), (expected, halved.parameters()))
    ]
    assert_same(*({str(i): g for i, g in enumerate(gs)} for gs in grads))


@pytest.mark.parametrize("name", ["down", "dense", "inception", "depthwise inception 2018"])
def test_a_block_runs_on_the_meta_device_and_as_a_fake(name: str) -> None:
    block = build(SUBJECTS[name], 4, True)
    x = torch.randn(2, 4, 6, 6)
    expected = block(x)
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = block(mode.from_tensor(x.clone().requires_grad_()))
        fake.sum().backward()
    assert fake.shape == expected.shape
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert copy.deepcopy(block).to("meta")(x.to("meta")).shape == expected.shape
