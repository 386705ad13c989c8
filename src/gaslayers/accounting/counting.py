"""Count what a module costs, before anything is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import nn

from gaslayers._checks import check_bool
from gaslayers.accounting import _fvcore
from gaslayers.accounting._convention import CONVENTION
from gaslayers.accounting._handles import ACTIVATIONS, ELEMENTWISE, MACS, Key
from gaslayers.accounting._sandbox import Call, copied, isolated, make_call
from gaslayers.accounting.report import CountReport, ModuleCount, OperatorCount


def count(
    module: nn.Module,
    inputs: Any,
    *,
    kwargs: Mapping[str, Any] | None = None,
    backward: bool = False,
    verify: bool = True,
) -> CountReport:
    """Count parameters, MACs, FLOPs and activations of one pass of ``module``."""
    check_bool("count", "backward", backward)
    check_bool("count", "verify", verify)
    call = make_call("count", module, inputs, kwargs)
    with isolated(call):
        traced = _fvcore.trace(copied(call, plain=True))
    return _report(call, traced)


def _quantities(counted: Counter[Key]) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for (_operator, quantity), cost in counted.items():
        totals[quantity] += cost
    flops = 2 * totals[MACS] + totals[ELEMENTWISE]
    return {"macs": totals[MACS], "flops": flops, "activations": totals[ACTIVATIONS]}


def _report(call: Call, traced: _fvcore.Traced) -> CountReport:
    by_module = {
        name: ModuleCount(
            type=type(part).__name__,
            params=sum(parameter.numel() for parameter in part.parameters()),
            **_quantities(traced.counts[name]),
        )
        for name, part in call.module.named_modules()
    }
    whole = traced.counts[""]
    operators = dict.fromkeys(operator for operator, _ in whole)
    parameters = list(call.module.parameters())
    sizes = [tensor.shape[0] for tensor in call.inputs() if tensor.dim()]
    return CountReport(
        module=by_module[""].type,
        batch_size=sizes[0] if sizes else None,
        params=by_module[""].params,
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        buffers=sum(buffer.numel() for buffer in call.module.buffers()),
        macs=by_module[""].macs,
        flops=by_module[""].flops,
        activations=by_module[""].activations,
        backward_macs=None,
        by_module=by_module,
        by_operator={
            name: OperatorCount(**_quantities(Counter({k: v for k, v in whole.items() if k[0] == name})))
            for name in operators
        },
        unsupported=dict(traced.unsupported),
        uncalled=(),
        convention=CONVENTION,
    )
