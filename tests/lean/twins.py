"""A lean module and its plain twin: same weights, same input, same everything that comes out.

A comparison counts where the lean path ran. `Execution` says what would run; here autograd's graph
bears witness to what did: that of a lean path has other nodes than that of the plain composition.
"""

from __future__ import annotations

import copy
import functools
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from hypothesis import currently_in_test_context, reject
from torch import Tensor, nn

from gaslayers.lean.native.availability import are_compiled


def kept_bytes(run: Callable[[], Tensor], left_out: Iterable[Tensor] = ()) -> int:
    """Bytes kept for backward, each storage once, those of ``left_out`` not at all."""
    skipped = {tensor.untyped_storage().data_ptr() for tensor in left_out}
    sizes = {}
    alive = []  # an address is only one storage's while that storage lives

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in skipped:
            sizes[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = run()
    del output
    return sum(sizes.values())


def module_bytes(module: nn.Module, x: Tensor) -> int:
    return kept_bytes(lambda: module(x), [*module.parameters(), *module.buffers()])


def code_bytes(cells: int, *, a_byte: int = 3) -> int:
    """What is kept of so many windows of 2x2: a byte each, or shared where kernels run."""
    return -(-cells // a_byte) if are_compiled() else cells


def twin_of(module: nn.Module) -> nn.Module:
    """The same module with every lean path off."""
    twin = copy.deepcopy(module)
    for child in twin.modules():
        if hasattr(child, "memory_efficient"):
            child.memory_efficient = False
    return twin


class Found(dict[str, Tensor]):
    """What a step found, by name, and the nodes of the graph that its forward pass made."""

    nodes: Counter[str]


def nodes_of(output: Tensor) -> Counter[str]:
    """How often each kind of node is in the graph behind a tensor."""
    seen, found = set(), Counter[str]()
    waiting = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            found[node.name()] += 1
            waiting += [following for following, _ in node.next_functions]
    return found


_draws: Counter[str] = Counter()


def count_draw(found: Found, expected: Found) -> None:
    """Leave out a draw of hypothesis whose lean path did not run; elsewhere that is a failure."""
    is_lean = found.nodes != expected.nodes
    _draws["lean" if is_lean else "plain"] += 1
    if is_lean:
        return
    if currently_in_test_context():
        reject()
    raise AssertionError("the lean path did not run: plain was compared with plain")


def lean_in(share: float) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Fail a property whose draws ran lean less often, however many of them were equal.

    Args:
        share: Of the draws that `count_draw` saw.
    """

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def counted(*arguments: Any, **options: Any) -> None:
            _draws.clear()
            test(*arguments, **options)
            lean, total = _draws["lean"], _draws.total()
            assert lean >= share * total > 0, f"{lean} of {total} draws ran lean"

        return counted

    return decorate


def step(
    module: nn.Module,
    x: Tensor,
    *,
    input_grad: bool,
    weigh: Callable[[Tensor], Tensor] = torch.clone,
) -> Found:
    """One forward and backward; output, all gradients and all buffers by name.

    The gradient of the output is what ``weigh`` makes of normal noise.
    """
    x = x.detach().clone().requires_grad_(input_grad)
    output = module(x)
    found = Found(output=output.detach())
    found.nodes = nodes_of(output)
    if output.requires_grad:
        generator = torch.Generator().manual_seed(1)
        weights = torch.randn(output.shape, generator=generator, dtype=output.dtype)
        (output * weigh(weights)).sum().backward()
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            found[f"grad of {name}"] = parameter.grad
    if x.grad is not None:
        found["grad of x"] = x.grad
    found.update((name, buffer.clone()) for name, buffer in module.named_buffers())
    return found


def assert_equal_twins(
    module: nn.Module, x: Tensor, *, input_grad: bool = True, may_be_plain: bool = False
) -> None:
    """Fail unless lean and plain agree bit for bit in everything that `step` finds.

    And unless lean ran, where the module is not one that ``may_be_plain``.
    """
    expected = step(twin_of(module), x, input_grad=input_grad)
    found = step(module, x, input_grad=input_grad)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name
        for layout in (torch.contiguous_format, torch.channels_last)[: 1 + (tensor.dim() == 4)]:
            is_laid_out = expected[name].is_contiguous(memory_format=layout)
            assert tensor.is_contiguous(memory_format=layout) == is_laid_out, name
    if not may_be_plain:
        count_draw(found, expected)


def assert_equal_but_for_moving_statistics(
    module: nn.Module, x: Tensor, *, input_grad: bool
) -> None:
    """Fail unless lean and plain agree bit for bit, running statistics to their last bit."""
    expected = step(twin_of(module), x, input_grad=input_grad)
    found = step(module, x, input_grad=input_grad)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        if name.endswith(("running_mean", "running_var")):
            # The kernel's order of operations in float32; in float64 one rounding more.
            torch.testing.assert_close(tensor, expected[name], rtol=2e-15, atol=1e-16)
        else:
            assert torch.equal(tensor, expected[name]), name
    assert found["output"].stride() == expected["output"].stride()
    count_draw(found, expected)


# Where a lean path sums in another order: of the largest value of the tensor, or of the output's
# gradients, which are of size one and of which a batch norm's own gradient is a small difference.
RELATIVE = {torch.float32: 2e-6, torch.float64: 1e-12}


# The same of what is summed up, which no cancellation makes smaller.
OF_SUMMANDS = {torch.float32: 1e-6, torch.float64: 2e-15}


def summands_of(module: nn.Module, x: Tensor, *, input_grad: bool = True) -> dict[str, Tensor]:
    """What a linear module's sums would be if all that they add were positive, as from `step`.

    The rounding of a sum is a share of this, and not of the sum, which may be near zero.
    """
    twin = twin_of(module)
    for parameter in twin.parameters():
        parameter.data.abs_()
    return step(twin, x.abs(), input_grad=input_grad, weigh=torch.abs)


def assert_close_twins(
    module: nn.Module,
    x: Tensor,
    *,
    input_grad: bool = True,
    summands: dict[str, Tensor] | None = None,
) -> None:
    """Fail unless lean and plain agree to rounding in everything that `step` finds.

    That of each tensor, or of its ``summands`` where they are known.
    """
    expected = step(twin_of(module), x, input_grad=input_grad)
    found = step(module, x, input_grad=input_grad)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        if tensor.numel() and tensor.is_floating_point():
            share = (RELATIVE if summands is None else OF_SUMMANDS)[x.dtype]
            size = max(1.0, (summands or expected)[name].abs().max().item())
            difference = (tensor - expected[name]).abs().max().item()
            assert difference <= share * size, (name, difference, size)
    count_draw(found, expected)
