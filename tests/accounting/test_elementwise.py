"""Strides of elementwise results, against those that PyTorch itself gives to real tensors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from gaslayers.accounting._elementwise import with_strides


class Compared(TorchDispatchMode):
    """Compare the strides of every operator's real output with those that are worked out."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        fakes = FakeTensorMode()
        given = [fakes.from_tensor(arg) if isinstance(arg, Tensor) else arg for arg in args]
        with fakes:
            found = with_strides(func, tuple(given), func(*given, **(kwargs or {})))
        assert found.stride() == out.stride(), (func, [getattr(a, "stride", int)() for a in args])
        return out


OPERATORS = {
    "add": torch.add,
    "mul": torch.mul,
    "maximum": torch.maximum,
    "less": torch.lt,
    "where": lambda a, b: torch.where(a > 0, a, b),
    "number": lambda a, _b: a * 2.0,
    "compared with a number": lambda a, _b: a > 0,
    "one operand": lambda a, _b: torch.sigmoid(a),
    "slope": lambda a, _b: torch.nn.functional.leaky_relu(a, 0.2),
    "bounds": lambda a, _b: a.clamp(-1, 1),
    "copy": lambda a, _b: a.clone(),
    "addcmul": lambda a, b: torch.addcmul(a, a, b),
    "scalar tensor": lambda a, _b: a + torch.tensor(1.0),
}


@st.composite
def operand(draw, shape, dtype):
    """A tensor of this shape, permuted in memory, cropped or expanded."""
    order = draw(st.permutations(range(len(shape))))
    kind = draw(st.sampled_from(["dense", "crop", "expanded", "broadcast"]))
    sizes = [shape[dim] for dim in order]
    if kind == "crop":
        sizes = [size + 1 for size in sizes]
    elif kind != "dense":
        held = draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
        sizes = [size if is_held else 1 for size, is_held in zip(sizes, held, strict=True)]
    tensor = torch.ones(sizes, dtype=dtype).permute([order.index(dim) for dim in range(len(shape))])
    if kind == "crop":
        tensor = tensor[tuple(slice(size) for size in shape)]
    return tensor.expand(shape) if kind == "expanded" else tensor


@pytest.mark.parametrize("name", OPERATORS)
@settings(max_examples=30)
@given(data=st.data())
def test_strides_of_elementwise_results_are_pytorchs_for_any_layout(name, data) -> None:
    shape = data.draw(st.lists(st.sampled_from([1, 2, 3]), min_size=2, max_size=5))
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16]))
    first = data.draw(operand(shape, dtype)).expand(shape)
    second = data.draw(operand(shape, dtype))
    with Compared():
        OPERATORS[name](first, second)
