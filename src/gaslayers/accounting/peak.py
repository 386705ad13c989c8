"""The memory that a training step takes at its peak, without running it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gaslayers._checks import bad_type, bad_value, check_int
from gaslayers.accounting._fake import fake_twin
from gaslayers.accounting._rehearsal import OptimizerFactory, Rehearsal
from gaslayers.accounting._sandbox import Call, isolated, make_call
from gaslayers.accounting.peak_report import PeakReport
from gaslayers.lean.modules import tensors_of


def check_callable(owner: str, argument: str, value: Any, *, optional: bool = True) -> None:
    """Raise unless ``value`` can be called (or is None where that means absent)."""
    if not callable(value) and not (value is None and optional):
        remedy = "Pass what makes one, as torch.optim.Adam." if "optimizer" in argument else ""
        rule = "be a callable or None" if optional else "be a callable"
        raise bad_type(owner, argument, rule, value, remedy)


def total(owner: str, output: Any) -> Tensor:
    """The sum of all floating outputs: a loss that gives each of them a gradient."""
    parts = [tensor.sum() for tensor in tensors_of(output) if tensor.is_floating_point()]
    if not parts:
        remedy = "Pass a loss."
        raise bad_value(owner, "module", "return floating tensors", type(output), remedy)
    return sum(parts[1:], parts[0])


def _takes_inputs(loss: Callable[..., Any]) -> bool:
    """Whether a loss has two arguments that must be given: it then wants the inputs, too."""
    function = loss.forward if isinstance(loss, nn.Module) else loss
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some that are written in C do not tell
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    given = [p for p in parameters if p.kind in positional and p.default is p.empty]
    return len(given) == 2


def rehearse(
    owner: str,
    fakes: FakeTensorMode,
    twin: Call,
    loss: Callable[..., Tensor] | None,
    optimizer: OptimizerFactory | None,
    steps: int,
) -> PeakReport:
    """Run the steps of a module of fake tensors and report on them."""
    wants_inputs = loss is not None and _takes_inputs(loss)
    inputs = twin.args[0] if len(twin.args) == 1 else twin.args

    def forward() -> tuple[Tensor, Any]:
        if loss is None:
            output = twin.run()
            return total(owner, output), output
        return loss(twin.run(), inputs) if wants_inputs else loss(twin.run()), None

    rehearsal = Rehearsal(owner, fakes, twin)
    with rehearsal.running():
        updater = rehearsal.make_optimizer(optimizer, twin.module)
        for _ in range(steps):
            rehearsal.step("step", forward, updater)
    return rehearsal.report("step", type(twin.module).__name__)


def peak_memory(
    module: nn.Module,
    inputs: Any,
    *,
    kwargs: Mapping[str, Any] | None = None,
    loss: Callable[..., Tensor] | None = None,
    optimizer: OptimizerFactory | None = None,
    steps: int = 2,
) -> PeakReport:
    """Predict, to the byte, the memory that a training step's tensors take at its peak.

    Nothing is run: the steps are taken by a copy whose tensors have shapes and storages but no
    memory, and every storage is followed from its birth to its death. The module, its inputs and
    every random state stay as they are, also where the pass raises.

    A step is what this function does, whose variables live until it returns::

        def step():
            value = loss(module(*inputs, **kwargs))  # or output = ...; value = output.sum()
            value.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    Parameters, buffers and inputs are there before and stay. What a closure brings along, such as
    the labels in a loss, counts as an input. Compiled modules count as what was compiled.

    Args:
        module: What to train, in training or evaluation mode as it is. Where nothing requires a
            gradient, the step is a forward pass.
        inputs: As for `gaslayers.count`.
        kwargs: Keyword arguments of the forward pass.
        loss: Makes a scalar of the output; None: the sum of all floating outputs. One that must
            be given two arguments gets the inputs as the second, as they were given: a gradient
            penalty differentiates by an input that requires a gradient.
        optimizer: Makes an optimiser of parameters, as `torch.optim.Adam` or a partial of it;
            None: no update.
        steps: Steps to take; the last is taken for the steady state. More than two where a state
            keeps growing.

    Raises:
        TypeError: ``module`` is no module, is scripted or cannot be copied; ``loss`` or
            ``optimizer`` is no callable or makes something else.
        ValueError: A lazy parameter, a tensor without values, control flow that hangs on values,
            an operator that fake tensors cannot compute, a loss that is no scalar. A recurrent
            layer that cuDNN or oneDNN would run, on a CPU a ``torch.nn.LSTM``: what it
            keeps has a size of the library's own. An error of the module's own, as for a wrong
            input shape, comes as it is.

    Note:
        What counts is the storage of every tensor that an operator returns, whole, as long as it
        is alive; a loss such as ``torch.nn.functional.mse_loss`` returns its mean in the memory of
        all its elements. What an operator takes and frees before it returns (as workspaces of
        cuDNN, cuBLAS and oneDNN), the context of a device, fragments between cached blocks and
        Python itself come on top; `measure_peak` tells how much. Where a complex tensor is
        conjugated, the copy that an operator makes of it is left out. A tensor in a reference
        cycle counts until the step ends. Numbers that an optimiser reads out of tensors are taken
        for ones. Beyond the reach of a copy: what a hook or a loss writes to objects outside the
        module.

    Example:
        >>> import torch
        >>> from gaslayers import DownBlock, peak_memory
        >>> report = peak_memory(
        ...     DownBlock(3, 8), torch.zeros(2, 3, 8, 8), optimizer=torch.optim.Adam
        ... )
        >>> report.peak, report.first_step.peak, report.breakdown["optimizer_state"]
        (17952, 16016, 1936)
        >>> report.phase, report.at_module, report.at_operator
        ('backward', 'norm', 'aten.native_batch_norm_backward')
    """
    owner = "peak_memory"
    check_callable(owner, "loss", loss)
    check_callable(owner, "optimizer", optimizer)
    check_int(owner, "steps", steps)
    call = make_call(owner, module, inputs, kwargs)
    with isolated(call):
        fakes = FakeTensorMode()
        twin, (loss,) = fake_twin(owner, fakes, call, (loss,))
        return rehearse(owner, fakes, twin, loss, optimizer, steps)
