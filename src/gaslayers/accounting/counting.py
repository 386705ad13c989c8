"""Count what one pass of a module costs, by two engines that must agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from gaslayers._checks import bad_value, check_bool
from gaslayers.accounting import _dispatch, _fvcore
from gaslayers.accounting._convention import CONVENTION
from gaslayers.accounting._handles import ACTIVATIONS, ELEMENTWISE, MACS
from gaslayers.accounting._sandbox import Call, isolated, make_call, plain_twin, unfused
from gaslayers.accounting.report import CountReport, ModuleCount, OperatorCount

_OWNER = "count"

# What a tracer raises where it cannot follow; the module's own errors are told apart by a rerun.
_TRACE_ERRORS = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError)


def count(
    module: nn.Module,
    inputs: Any,
    *,
    kwargs: Mapping[str, Any] | None = None,
    backward: bool = False,
    verify: bool = True,
) -> CountReport:
    """Count the parameters, MACs, FLOPs and activations of one pass of a module.

    fvcore counts a trace of the forward pass; a second engine, independent of it, counts a run of
    the same pass, and both must find the same MACs in every module. Both work on a copy: the
    module, its inputs and every random state stay as they are, also where the pass raises.

    Blocks with a `memory_efficient` count as the plain composition that they stand for, compiled
    modules as what was compiled, checkpointed ones without their recomputation.

    Args:
        module: What to count, in training or evaluation mode as it is.
        inputs: A tuple holds the positional arguments of the forward pass; anything else, such as
            a tensor, a list or a dict, is its one argument.
        kwargs: Keyword arguments of the forward pass.
        backward: Also count the backward pass, from every output that has a gradient to whatever
            requires one: nothing for a frozen weight or an input without gradient.
        verify: Run the second engine and compare; False saves one pass, and counts the branch
            that is taken where a branch hangs on values.

    Raises:
        TypeError: ``module`` is no module, is scripted or cannot be copied.
        ValueError: A lazy parameter, a tensor without values, or control flow that hangs on
            values. An error of the module's own, as for a wrong input shape, comes as it is.
        RuntimeError: The engines disagree, or the module cannot be traced.

    Note:
        Differs from fvcore: a MAC is two FLOPs; same padding, broadcast matrix products, einsum,
        attention, activations, pools and losses count; ``gaslayers.accounting.CONVENTION`` names
        the version. Beyond the reach of a copy: what a hook writes to objects outside the module.

    Example:
        >>> import torch
        >>> from gaslayers import InceptionBlock, count
        >>> report = count(InceptionBlock(3, 64), torch.zeros(2, 3, 8, 8), backward=True)
        >>> report.macs, report.flops, report.backward_macs
        (1204224, 2408448, 2396160)
    """
    check_bool(_OWNER, "backward", backward)
    check_bool(_OWNER, "verify", verify)
    call = make_call(_OWNER, module, inputs, kwargs)
    recorded = _record(call, backward=backward) if backward or verify else None
    if verify and recorded is not None:
        _check_independent_of_values(recorded)
    twin, traced = _trace(call)
    if verify and recorded is not None:
        _check_agreement(twin.module, traced, recorded)
    return _report(twin, traced, recorded.backward if backward and recorded is not None else None)


def _record(call: Call, *, backward: bool) -> _dispatch.Recorded:
    with isolated(call), unfused():
        return _dispatch.record(plain_twin(_OWNER, call), backward=backward)


def _trace(call: Call) -> tuple[Call, _fvcore.Traced]:
    try:
        with isolated(call), unfused():
            twin = plain_twin(_OWNER, call)
            return twin, _fvcore.trace(twin)
    except _TRACE_ERRORS as error:
        with isolated(call), unfused():
            plain_twin(_OWNER, call).run()  # the module's own error, if it has one, comes first
        raise RuntimeError(
            f"{_OWNER}: `module` must be traceable, got {error} Count its traceable parts one by "
            "one."
        ) from error


def _check_independent_of_values(recorded: _dispatch.Recorded) -> None:
    for name, operator in recorded.data_dependent.items():
        rule = f"run the same operators whatever the values, but {name!r} reads some"
        remedy = "Pass verify=False to count the branch that these inputs take."
        raise bad_value(_OWNER, "module", rule, operator, remedy)


def _family(operator: str) -> str:
    return _dispatch.CONVOLUTION if operator == "conv" else _dispatch.MATMUL


def _check_agreement(
    module: nn.Module, traced: _fvcore.Traced, recorded: _dispatch.Recorded
) -> None:
    """Compare the engines' MACs, the innermost modules first, so that the error names the place."""
    names = [name for name, _ in module.named_modules()]
    for name in sorted(names, key=lambda name: (-name.count("."), name == "")):
        for family in (_dispatch.CONVOLUTION, _dispatch.MATMUL):
            found = {
                operator: cost
                for (operator, quantity, _), cost in traced.counts[name].items()
                if quantity == MACS and _family(operator) == family
            }
            first = sum(found.values())
            second = sum(
                cost
                for (place, kind), cost in recorded.forward.items()
                if kind == family and _contains(name, place)
            )
            if first != second:
                raise RuntimeError(_disagreement(name, found, family, first, second, traced))


