"""Initial weights that other people's code draws by the names of classes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

import gaslayers
from gaslayers import ConvNormAct, DepthwiseConvNormAct
from gaslayers.models import CASES, VARIANTS, LSGANGenerator, build_discriminator
from gaslayers.models.norms import FrozenNorm2d
from tests.blocks.catalogue import CATALOGUE


def dcgan(m: nn.Module) -> None:  # pytorch/examples, PyTorch-GAN, Lightning Fabric
    classname = m.__class__.__name__
    if classname.find("Conv") != -1:
        nn.init.normal_(m.weight.data, 0.0, 0.02)
    elif classname.find("BatchNorm") != -1:
        nn.init.normal_(m.weight.data, 1.0, 0.02)
        nn.init.constant_(m.bias.data, 0)


def dcgan_with_linear(m: nn.Module) -> None:  # many forks of it
    classname = m.__class__.__name__
    if classname.find("Conv") != -1 or classname.find("Linear") != -1:
        m.weight.data.normal_(0.0, 0.02)
        if m.bias is not None:
            m.bias.data.fill_(0)
    elif classname.find("Norm") != -1:
        m.weight.data.normal_(1.0, 0.02)
        m.bias.data.fill_(0)


def cyclegan(m: nn.Module) -> None:  # junyanz/pytorch-CycleGAN-and-pix2pix
    classname = m.__class__.__name__
    if hasattr(m, "weight") and (classname.find("Conv") != -1 or classname.find("Linear") != -1):
        nn.init.normal_(m.weight.data, 0.0, 0.02)
        if hasattr(m, "bias") and m.bias is not None:
            nn.init.constant_(m.bias.data, 0.0)
    elif classname.find("BatchNorm2d") != -1:
        nn.init.normal_(m.weight.data, 1.0, 0.02)
        nn.init.constant_(m.bias.data, 0.0)


def munit(m: nn.Module) -> None:  # NVlabs/MUNIT
    classname = m.__class__.__name__
    if (classname.find("Conv") == 0 or classname.find("Linear") == 0) and hasattr(m, "weight"):
        nn.init.normal_(m.weight.data, 0.0, 0.02)
        if hasattr(m, "bias") and m.bias is not None:
            nn.init.constant_(m.bias.data, 0.0)


def by_type(m: nn.Module) -> None:
    if isinstance(m, nn.Conv2d | nn.Linear):
        nn.init.normal_(m.weight.data, 0.0, 0.02)
        if m.bias is not None:
            m.bias.data.zero_()
    elif isinstance(m, nn.BatchNorm2d):
        m.weight.data.normal_(1.0, 0.02)


def by_attribute(m: nn.Module) -> None:
    if hasattr(m, "weight") and m.weight is not None and m.weight.dim() > 1:
        nn.init.normal_(m.weight, 0.0, 0.02)
    if hasattr(m, "bias") and m.bias is not None:
        nn.init.zeros_(m.bias)


RECIPES = [dcgan, dcgan_with_linear, cyclegan, munit, by_type, by_attribute]

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{name: lambda entry=entry: entry.factory(in_channels=3) for name, entry in CATALOGUE.items()},
    **{
        f"{case}-{variant}": lambda case=case, variant=variant: build_discriminator(
            case, variant=variant
        )
        for case in CASES
        for variant in VARIANTS
    },
    **{
        f"generator-{variant}": lambda variant=variant: LSGANGenerator(variant=variant)
        for variant in ("as_coded", "modern")
    },
}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.__name__)
@pytest.mark.parametrize("name", NETWORKS)
def test_recipe_draws_every_convolution_and_nothing_else(name: str, recipe) -> None:
    network = NETWORKS[name]()
    names = [key for key, _ in network.named_parameters()]
    for parameter in network.parameters():
        nn.init.constant_(parameter, 7.0)
    network.apply(recipe)
    assert [key for key, _ in network.named_parameters()] == names
    for key, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            # Five standard deviations of the mean square of so many draws.
            square, count = module.weight.square().mean().item(), module.weight.numel()
            assert square == pytest.approx(4e-4, rel=5 * math.sqrt(2 / count)), key
        elif isinstance(module, nn.BatchNorm2d) and isinstance(module.weight, nn.Parameter):
            kept = module.weight.mean().item() == 7
            assert kept == (recipe in (munit, by_attribute)), key


def test_init_that_fills_biases_works_where_every_convolution_has_one() -> None:
    def fill(m: nn.Module) -> None:
        if type(m).__name__.find("Conv") != -1:
            m.weight.data.normal_(0, 0.02)
            m.bias.data.fill_(3)

    for block in (ConvNormAct(3, 4, bias=True), DepthwiseConvNormAct(3, 4, bias=True)):
        block.apply(fill)
        for conv in block.modules():
            if isinstance(conv, nn.Conv2d):
                assert conv.bias.eq(3).all()


def subclasses(kind: type) -> set[type]:
    found = set(kind.__subclasses__())
    return found.union(*map(subclasses, found))


def test_classes_caught_by_name_are_the_known_ones() -> None:
    """Another class of such a name needs a weight and a bias as well."""
    caught = {
        kind.__name__
        for kind in subclasses(nn.Module)
        if kind.__module__.startswith("gaslayers.")
        and any(word in kind.__name__ for word in ("Conv", "Norm", "Linear"))
    }
    assert caught == {
        "ConvNormAct",
        "DepthwiseConvNormAct",
        "FrozenNorm2d",
        "OffsetBatchNorm1d",
        "OffsetBatchNorm2d",
        "SharedBatchNorm",
    }


def test_a_units_weight_and_bias_are_its_convolutions() -> None:
    unit = ConvNormAct(3, 4)
    assert unit.weight is unit.conv.weight
    assert unit.bias is unit.conv.bias
    assert ConvNormAct(3, 4, bias=False).bias is None
    separable = DepthwiseConvNormAct(3, 4)
    assert separable.weight is separable.pointwise.conv.weight
    assert separable.bias is separable.pointwise.conv.bias
    assert len(list(unit.parameters())) == 2
    assert len(list(separable.parameters())) == 4


def test_a_unit_around_a_layer_without_a_weight_has_none() -> None:
    unit = ConvNormAct(3, 3, conv_layer=lambda *sizes, **options: nn.Identity())
    assert not hasattr(unit, "weight")
    assert not hasattr(unit, "bias")


def test_a_units_weight_follows_a_parametrisation() -> None:
    unit = ConvNormAct(3, 4).eval()
    nn.utils.parametrizations.spectral_norm(unit.conv)
    unit.eval()
    torch.testing.assert_close(unit.weight, unit.conv.weight, rtol=0, atol=0)
    assert torch.linalg.matrix_norm(unit.weight.flatten(1), 2) < 1.2


def test_a_frozen_norms_offset_is_zero_and_no_part_of_its_state() -> None:
    norm = FrozenNorm2d(3)
    norm.bias.data.fill_(5)
    torch.testing.assert_close(norm.bias, torch.zeros(3), rtol=0, atol=0)
    assert list(norm.state_dict()) == ["weight"]


@pytest.mark.parametrize("kind", ["InceptionBlock", "DepthwiseInceptionBlock"])
def test_a_block_that_takes_a_bias_argument_shows_no_bias_that_is_no_tensor(kind: str) -> None:
    block = getattr(gaslayers, kind)(3, 4, bias=True)
    assert not hasattr(block, "bias")
    assert "bias=True" in repr(block)
