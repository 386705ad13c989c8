"""Calls as nobody should make them: each ends well, or in an error that says what was wrong.

``python -m tests.blocks.fuzz --calls 10000 --seed 0`` runs many; the suite runs a share.
"""

from __future__ import annotations

import argparse
import collections
import copy
import inspect
import math
import random
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

import gaslayers
import gaslayers.functional as GF
from gaslayers.blocks import __all__ as block_names
from gaslayers.models import Discriminator, LSGANGenerator, build_discriminator
from tests.blocks.fuzz_values import DTYPES, KINDS, NUMBERS, SEQUENCES, SHAPES, WORDS, OwnError


class FuzzError(AssertionError):
    """A call that ended otherwise than a call may."""


CONSTRUCTORS: list[Callable[..., Any]] = [
    *(getattr(gaslayers, name) for name in block_names),
    *(Discriminator, LSGANGenerator, build_discriminator),
    *(gaslayers.LSGANDiscriminatorLoss, gaslayers.LSGANGeneratorLoss),
]
FUNCTIONS: list[Callable[..., Any]] = [GF.lsgan_discriminator_loss, GF.lsgan_generator_loss]


def arguments(rng: random.Random, make: Callable[..., Any], wrong: int) -> dict[str, Any]:
    """Right arguments for a call, some of them left at their defaults, but for ``wrong`` ones."""
    drawn = {}
    for name, parameter in inspect.signature(make).parameters.items():
        if name.endswith("scores") or parameter.kind is parameter.VAR_KEYWORD:
            continue
        if parameter.default is parameter.empty or rng.random() < 0.3:
            # A copy: a network puts the modules that it is given where it is.
            drawn[name] = copy.deepcopy(rng.choice(KINDS[name].right))
    names = [name for name in inspect.signature(make).parameters if name in KINDS]
    for name in rng.sample(names, min(wrong, len(names))):
        drawn[name] = rng.choice(KINDS[name].wrong)
    return drawn


def inputs(rng: random.Random, subject: Any) -> Any:
    """A right input for a block or a model, or any other object."""
    if rng.random() < 0.25:
        return rng.choice([*NUMBERS, *SEQUENCES, *WORDS])
    shape = rng.choice(SHAPES)
    if rng.random() < 0.6:
        channels = getattr(subject, "in_channels", 3)
        sides = [rng.choice([1, 2, 3, 8, 9])] * 2
        size = getattr(subject, "image_size", None)
        shape = (rng.choice([1, 2]), channels, *([size, size] if size else sides))
        if isinstance(subject, LSGANGenerator):
            shape = (2, subject.latent_size)
    if math.prod(shape) > 2**20:
        shape = (2, 3, 8, 8)
    x = torch.ones(shape)
    first = next(iter(getattr(subject, "parameters", lambda: iter(()))()), x)
    x = x.to(dtype=first.dtype, device=first.device)
    return x.to(rng.choice(DTYPES)) if rng.random() < 0.2 else x


def names_its_cause(owner: str, error: Exception, known: set[str]) -> bool:
    """Whether an error tells the class and an argument of it, or the shape that was expected."""
    sentence = str(error)
    if not sentence.startswith(owner):
        return False
    if "expected input of shape" in sentence:
        return True
    return bool(known & set(re.findall(r"`(\w+)`", sentence)))


def known_arguments(*functions: Callable[..., Any]) -> set[str]:
    return {name for f in functions for name in inspect.signature(f).parameters}


def plain_layers_refuse(subject: nn.Module, x: Tensor, error: Exception) -> bool:
    """Whether PyTorch itself raises this for such numbers: of another dtype, too few of them."""
    plain = [module for module in subject.modules() if type(module).__module__.startswith("torch.")]
    others = {p.dtype for p in subject.parameters()} - {x.dtype}
    foreign = bool(others) or x.is_complex() or x.dtype in (torch.float16, torch.bfloat16)
    single = "more than 1 value per channel" in str(error) or "spatial element" in str(error)
    return bool(plain) and (foreign or single)


