"""The second counting engine: every operator of a real pass, as it reaches the device.

Below autograd a linear layer, an einsum and a matrix product are all `mm` or `bmm`, a convolution
of whatever padding is `convolution`, and nothing can hide: what the first engine missed shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.utils._python_dispatch import TorchDispatchMode

from gaslayers.accounting._parts import CalledParts
from gaslayers.accounting._sandbox import Call
from gaslayers.lean.modules import tensors_of

CONVOLUTION, MATMUL, BACKWARD = "convolution", "matrix product", "backward"

_aten = torch.ops.aten


@dataclass(frozen=True)
class Recorded:
    """Multiply-adds of one pass, by the innermost module that they were run in and their kind."""

    forward: Counter[tuple[str, str]] = field(default_factory=Counter)
    backward: Counter[tuple[str, str]] = field(default_factory=Counter)
    data_dependent: dict[str, str] = field(default_factory=dict)  # module to operator


def _convolution(x: Tensor, weight: Tensor, out: Tensor, *, transposed: bool) -> int:
    """Each element of the smaller side meets the kernel of its group once."""
    return prod((x if transposed else out).shape) * prod(weight.shape[1:])


def _forward_convolution(args: tuple[Any, ...], out: Tensor) -> int:
    return _convolution(args[0], args[1], out, transposed=args[6])


def _backward_convolution(args: tuple[Any, ...], _out: Any) -> int:
    """As much as forward for each of the two gradients that is asked for; the bias has none."""
    grad, x, weight, transposed, mask = args[0], args[1], args[2], args[7], args[10]
    return _convolution(x, weight, grad, transposed=transposed) * (mask[0] + mask[1])


def _matrix_product(first: int) -> Callable[[tuple[Any, ...], Tensor], int]:
    """A product whose left factor is argument number ``first``; a complex one is four real ones."""
    return lambda args, out: (
        prod(args[first].shape[-1:]) * prod(out.shape) * (4 if out.is_complex() else 1)
    )


_MATRIX_PRODUCTS = {
    _aten.mm: _matrix_product(0),
    _aten.bmm: _matrix_product(0),
    _aten.mv: _matrix_product(0),
    _aten.dot: _matrix_product(0),
    _aten.vdot: _matrix_product(0),
    _aten.linear: _matrix_product(0),
    _aten.addmm: _matrix_product(1),
    _aten.baddbmm: _matrix_product(1),
    _aten.addmv: _matrix_product(1),
}


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # untyped in torch
    """Count the operators of a pass; `forward`, then `backward` on what it returned."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.found = Recorded()
        self._module = module
        self._buffers = {_storage(tensor) for tensor in [*module.parameters(), *module.buffers()]}
        self._stack = [""]
        self._running_backward = False
        self._owners: dict[Node, str] = {}
        self._parts = CalledParts(module)
        for part in module.modules():
            part.register_forward_pre_hook(self._enter, with_kwargs=True)
            part.register_forward_hook(self._leave, always_call=True)

    def _enter(self, part: nn.Module, args: Any, kwargs: Any) -> None:
        self._own(tensors_of((args, kwargs)))
        self._stack.append(self._parts.enter(part, self._stack[-1]))

    def _leave(self, _part: nn.Module, _args: Any, output: Any) -> None:
        self._own(tensors_of(output))
        self._stack.pop()

    def _own(self, tensors: Iterable[Tensor]) -> None:
        """Give the graph behind the tensors, where nobody owns it yet, to the current module."""
        name = self._stack[-1]
        pending = [tensor.grad_fn for tensor in tensors]
        while pending:
            node = pending.pop()
            if node is not None and node not in self._owners:
                self._owners[node] = name
                node.register_prehook(self._resume(name))
                pending.extend(source for source, _ in node.next_functions)

    def _resume(self, name: str) -> Any:
        def resume(_grads: Any) -> None:
            self._stack[-1] = name

        return resume

    def backward(self, output: Any) -> None:
        """Differentiate every output that has a gradient."""
        roots = [tensor for tensor in tensors_of(output) if tensor.requires_grad]
        self._running_backward = True
        with self:
            torch.autograd.backward(roots, [torch.ones_like(root) for root in roots])

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        operator = func.overloadpacket
        if not self._running_backward:
            self._record_forward(func, operator, args, out)
        elif not torch.is_grad_enabled():  # it is while a checkpoint runs its forward again
            self._record_backward(operator, args, out)
        return out

    def _record_forward(self, func: Any, operator: Any, args: tuple[Any, ...], out: Any) -> None:
        name = self._stack[-1]
        if operator is _aten.convolution:
            self.found.forward[name, CONVOLUTION] += _forward_convolution(args, out)
        elif operator in _MATRIX_PRODUCTS:
            self.found.forward[name, MATMUL] += _MATRIX_PRODUCTS[operator](args, out)
        elif self._reads_values(func, operator, args):
            self.found.data_dependent.setdefault(name, str(operator))

    def _record_backward(self, operator: Any, args: tuple[Any, ...], out: Any) -> None:
        name = self._stack[-1]
        if operator is _aten.convolution_backward:
            self.found.backward[name, BACKWARD] += _backward_convolution(args, out)
        elif operator in _MATRIX_PRODUCTS:
            self.found.backward[name, BACKWARD] += _MATRIX_PRODUCTS[operator](args, out)

    def _reads_values(self, func: Any, operator: Any, args: tuple[Any, ...]) -> bool:
        """Whether what runs next may hang on values; those of parameters and buffers are known."""
        dynamic = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
        if not dynamic.intersection(func.tags):
            return False
        if operator is _aten.index:  # by numbers it has a known shape, by a mask it has not
            return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        return any(_storage(tensor) not in self._buffers for tensor in tensors_of(args))


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def record(call: Call, *, backward: bool) -> Recorded:
    """Run the call, and its backward pass where asked for, and count the multiply-adds."""
    recorder = _Recorder(call.module)
    with recorder, torch.set_grad_enabled(backward or torch.is_grad_enabled()):
        output = call.run()
    if backward:
        recorder.backward(output)
    return recorder.found
