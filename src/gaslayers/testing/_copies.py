"""Checks that a block can be copied, saved, pickled and printed without a loss."""

from __future__ import annotations

import copy
import functools
import io
import pickle
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gaslayers.testing._common import require, require_equal, unsettle


def _evaluate(block: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return block.eval()(x)


def check_deepcopy(block: nn.Module, x: Tensor) -> None:
    """A deep copy gives equal outputs and shares no numbers with its original."""
    expected = _evaluate(block, x)
    duplicate = copy.deepcopy(block)
    require_equal(_evaluate(duplicate, x), expected, "the output of a deep copy")
    unsettle(duplicate)
    require_equal(_evaluate(block, x), expected, "the output once a deep copy has changed")


def check_state_dict(block: nn.Module, x: Tensor) -> None:
    """A state dict, saved, loaded and put into another instance, gives equal outputs."""
    expected = _evaluate(block, x)
    file = io.BytesIO()
    torch.save(block.state_dict(), file)
    file.seek(0)
    other = copy.deepcopy(block)
    unsettle(other)
    other.load_state_dict(torch.load(file, weights_only=True))
    require_equal(_evaluate(other, x), expected, "the output with a loaded state dict")


def check_pickle(block: nn.Module, x: Tensor) -> None:
    """A pickled block gives equal outputs when it comes back."""
    expected = _evaluate(block, x)
    restored = pickle.loads(pickle.dumps(block))
    require_equal(_evaluate(restored, x), expected, "the output of a pickled block")


def _names_within_reach(block: nn.Module) -> dict[str, Any]:
    """The names a representation may use: torch's, `partial`, the block's package and parts."""
    module = type(block).__module__
    homes = [
        sys.modules[name] for name in (module.partition(".")[0], module) if name in sys.modules
    ]
    names = {name: value for home in homes for name, value in vars(home).items()}
    parts = {type(part).__name__: type(part) for part in block.modules()}
    return {**names, **parts, "torch": torch, "nn": nn, "partial": functools.partial}


def check_repr(block: nn.Module, x: Tensor, namespace: Mapping[str, Any]) -> None:
    """``Class(extra_repr)`` evaluates to a block of the same state dict and outputs."""
    source = f"{type(block).__name__}({block.extra_repr()})"
    rebuilt = eval(source, {**_names_within_reach(block), **namespace})
    state = block.state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    rebuilt_shapes = {name: tuple(value.shape) for name, value in rebuilt.state_dict().items()}
    require(rebuilt_shapes == shapes, f"`{source}` has state {rebuilt_shapes}, not {shapes}")
    rebuilt.to(x.dtype).load_state_dict(state)
    for training in (False, True):
        # One random state for both, should there be dropout.
        torch.manual_seed(0)
        expected = block.train(training)(x)
        torch.manual_seed(0)
        found = rebuilt.train(training)(x)
        require_equal(found, expected, f"the output of `{source}` with training={training}")
