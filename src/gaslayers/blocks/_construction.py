"""How blocks build their layers: where, in which precision, by whose factories."""

from __future__ import annotations

import contextlib
import contextvars
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import nn

from gaslayers._checks import bad_type, bad_value

Device: TypeAlias = torch.device | str | int | None
"""What `torch.device` takes; None: PyTorch's default device."""


class _Speaker:
    """The block whose arguments are at fault where an inner unit refuses what a factory built.

    Args:
        name: Its class.
        arguments: Its own name of an argument, by the inner unit's.
    """

    def __init__(self, name: str, arguments: Mapping[str, str]) -> None:
        self.name = name
        self.arguments = arguments


_speaker: contextvars.ContextVar[_Speaker | None] = contextvars.ContextVar("speaker", default=None)


@contextlib.contextmanager
def _speaking(speaker: _Speaker | None) -> Iterator[None]:
    token = _speaker.set(speaker)
    try:
        yield
    finally:
        _speaker.reset(token)


def handing_on(owner: str, **arguments: str) -> contextlib.AbstractContextManager[None]:
    """Build units from a block's own factories, which speak of them in the block's name.

    Args:
        owner: The block's class; a block around it has precedence.
        **arguments: What the block calls a factory that the unit knows by another name.
    """
    outer = _speaker.get()
    return _speaking(_Speaker(owner if outer is None else outer.name, arguments))


def build_layer(
    owner: str,
    argument: str,
    factory: Callable[..., Any],
    *sizes: int,
    out_channels: int | None = None,
    **options: Any,
) -> Any:
    """Call a factory and return the layer that it builds.

    Args:
        owner: The class whose argument the factory is.
        argument: The argument.
        factory: The factory. What it raises itself passes through.
        *sizes: What it is called with.
        out_channels: What the layer's own ``out_channels``, if it has any, must be; None: anything.
        **options: What else it is called with.

    Raises:
        TypeError: The factory cannot be called like this, or returned no module.
        ValueError: PyTorch cannot build the layer in these sizes, or its ``out_channels`` differ.
    """
    speaker = _speaker.get()
    if speaker is not None:
        owner, argument = speaker.name, speaker.arguments.get(argument, argument)
    with _speaking(None):  # blocks within speak for themselves
        try:
            layer = factory(*sizes, **options)
        except (TypeError, ValueError) as error:
            if _is_refused_call(error, factory, *sizes, **options):
                rule = f"take the arguments {_written(*sizes, **options)}"
                raise bad_type(owner, argument, rule, factory) from error
            raise
        except RuntimeError as error:
            if type(error) is not RuntimeError:  # out of a GPU's memory, say
                raise
            rule = f"build a layer for {_written(*sizes, **options)}"
            raise bad_value(owner, argument, rule, error) from error
    if not isinstance(layer, nn.Module):
        remedy = "It is called for each layer, and must return a torch.nn.Module."
        raise bad_type(owner, argument, "build a layer", layer, remedy)
    made = getattr(layer, "out_channels", out_channels)
    if out_channels is not None and made != out_channels:
        rule = f"build a layer with out_channels (={out_channels})"
        raise bad_value(owner, argument, rule, made)
    return layer


def _written(*sizes: int, **options: Any) -> str:
    written = [*map(str, sizes), *(f"{name}={value}" for name, value in options.items())]
    return f"({', '.join(written)})"


def _is_refused_call(
    error: TypeError | ValueError, factory: Callable[..., Any], *sizes: int, **options: Any
) -> bool:
    """Whether it was the call that was refused, and nothing went wrong in the factory's code."""
    own_frame = error.__traceback__
    if own_frame is None or own_frame.tb_next is None:  # no code of the factory's was reached
        return True
    if isinstance(error, ValueError):
        return False
    try:
        inspect.signature(factory).bind(*sizes, **options)
    except (TypeError, ValueError):
        return True
    return False


def make_norm(
    owner: str, norm_layer: Callable[[int], nn.Module] | None, num_features: int
) -> nn.Module:
    """Build the norm, or nothing where there is no factory."""
    if norm_layer is None:
        return nn.Identity()
    return build_layer(owner, "norm_layer", norm_layer, num_features)


def make_activation(owner: str, activation_layer: Callable[[], nn.Module] | None) -> nn.Module:
    """Build the activation, or nothing where there is no factory."""
    if activation_layer is None:
        return nn.Identity()
    return build_layer(owner, "activation_layer", activation_layer)


def make_pool(owner: str, pool_layer: Callable[[int], nn.Module] | None) -> nn.Module:
    """Build the pooling by 2, or nothing where there is no factory."""
    return nn.Identity() if pool_layer is None else build_layer(owner, "pool_layer", pool_layer, 2)


@contextlib.contextmanager
def placed(
    owner: str, device: Device, dtype: torch.dtype | None, **sizes: int
) -> Iterator[Callable[[nn.Module], None]]:
    """Build layers on a device, whatever their factories know of devices.

    Yields what puts the finished module there as a whole and converts it: factories that bring
    tensors of their own need not heed the default device, and draws are those of the default dtype.

    Args:
        owner: The class of the module.
        device: Where to; None: where factories put their layers.
        dtype: The precision of parameters and buffers; None: what factories give them.
        **sizes: What decides how large the layers are, where no factory can be at fault.

    Raises:
        TypeError: A device or dtype of the wrong kind.
        ValueError: A device that is unknown or not there, a dtype of integers, sizes in which
            PyTorch cannot build the layers.
    """
    target = None if device is None else _as_device(owner, device)
    if dtype is not None:
        if not isinstance(dtype, torch.dtype):
            raise bad_type(owner, "dtype", "be a torch.dtype or None", dtype)
        if not dtype.is_floating_point:
            raise bad_value(owner, "dtype", "be a floating-point dtype", dtype)

    def put(module: nn.Module) -> None:
        if target is not None or dtype is not None:
            module.to(device=target, dtype=dtype)

    with contextlib.nullcontext() if target is None else target:
        try:
            yield put
        except (OverflowError, RuntimeError, TypeError, ValueError) as error:
            if not sizes or isinstance(error, torch.OutOfMemoryError):
                raise
            names = "`, `".join(sizes)
            rule = "be sizes in which the layers can be built"
            raise bad_value(owner, names, rule, tuple(sizes.values()), str(error)) from error


def _as_device(owner: str, device: Any) -> torch.device:
    if isinstance(device, bool) or not isinstance(device, torch.device | str | int):
        raise bad_type(owner, "device", "be a torch.device, a str or an int", device)
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, ImportError, ValueError) as error:  # by kind of device
        rule = "be a device that PyTorch finds here"
        raise bad_value(owner, "device", rule, device) from error
    return found
