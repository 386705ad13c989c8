"""Count what one pass of a module costs, by two engines that must agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from gaslayers._checks import bad_value, check_bool
from gaslayers.accounting import _dispatch, _fvcore
from gaslayers.accounting._convention import CONVENTION, HIDING_MACS
from gaslayers.accounting._handles import ACTIVATIONS, ELEMENTWISE, MACS
from gaslayers.accounting._parts import named_parts
from gaslayers.accounting._sandbox import Call, isolated, make_call, plain_twin, unfused
from gaslayers.accounting.report import CountReport, ModuleCount, OperatorCount

_OWNER = "count"


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

    Blocks with a ``memory_efficient`` count as the plain composition that they stand for, compiled
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
        (1204224, 2408448, 2383872)
    """
    check_bool(_OWNER, "backward", backward)
    check_bool(_OWNER, "verify", verify)
    call = make_call(_OWNER, module, inputs, kwargs)
    recorded = _record(call, backward=backward) if backward or verify else None
    if verify and recorded:
        _check_independent_of_values(recorded)
    twin, traced = _trace(call)
    if verify and recorded:
        _check_agreement(traced, recorded)
    return _report(twin, traced, recorded.backward if backward and recorded else None)


def _record(call: Call, *, backward: bool) -> _dispatch.Recorded:
    with isolated(call), unfused(call.module):
        return _dispatch.record(plain_twin(_OWNER, call), backward=backward)


def _trace(call: Call) -> tuple[Call, _fvcore.Traced]:
    try:
        with isolated(call), unfused(call.module):
            twin = plain_twin(_OWNER, call)
            return twin, _fvcore.trace(twin)
    except _fvcore.Refused as error:
        remedy = "Count the other parts one by one."
        raise bad_value(
            _OWNER, "module", "have no MACs that are not counted", str(error), remedy
        ) from error
    except _fvcore.Untraceable as error:
        with isolated(call), unfused(call.module):
            plain_twin(_OWNER, call).run()  # the module's own error, if it has one, comes first
        raise RuntimeError(
            f"{_OWNER}: `module` must be traceable, but in {error.place!r} it is not: "
            f"{error.reason}. Count its traceable parts one by one."
        ) from error


def _check_independent_of_values(recorded: _dispatch.Recorded) -> None:
    for name, operator in recorded.data_dependent.items():
        rule = f"run the same operators whatever the values, but {name!r} reads some"
        remedy = "Pass verify=False to count the branch that these inputs take."
        raise bad_value(_OWNER, "module", rule, operator, remedy)


def _check_agreement(traced: _fvcore.Traced, recorded: _dispatch.Recorded) -> None:
    """Compare the engines' MACs, the innermost modules first, so that the error names the place."""
    hiding = [
        name
        for name in traced.unsupported
        if not name.startswith("aten::") or name.removeprefix("aten::") in HIDING_MACS
    ]
    if hiding:  # of a custom operator nobody knows what is inside
        remedy = "Pass verify=False to leave it out."
        raise bad_value(_OWNER, "module", "have no MACs that are not counted", hiding[0], remedy)
    seen = _with_ancestors(recorded.forward)
    for name in sorted(traced.counts, key=lambda name: (-name.count("."), name == "")):
        for is_convolution, family in ((True, _dispatch.CONVOLUTION), (False, _dispatch.MATMUL)):
            found = {
                operator: cost
                for (operator, quantity, _), cost in traced.counts[name].items()
                if quantity == MACS and (operator == "conv") is is_convolution
            }
            figures = (sum(found.values()), seen[name, family])
            if figures[0] != figures[1]:
                operators = [*found, *traced.unsupported]
                raise RuntimeError(
                    f"{_OWNER}: both engines must find the same MACs in {name!r}, got "
                    f"{figures[0]} (fvcore) and {figures[1]} (dispatch) in each {family} "
                    f"({', '.join(operators)}). Pass verify=False to take fvcore's."
                )


def _with_ancestors(costs: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """Add what each module costs to every module that it is in; the second key stays."""
    total: Counter[tuple[str, str]] = Counter()
    for (name, kind), cost in costs.items():
        parts = name.split(".") if name else []
        for depth in range(len(parts) + 1):
            total[".".join(parts[:depth]), kind] += cost
    return total


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


def _report(
    call: Call, traced: _fvcore.Traced, backward: Counter[tuple[str, str]] | None
) -> CountReport:
    inclusive = None if backward is None else _with_ancestors(backward)
    by_module = {
        name: ModuleCount(
            type=type(part).__name__,
            params=sum(parameter.numel() for parameter in part.parameters()),
            backward_macs=None if inclusive is None else inclusive[name, _dispatch.BACKWARD],
            **_quantities(traced.counts[name].items()),
        )
        for name, part in named_parts(call.module)
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
