"""Refuse recurrent layers that run by a library whose workspace nobody knows beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.utils.rnn import PackedSequence

from gaslayers._checks import bad_value
from gaslayers._watching import watches_only
from gaslayers.accounting._whereabouts import Whereabouts

_ONEDNN_TYPES = (torch.float32, torch.bfloat16, torch.float16)


def _library(layer: nn.RNNBase, inputs: tuple[Any, ...]) -> tuple[str, str] | None:
    """The library that a layer would run by, and what turns it off; None: PyTorch's operators."""
    weight = next((weight for weight in layer.parameters()), None)
    if not isinstance(weight, Tensor):
        return None
    if weight.device.type == "cuda":
        switch = "torch.backends.cudnn.flags(enabled=False)"
        return ("cuDNN", switch) if torch.backends.cudnn.enabled else None
    is_taken = (
        weight.device.type == "cpu"
        and isinstance(layer, nn.LSTM)
        and torch._C._get_mkldnn_enabled()
        and torch._C._has_mkldnn
        and not layer.proj_size
        and weight.dtype in _ONEDNN_TYPES
        and not any(isinstance(value, PackedSequence) for value in inputs)
    )
    return ("oneDNN", "torch.backends.mkldnn.flags(enabled=False)") if is_taken else None


@contextmanager
def hidden_workspaces_refused(owner: str, where: Whereabouts) -> Iterator[None]:
    """Raise where a recurrent layer is called that keeps a workspace for its backward pass.

    Args:
        owner: Who asks, for error messages.
        where: Knows the names of the parts.
    """

    @watches_only
    def check(part: nn.Module, inputs: tuple[Any, ...]) -> None:
        if not isinstance(part, nn.RNNBase) or not (found := _library(part, inputs)):
            return
        library, switch = found
        layer = f"the {type(part).__name__} {where.name_of(part)!r}"
        rule = f"keep tensors of known sizes alone, but {layer} has a library's own workspace"
        remedy = f"Predict and train within {switch}, or take another layer."
        raise bad_value(owner, "module", rule, library, remedy)

    hook = register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        hook.remove()