def _disagreement(
    name: str,
    operators: Iterable[str],
    family: str,
    first: int,
    second: int,
    traced: _fvcore.Traced,
) -> str:
    missed = f" fvcore has no count for {', '.join(traced.unsupported)}." * bool(traced.unsupported)
    return (
        f"{_OWNER}: both engines must agree, got {first} (fvcore) and {second} (dispatch) MACs of "
        f"{', '.join(operators) or family} in module {name!r}.{missed} Pass verify=False to take "
        "fvcore's figure."
    )


def _contains(name: str, other: str) -> bool:
    """Whether the module called ``other`` is the one called ``name`` or inside it."""
    return name in ("", other) or other.startswith(f"{name}.")


def _quantities(counted: Iterable[tuple[_fvcore.Key, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    fixed: Counter[str] = Counter()
    for (_operator, quantity, grows), cost in counted:
        total[quantity] += cost
        fixed[quantity] += 0 if grows else cost
    return {
        "macs": total[MACS],
        "flops": 2 * total[MACS] + total[ELEMENTWISE],
        "activations": total[ACTIVATIONS],
        "fixed_macs": fixed[MACS],
        "fixed_flops": 2 * fixed[MACS] + fixed[ELEMENTWISE],
        "fixed_activations": fixed[ACTIVATIONS],
    }


def _report(call: Call, traced: _fvcore.Traced, backward: Counter[str] | None) -> CountReport:
    def backward_macs(name: str) -> int | None:
        if backward is None:
            return None
        return sum(cost for place, cost in backward.items() if _contains(name, place))

    by_module = {
        name: ModuleCount(
            type=type(part).__name__,
            params=sum(parameter.numel() for parameter in part.parameters()),
            backward_macs=backward_macs(name),
            **_quantities(traced.counts[name].items()),
        )
        for name, part in call.module.named_modules()
    }
    whole = traced.counts[""].items()
    by_operator = {
        name: OperatorCount(**_quantities(item for item in whole if item[0][0] == name))
        for name in dict.fromkeys(operator for (operator, _, _), _ in whole)
    }
    sizes = [tensor.shape[0] for tensor in call.inputs() if tensor.dim()]
    parameters = list(call.module.parameters())
    return CountReport(
        module=by_module[""].type,
        batch_size=sizes[0] if sizes else None,
        params=by_module[""].params,
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        buffers=sum(buffer.numel() for buffer in call.module.buffers()),
        macs=by_module[""].macs,
        flops=by_module[""].flops,
        activations=by_module[""].activations,
        backward_macs=by_module[""].backward_macs,
        by_module=by_module,
        by_operator=by_operator,
        unsupported=dict(traced.unsupported),
        uncalled=traced.uncalled,
        convention=CONVENTION,
    )
