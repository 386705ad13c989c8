"""Images of a generator, whatever it is: a module, a function, or images that are there already."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gaslayers._checks import bad_type, bad_value
from gaslayers.study.metrics.features import UNIT, read_images
from gaslayers.study.randomness import draw_noise, make_generator, seeded_everywhere


def draw_images(
    owner: str,
    generator: Any,
    count: int,
    *,
    image_range: tuple[float, float] = UNIT,
    batch_size: int = 500,
    seed: int = 0,
) -> Tensor:
    """Draw ``count`` images and map them to [0, 1].

    Args:
        owner: Who asks, for error messages.
        generator: A module with an attribute ``latent_size``, which gets normal noise of shape
            (n, latent_size); a function of a number n that returns as many images; or images.
            A module runs in the mode that it is in, and its buffers are left as they are. What a
            function runs is out of reach: put it in eval mode, where its buffers stay, and let
            it draw from PyTorch's global generators, which alone are put back.
        count: The number of images.
        image_range: The values of black and of white in what it generates, where those are
            floats; bytes have 0 and 255.
        batch_size: Images at a time.
        seed: Where noise comes from, and which of too many images are taken; PyTorch's global
            generators are seeded for functions, and left as they were.

    Raises:
        TypeError: It is none of these.
        ValueError: There are too few images, they have another shape, or a pixel is not finite.
    """
    ends = _check_range(owner, image_range)
    if isinstance(generator, Tensor):
        if len(generator) < count:
            rule = f"hold at least {count} images"
            raise bad_value(owner, "generator", rule, len(generator))
        order = torch.randperm(
            len(generator), generator=make_generator(seed, "generated subset"), device="cpu"
        )
        # Images that are sorted by class, say, are not to be those of the first classes alone.
        chosen = generator if len(generator) == count else generator[order[:count]]
        images = read_images(owner, "generator", chosen, image_range=ends)
    else:
        if not callable(generator):
            rule = "be a module, a function of a number of images, or images"
            raise bad_type(owner, "generator", rule, generator)
        images = _generate(
            owner, generator, count, image_range=ends, batch_size=batch_size, seed=seed
        )
    return images.cpu()


@torch.no_grad()
def _generate(
    owner: str,
    generator: Any,
    count: int,
    *,
    image_range: tuple[float, float],
    batch_size: int,
    seed: int,
) -> Tensor:
    is_module = isinstance(generator, nn.Module)
    if is_module and not isinstance(getattr(generator, "latent_size", None), int):
        remedy = "Wrap it: lambda count: generator(torch.randn(count, ...))."
        raise bad_type(owner, "generator", "have an int `latent_size`", generator, remedy)
    parts = []
    with seeded_everywhere(seed):
        for step, start in enumerate(range(0, count, batch_size)):
            wanted = min(batch_size, count - start)
            made = _run_aside(generator, wanted, seed, step) if is_module else generator(wanted)
            part = read_images(owner, "generator", made, image_range=image_range)
            if len(part) != wanted:
                rule = f"return as many images as asked for, {wanted}"
                raise bad_value(owner, "generator", rule, len(part))
            parts.append(part.cpu())
    return torch.cat(parts)


def _run_aside(generator: nn.Module, count: int, seed: int, step: int) -> Any:
    """Generate without moving running statistics, which a generator in training mode has."""
    size: int = generator.latent_size  # type: ignore[assignment]  # checked before
    noise = draw_noise(seed, "metric z", step, batch_size=count, latent_size=size)
    state = generator.state_dict(keep_vars=True)
    like = next((tensor for tensor in state.values() if tensor.is_floating_point()), noise)
    buffers = {name: buffer.clone() for name, buffer in generator.named_buffers()}
    return functional_call(generator, buffers, (noise.to(like),))


def _check_range(owner: str, image_range: Any) -> tuple[float, float]:
    is_pair = isinstance(image_range, tuple | list) and len(image_range) == 2
    if not is_pair or not all(isinstance(end, int | float) for end in image_range):
        raise bad_type(owner, "image_range", "be a pair of numbers", image_range)
    low, high = float(image_range[0]), float(image_range[1])
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise bad_value(owner, "image_range", "rise from black to white", image_range)
    return low, high
