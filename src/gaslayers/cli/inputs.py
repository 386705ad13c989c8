"""From shapes that a user typed to the tensors that a network is called with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import typer
from torch import Tensor
from torch.utils import _pytree as pytree

HINT = "--input"
DTYPES = (
    *("float32", "float", "float64", "double", "float16", "half", "bfloat16"),
    *("int64", "long", "int32", "int", "int16", "int8", "uint8", "bool"),
)


def parse_inputs(
    texts: Iterable[str], *, memory_format: torch.memory_format
) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    """Read ``32,3,64,64``, ``32:int64``, ``labels=32:int64``, ``batch.image=32,3,64,64``.

    Returns:
        The positional arguments and those by name; a name with a dot is a key of a dict.

    Raises:
        typer.BadParameter: A text that is none of these, a name that is given twice.
    """
    args: list[Tensor] = []
    kwargs: dict[str, Any] = {}
    for text in texts:
        name, is_named, rest = text.rpartition("=")
        if not is_named:
            args.append(_parse_tensor(rest))
            continue
        argument, has_key, key = name.partition(".")
        home = kwargs.setdefault(argument, {}) if has_key else kwargs
        key = key if has_key else argument
        if not (argument.isidentifier() and key and isinstance(home, dict)) or key in home:
            raise _refuse("must have a name before = that is new", text)
        home[key] = _parse_tensor(rest)

    def laid_out(leaf: Any) -> Any:
        return leaf.contiguous(memory_format=memory_format) if leaf.dim() == 4 else leaf

    return pytree.tree_map(laid_out, (tuple(args), kwargs))


def _parse_tensor(text: str) -> Tensor:
    sizes, has_dtype, dtype = text.partition(":")
    if has_dtype and dtype not in DTYPES:
        raise _refuse(f"must have a dtype behind the colon, one of {', '.join(DTYPES)}", dtype)
    try:
        shape = tuple(int(part) for part in sizes.split(","))
    except ValueError as error:
        raise _refuse("must be sizes with commas between, as 32,3,64,64", text) from error
    if min(shape) < 1:
        raise _refuse("must be sizes of at least 1", text)
    try:
        return torch.zeros(shape, dtype=getattr(torch, dtype or "float32"))
    except (OverflowError, RuntimeError, TypeError) as error:  # the last: more than 64 bits hold
        raise _refuse("must fit into memory", text) from error


def _refuse(rule: str, text: str) -> typer.BadParameter:
    return typer.BadParameter(f"{rule}, got {text!r}.", param_hint=HINT)
