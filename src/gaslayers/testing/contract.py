"""The contract of a block, checked as one battery on anyone's block."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gaslayers._checks import bad_type, bad_value, check_choice, check_int, check_int_sequence
from gaslayers.testing import _copies, _forward, _gradients, _layout_checks
from gaslayers.testing._common import ContractError, unsettle

_CHECKS: dict[str, Callable[..., None]] = {
    "deepcopy": _copies.check_deepcopy,
    "output_shape": _forward.check_output_shape,
    "input_unchanged": _forward.check_input_unchanged,
    "no_grad": _forward.check_no_grad,
    "parameter_gradients": _gradients.check_parameter_gradients,
    "gradcheck": _gradients.check_gradcheck,
    "gradgradcheck": _gradients.check_gradgradcheck,
    "frozen": _gradients.check_frozen,
    "layouts": _layout_checks.check_layouts,
    "batch_independence": _forward.check_batch_independence,
    "state_dict": _copies.check_state_dict,
    "pickle": _copies.check_pickle,
    "repr": _copies.check_repr,
    "meta": _forward.check_meta,
    "compile": _forward.check_compile,
    "input_errors": _forward.check_input_errors,
}

CHECKS: tuple[str, ...] = tuple(_CHECKS)
"""The names of the checks, in the order in which `check_block` runs them."""

# Whatever a block raises while it is checked breaks the contract; an interrupt does not.
_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    pickle.PickleError,
)


def _build(owner: str, block: nn.Module | Callable[[], nn.Module]) -> nn.Module:
    if isinstance(block, nn.Module):
        return block
    if not callable(block):
        raise bad_type(owner, "block", "be a module or a callable that builds one", block)
    built = block()
    if not isinstance(built, nn.Module):
        raise bad_type(owner, "block", "build a module", built)
    return built


def check_block(
    block: nn.Module | Callable[[], nn.Module],
    *,
    in_channels: int | None = None,
    batch_size: int = 3,
    size: tuple[int, int] = (5, 4),
    skip: Collection[str] = (),
    namespace: Mapping[str, Any] | None = None,
    backend: str = "aot_eager",
) -> None:
    """Check that a block keeps the contract of this library's blocks.

    The checks, by name, on a float64 copy of the block and images of normal noise:

    - ``deepcopy``, ``state_dict``, ``pickle``: a copy gives equal outputs.
    - ``output_shape``: (N, out_channels, H', W') in the input's dtype.
    - ``input_unchanged``, ``no_grad``: forward keeps its input, and its output without a graph.
    - ``parameter_gradients``, ``gradcheck``, ``gradgradcheck``: gradients are there, finite and
      equal to finite differences, twice.
    - ``frozen``: frozen parameters leave the input's gradient as it is.
    - ``layouts``: no layout in memory changes an output, gradient or statistic: of the weights
      (channels-last, some of them, loaded with ``assign=True``), of the input and of the output's
      gradient (slices, crops, steps, transposed, expanded). Where the block has
      ``memory_efficient``, the same without it.
    - ``batch_independence``: in eval mode the images of a batch do not see each other.
    - ``repr``: ``Class(extra_repr)`` builds the block again.
    - ``meta``, ``compile``: the block runs on the meta device and in one compiled graph.
    - ``input_errors``: another rank or channel count is a ValueError.

    Args:
        block: The block, or a callable without arguments that builds it. It is left as it was.
        in_channels: Channels of the input; None: ``block.in_channels``.
        batch_size: Images in the input, at least 2.
        size: Height and width of the input. Second gradients are checked: keep it small.
        skip: Names of checks to leave out, each for a reason: ``"pickle"`` and ``"repr"`` for a
            block that holds a lambda, ``"layouts"`` for one that calls dropout as a function,
            ``"gradcheck"`` for a gradient that is wrong on purpose.
        namespace: What the names in the block's representation mean, where they are neither
            torch's nor the block's package's nor classes of its parts.
        backend: What `torch.compile` hands the graph to; ``"inductor"`` compiles C++.

    Raises:
        ContractError: The block breaks a check; the message names it. It is an AssertionError.
        TypeError: An argument of the wrong kind.
        ValueError: An unknown name in ``skip``, no known number of input channels.

    Note:
        Differs from ``sklearn.utils.estimator_checks.check_estimator``, the model: the first
        broken check raises. The global random state is left as it was.

    Example:
        >>> from gaslayers import ConvNormAct
        >>> check_block(ConvNormAct(2, 3))
        >>> check_block(nn.Conv2d(2, 3, 3))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        gaslayers.testing._common.ContractError: Conv2d: contract `input_errors` is broken: an ...
    """
    owner = "check_block"
    check_int(owner, "batch_size", batch_size, minimum=2)
    check_int_sequence(owner, "size", size)
    if len(size) != 2:
        raise bad_value(owner, "size", "be a height and a width", size)
    for name in skip:
        check_choice(owner, "skip", name, CHECKS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        subject = _build(owner, block)
        if in_channels is None:
            in_channels = getattr(subject, "in_channels", None)
            if in_channels is None:
                rule = "be given for a block without the attribute"
                raise bad_value(owner, "in_channels", rule, None)
        check_int(owner, "in_channels", in_channels)
        x = torch.randn(batch_size, in_channels, *size, dtype=torch.float64)
        options: dict[str, dict[str, Any]] = {
            "repr": {"namespace": namespace or {}},
            "compile": {"backend": backend},
        }
        for name, check in _CHECKS.items():
            if name not in skip:
                bound = functools.partial(check, **options.get(name, {}))
                _run(name, bound, subject, x)


def _run(
    name: str, check: Callable[[nn.Module, Tensor], None], block: nn.Module, x: Tensor
) -> None:
    try:
        # Each check may train, move or change its copy.
        own = copy.deepcopy(block).to(x.dtype)
        torch.manual_seed(0)
        unsettle(own)
        check(own, x.clone())
    except _FAILURES as error:
        sentence = f"{type(block).__name__}: contract `{name}` is broken: {error}"
        raise ContractError(sentence) from error
