"""Where the models are built, in which precision, and how they are traced."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from gaslayers import DownBlock
from gaslayers.models import CASES, VARIANTS, Discriminator, LSGANGenerator, build_discriminator
from tests.blocks.test_construction import devices, precisions

NETWORKS = [(case, variant) for case in CASES for variant in VARIANTS]


@pytest.mark.parametrize(("case", "variant"), NETWORKS)
def test_case_is_built_where_and_as_it_is_asked_to_be(case: str, variant: str) -> None:
    network = build_discriminator(case, variant=variant, device="meta", dtype=torch.bfloat16)
    assert devices(network) == {"meta"}
    assert precisions(network) == {torch.bfloat16}
    torch.manual_seed(0)
    expected = build_discriminator(case, variant=variant).double().state_dict()
    torch.manual_seed(0)
    found = build_discriminator(case, variant=variant, dtype=torch.float64).state_dict()
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=0)


@pytest.mark.parametrize("variant", ["as_coded", "modern"])
def test_generator_is_built_where_and_as_it_is_asked_to_be(variant: str) -> None:
    network = LSGANGenerator(8, variant=variant, base_channels=8, device="meta", dtype=torch.half)
    assert devices(network) == {"meta"}
    assert precisions(network) == {torch.half}
    assert network(torch.zeros(2, 8, device="meta", dtype=torch.half)).shape == (2, 1, 28, 28)


def test_skip_init_takes_a_generator_and_a_discriminator() -> None:
    assert devices(nn.utils.skip_init(LSGANGenerator, 8, base_channels=8)) == {"cpu"}
    stages = [DownBlock(3, 4)]
    network = nn.utils.skip_init(Discriminator, stages, in_channels=3, image_size=8)
    assert devices(network) == {"cpu"}
    assert network.classifier.in_features == 4 * 4 * 4


def test_discriminator_puts_its_stages_where_it_is() -> None:
    network = Discriminator(
        [DownBlock(3, 4)], in_channels=3, image_size=8, device="meta", dtype=torch.float64
    )
    assert devices(network) == {"meta"}
    assert precisions(network) == {torch.float64}


@pytest.mark.parametrize(
    ("stages", "got"),
    [
        (None, "None"),
        ("relu", "'relu'"),
        ([nn.ReLU], "<class .*ReLU'>"),
        ([None], "None"),
        (3, "3"),
    ],
)
def test_stages_that_are_no_modules_are_refused(stages: object, got: str) -> None:
    with pytest.raises(
        TypeError, match=f"Discriminator: `stages` must be modules in order, got {got}"
    ):
        Discriminator(stages, in_channels=3, image_size=8)


@pytest.mark.parametrize(("case", "variant"), NETWORKS)
def test_symbolic_trace_of_a_case_is_the_case(case: str, variant: str) -> None:
    network = build_discriminator(case, variant=variant).double().eval()
    traced = torch.fx.symbolic_trace(network)
    x = torch.rand(3, 1, 28, 28, dtype=torch.float64)
    torch.testing.assert_close(traced(x), network(x), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("upsampling", ["raw_reshape", "pixel_shuffle"])
@pytest.mark.parametrize("variant", ["as_coded", "modern"])
def test_symbolic_trace_of_a_generator_is_the_generator(variant: str, upsampling: str) -> None:
    network = LSGANGenerator(8, variant=variant, upsampling=upsampling, base_channels=8).eval()
    traced = torch.fx.symbolic_trace(network)
    for batch_size in (1, 3):
        z = torch.randn(batch_size, 8)
        torch.testing.assert_close(traced(z), network(z), rtol=0, atol=0)


@pytest.mark.parametrize("case", CASES)
def test_features_of_a_case_are_extracted_at_any_stage(case: str) -> None:
    network = build_discriminator(case, variant="as_described").eval()
    names, _ = get_graph_node_names(network)
    assert "stages.0" in {name[:8] for name in names}
    stages = {f"stages.{index}": str(index) for index in range(len(network.stages))}
    found = create_feature_extractor(network, stages)(torch.zeros(2, 1, 28, 28))
    x = torch.zeros(2, 1, 28, 28)
    for index, stage in enumerate(network.stages):
        x = stage(x)
        torch.testing.assert_close(found[str(index)], x)


@pytest.mark.parametrize("z", [None, [0.0] * 8, torch.zeros(2, 8, dtype=torch.int64)])
def test_generator_refuses_what_is_no_noise(z: object) -> None:
    with pytest.raises(TypeError, match=r"^LSGANGenerator: `z` must be a "):
        LSGANGenerator(8, base_channels=8)(z)


@pytest.mark.parametrize("shape", [(8,), (2, 9), (2, 8, 1)])
def test_models_refuse_a_single_sample_by_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^LSGANGenerator: expected input of shape \(N, 8\), got"):
        LSGANGenerator(8, base_channels=8)(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"^Discriminator: expected input of shape \(N, 1, H, W\)"):
        build_discriminator("original")(torch.zeros(1, 28, 28))
