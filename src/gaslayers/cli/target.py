"""From what a user typed to the network that is meant."""

from __future__ import annotations

import ast
import pkgutil
import sys
from typing import Any

import typer
from torch import nn

from gaslayers.models import CASES, build_discriminator


def load_network(target: str, *, variant: str) -> nn.Module:
    """Build a case, a block of this library, or the module at a dotted path.

    Args:
        target: A case (``inception_8``), a block with its arguments (``InceptionBlock(3, 64)``),
            or a path to a module, a class or a function that builds one
            (``mypackage.nets:Discriminator(width=32)``). Arguments are literals.
        variant: Of a case.

    Raises:
        typer.BadParameter: There is no such thing, or it is no module.
    """
    if target in CASES:
        return build_discriminator(target, variant=variant)
    path, args, kwargs = _parse(target)
    found = _resolve(path if ":" in path or "." in path else f"gaslayers:{path}", target)
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise _refuse(target, "must be a module or build one")
        try:
            found = found(*args, **kwargs)
        except (TypeError, ValueError) as error:
            raise _refuse(target, f"cannot be built: {error}") from error
    if not isinstance(found, nn.Module):
        raise _refuse(target, f"must be a torch.nn.Module or build one, not {type(found)}")
    return found


def _parse(target: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Split ``path(literal, name=literal)``; the arguments may be left out."""
    path, opened, _ = target.partition("(")
    if not opened:
        return path, [], {}
    try:
        call = ast.parse(f"f{target[len(path) :]}", mode="eval").body
        if not isinstance(call, ast.Call) or any(word.arg is None for word in call.keywords):
            raise _refuse(target, "must be a path with arguments in parentheses")
        args = [ast.literal_eval(value) for value in call.args]
        kwargs = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    except (SyntaxError, ValueError) as error:
        remedy = "For others write a function that builds the module, and name that."
        raise _refuse(target, f"may have literals as arguments alone. {remedy}") from error
    return path, args, kwargs


def _resolve(path: str, target: str) -> Any:
    # The working folder, as `python -m` has it: a user's own package need not be installed.
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        choices = ", ".join(CASES)
        rule = f"must be a case ({choices}), a block, or a path as mypackage.nets:Discriminator"
        raise _refuse(target, f"{rule} ({error})") from error


def _refuse(target: str, why: str) -> typer.BadParameter:
    return typer.BadParameter(f"{target!r} {why}.", param_hint="TARGET")