class Fuzzer:
    """Draws calls and judges how they end.

    Args:
        seed: Of the draws.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.ends: collections.Counter[str] = collections.Counter()

    def run(self, calls: int) -> collections.Counter[str]:
        """Make so many calls of constructors and forwards; how many ended in which way."""
        while sum(self.ends.values()) < calls:
            for end in self._round():
                self.ends[end] += 1
        return self.ends

    def _round(self) -> Iterator[str]:
        rng = self.rng
        if rng.random() < 0.1:
            yield self._loss(rng.choice(FUNCTIONS), is_function=True)
            return
        make = rng.choice(CONSTRUCTORS)
        known = known_arguments(make)
        given = arguments(rng, make, rng.choice([0, 0, 1, 1, 1, 2]))
        try:
            subject = make(**given)
        except OwnError:
            yield "a factory's own error"
            return
        except (TypeError, ValueError) as error:
            # A block that a factory builds speaks for itself.
            owners = {make.__name__: known}
            if {"block", "layer"} & known:
                owners |= {name: known_arguments(getattr(gaslayers, name)) for name in block_names}
            if not any(names_its_cause(owner, error, own) for owner, own in owners.items()):
                raise FuzzError(f"{make.__name__}(**{given!r}): {error}") from error
            yield f"constructor: {type(error).__name__}"
            return
        except BaseException as error:
            raise FuzzError(f"{make.__name__}(**{given!r}): {error!r}") from error
        yield "constructor: built"
        for _ in range(3):
            yield self._forward(subject, given)

    def _forward(self, subject: Any, given: dict[str, Any]) -> str:
        if isinstance(subject, gaslayers.LSGANDiscriminatorLoss | gaslayers.LSGANGeneratorLoss):
            return self._loss(subject, is_function=False)
        x = inputs(self.rng, subject)
        owner = type(subject).__name__
        call = f"{owner}(**{given!r}) on {_told(x)}"
        try:
            y = subject.train(self.rng.random() < 0.5)(x)
        except (TypeError, ValueError, RuntimeError) as error:
            named = names_its_cause(owner, error, {"x", "z"}) and not isinstance(
                error, RuntimeError
            )
            if not named and not (isinstance(x, Tensor) and plain_layers_refuse(subject, x, error)):
                raise FuzzError(f"{call}: {error!r}") from error
            return "forward: refused by name" if named else "forward: refused as by PyTorch"
        except BaseException as error:
            raise FuzzError(f"{call}: {error!r}") from error
        if not isinstance(y, Tensor) or len(y) != len(x):
            raise FuzzError(f"{call}: returned {_told(y)}")
        return "forward: a result"

    def _loss(self, loss: Any, *, is_function: bool) -> str:
        rng = self.rng
        count = sum(n.endswith("scores") for n in inspect.signature(_call(loss)).parameters)
        scores = [inputs(rng, None) for _ in range(count)]
        if rng.random() < 0.5:
            scores = scores[:1] * count
        options = arguments(rng, loss, rng.choice([0, 1])) if is_function else {}
        owner = loss.__name__ if is_function else type(loss).__name__
        told = f"{owner}({', '.join(map(_told, scores))}, **{options!r})"
        made_by = loss if is_function else type(loss)
        known = known_arguments(_call(loss), made_by) | {"scores"}
        try:
            y = loss(*scores, **options)
        except (TypeError, ValueError) as error:
            # The modules hand their scores to the functions, which speak for them.
            functions = {f.__name__ for f in FUNCTIONS}
            if not any(names_its_cause(name, error, known) for name in (owner, *functions)):
                raise FuzzError(f"{told}: {error!r}") from error
            return f"loss: {type(error).__name__}"
        except BaseException as error:
            raise FuzzError(f"{told}: {error!r}") from error
        if not isinstance(y, Tensor) or not y.is_floating_point():
            raise FuzzError(f"{told}: returned {_told(y)}")
        return "loss: a result"


def _call(loss: Any) -> Callable[..., Any]:
    return loss.forward if isinstance(loss, nn.Module) else loss


def _told(x: Any) -> str:
    return f"{tuple(x.shape)} {x.dtype}" if isinstance(x, Tensor) else repr(x)[:60]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for end, count in Fuzzer(options.seed).run(options.calls).most_common():
        sys.stdout.write(f"{count:7d}  {end}\n")


if __name__ == "__main__":
    main()
