"""The six discriminators: sizes, the facts of the original, and what each switch changes."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gaslayers import DepthwiseInceptionBlock, InceptionBlock
from gaslayers.models import CASES, VARIANTS, build_discriminator
from gaslayers.models.discriminator import Discriminator

# Networks are compared in float64, where another order of summation moves the last digits alone.
TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}

AS_CODED_PARAMETERS = {
    "original": 388_865,
    "depthwise_inception": 202_193,
    "inception_32": 216_705,
    "depthwise_inception_dense": 21_033,
    "inception_16": 54_593,
    "inception_8": 13_857,
}
ALL = [(case, variant) for case in CASES for variant in VARIANTS]


def trainable(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def flipped(case: str, **switches) -> Discriminator:
    """The network as coded, with the given switches set otherwise, from one seed."""
    torch.manual_seed(0)
    options = dataclasses.replace(VARIANTS["as_coded"], **switches)
    return build_discriminator(case, switches=options)


def layers(network: nn.Module) -> dict[str, str]:
    """Every layer without children, by name, as it prints."""
    return {
        name: repr(module)
        for name, module in network.named_modules()
        if next(module.children(), None) is None and not isinstance(module, nn.Identity)
    }


def changed(case: str, **switches) -> set[str]:
    """Names of the layers that appear, vanish or print otherwise with the switches."""
    before, after = layers(flipped(case)), layers(flipped(case, **switches))
    return {name for name, _ in before.items() ^ after.items()}


def stage_names(network: Discriminator, of_type: type) -> set[str]:
    return {name for name, module in network.named_modules() if isinstance(module, of_type)}


def pictures(count: int) -> torch.Tensor:
    """Bright smooth patches on black: in range and contrast like digits."""
    noise = F.avg_pool2d(torch.randn(count, 1, 28, 28), 5, stride=1, padding=2)
    return (5 * noise - 0.3).clamp(0, 1)


def test_cases_come_in_the_order_of_the_study() -> None:
    assert tuple(AS_CODED_PARAMETERS) == CASES


@pytest.mark.parametrize("case", CASES)
def test_as_coded_has_exactly_the_originals_parameters(case: str) -> None:
    assert trainable(build_discriminator(case)) == AS_CODED_PARAMETERS[case]


@pytest.mark.parametrize(("case", "parameters"), [("original", 389_761), ("inception_32", 241_521)])
def test_as_described_has_a_live_norms_parameters_too(case: str, parameters: int) -> None:
    assert trainable(build_discriminator(case, variant="as_described")) == parameters


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "case", ["original", "depthwise_inception", "inception_32", "inception_16", "inception_8"]
)
def test_four_stages_keep_a_last_odd_row_and_column(case: str, variant: str) -> None:
    x = torch.zeros(2, 1, 28, 28)
    sides = []
    for stage in build_discriminator(case, variant=variant).stages:
        x = stage(x)
        sides.append(x.shape[2:])
    assert sides == [(14, 14), (7, 7), (4, 4), (2, 2)]


@pytest.mark.parametrize(
    ("case", "widths"),
    [
        ("original", [32, 64, 128, 256]),
        ("depthwise_inception", [80, 160, 320, 640]),
        ("inception_32", [32, 64, 128, 256]),
        ("depthwise_inception_dense", [16, 64, 4, 52, 4, 52, 4]),
        ("inception_16", [16, 32, 64, 128]),
        ("inception_8", [8, 16, 32, 64]),
    ],
)
def test_as_coded_stages_have_the_originals_widths(case: str, widths: list[int]) -> None:
    assert [stage.out_channels for stage in build_discriminator(case).stages] == widths


def test_dense_case_drops_a_last_odd_row_and_column() -> None:
    x = torch.zeros(2, 1, 28, 28)
    sides = []
    for stage in build_discriminator("depthwise_inception_dense").stages:
        x = stage(x)
        sides.append(x.shape[2])
    assert sides == [28, 28, 14, 14, 7, 7, 3]


@pytest.mark.parametrize(
    ("case", "spread"),
    [
        ("original", 4e-4),
        ("inception_32", 1e-4),
        ("inception_16", 5e-5),
        ("inception_8", 1e-5),
        ("depthwise_inception_dense", 1e-5),
    ],
)
def test_as_coded_logits_start_with_the_originals_spread(case: str, spread: float) -> None:
    """Same order of magnitude: the geometric mean of four draws, within a factor of 4."""
    logarithms = []
    for seed in range(4):
        torch.manual_seed(seed)
        network = build_discriminator(case)
        with torch.no_grad():
            logarithms.append(network.logits(pictures(16)).std().log().item())
    mean = math.exp(sum(logarithms) / len(logarithms))
    assert spread / 4 < mean < spread * 4


@pytest.mark.parametrize(("case", "variant"), ALL)
def test_network_scores_alike_in_channels_last_memory(case: str, variant: str) -> None:
    network = build_discriminator(case, variant=variant).double().eval()
    x = torch.rand(2, 1, 28, 28, dtype=torch.float64)
    expected = network(x)
    assert expected.shape == (2, 1)
    network = network.to(memory_format=torch.channels_last)
    actual = network(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(actual, expected, **TOLERANCE)


@pytest.mark.parametrize("case", CASES)
def test_network_is_the_same_function_lean_and_plain(case: str) -> None:
    results = []
    for memory_efficient in (True, False):
        torch.manual_seed(0)
        network = build_discriminator(case, memory_efficient=memory_efficient)
        x = torch.rand(2, 1, 28, 28, dtype=torch.float64).requires_grad_()
        network.double().logits(x).sum().backward()
        results.append([x.grad, *(p.grad for p in network.parameters())])
    for lean, plain in zip(*results, strict=True):
        torch.testing.assert_close(lean, plain, **TOLERANCE)


@settings(max_examples=12)
@given(
    case=st.sampled_from(CASES),
    variant=st.sampled_from(sorted(VARIANTS)),
    in_channels=st.integers(1, 4),
    image_size=st.integers(16, 40),
)
def test_network_takes_any_image(
    case: str, variant: str, in_channels: int, image_size: int
) -> None:
    network = build_discriminator(
        case, variant=variant, in_channels=in_channels, image_size=image_size
    )
    x = torch.zeros(2, in_channels, image_size, image_size)
    assert network(x).shape == (2, 1)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_every_trainable_parameter_gets_a_gradient(case: str, variant: str) -> None:
    network = build_discriminator(case, variant=variant)
    network(torch.rand(4, 1, 28, 28)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


# Switches, one by one, from the network as coded.


@pytest.mark.parametrize(("norm", "name"), [("live", "BatchNorm2d"), ("none", None)])
def test_switch_norm_changes_the_norms_from_the_second_stage_on(norm: str, name) -> None:
    norms = {f"stages.{i}.norm" for i in (1, 2, 3)}
    assert changed("inception_8", norm=norm) == norms
    found = {type(flipped("inception_8", norm=norm).get_submodule(n)).__name__ for n in norms}
    assert found == {name or "Identity"}


def test_switch_norm_reaches_the_dense_blocks_and_not_the_stem() -> None:
    names = changed("depthwise_inception_dense", norm="live")
    norms = {f"stages.{i}.layers.{j}.norm" for i in (1, 3, 5) for j in (0, 1, 2)}
    assert names == norms | {f"stages.{i}.norm" for i in (2, 4, 6)}


def test_switch_bottleneck_puts_a_one_by_one_before_the_larger_kernel() -> None:
    # From the second stage on the 1x1 is as wide as its input, so the first 3x3 alone changes.
    assert changed("inception_8", bottleneck=True) == {
        "stages.0.body.branches.1.conv.conv",
        *(f"stages.{i}.body.branches.1.reduce.conv" for i in range(4)),
    }
    network = flipped("inception_8", bottleneck=True)
    for stage, in_channels, width in zip(
        network.stages, (1, 8, 16, 32), (4, 8, 16, 32), strict=True
    ):
        branch = stage.body.branches[1]
        assert branch.reduce.conv.weight.shape == (width, in_channels, 1, 1)
        assert branch.conv.conv.weight.shape == (width, width, 3, 3)


def test_switch_bottleneck_leaves_the_plain_case_alone() -> None:
    assert changed("original", bottleneck=True) == set()


def test_switch_width_multiplier_sets_the_separable_branchs_width() -> None:
    for multiplier in (1.0, 2.0, 4.0):
        network = flipped("depthwise_inception", width_multiplier=multiplier)
        for stage, half in zip(network.stages, (16, 32, 64, 128), strict=True):
            assert stage.body.branch_widths == (half, half * multiplier)
            assert stage.body.branches[1].reduce.out_channels == half
    assert changed("depthwise_inception_dense", width_multiplier=1.0) == set()


@pytest.mark.parametrize(
    ("layer", "switch"), [("norm", "inner_norm"), ("activation", "inner_activation")]
)
def test_switch_takes_norm_or_relu_out_of_the_separable_convolutions(layer, switch) -> None:
    names = changed("depthwise_inception", **{switch: False})
    steps = ("depthwise", "pointwise")
    assert names == {
        f"stages.{i}.body.branches.1.conv.{step}.{layer}" for i in range(4) for step in steps
    }
    both = changed("depthwise_inception", inner_norm=False, inner_activation=False)
    assert both > names
    coded = flipped("depthwise_inception").stages[0].body.branches[1].conv
    assert coded.order == "act_norm"
    for step in steps:
        assert coded.get_submodule(step).conv.bias is not None
        assert type(coded.get_submodule(step).norm).__name__ == "OffsetBatchNorm2d"


@pytest.mark.parametrize("groups", [2, 8])
def test_switch_groups_divides_the_plain_convolutions_from_the_second_stage_on(groups) -> None:
    assert changed("original", groups=groups) == {f"stages.{i}.body.conv" for i in (1, 2, 3)}
    network = flipped("original", groups=groups)
    for stage, channels, width in zip(
        network.stages[1:], (32, 64, 128), (64, 128, 256), strict=True
    ):
        assert stage.body.conv.weight.shape == (width, channels // groups, 3, 3)


def test_switch_groups_is_refused_where_no_plain_convolution_is() -> None:
    with pytest.raises(ValueError, match="must have 1 group in other cases than 'original', got 2"):
        flipped("inception_8", groups=2)
    switches = dataclasses.replace(VARIANTS["as_coded"], groups=8)
    with pytest.raises(ValueError, match="groups"):
        build_discriminator("original", switches=switches, base_filters=6)


@pytest.mark.parametrize("case", ["original", "depthwise_inception"])
def test_switch_spectral_norm_leaves_every_weight_a_largest_singular_value_of_one(case) -> None:
    network = flipped(case, spectral_norm=True)
    kinds = set()
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            with torch.no_grad():
                for _ in range(100):  # each reading in training mode is a step of power iteration
                    weight = module.weight
            # A matrix per group: its singular values are those of the convolution as a matrix.
            groups = getattr(module, "groups", 1)
            kinds.add(groups > 1)
            matrices = weight.flatten(1).unflatten(0, (groups, -1))
            largest = torch.linalg.matrix_norm(matrices, 2)
            # The iteration comes from below, slowly where two singular values are alike.
            torch.testing.assert_close(
                largest, torch.ones_like(largest), rtol=1e-3, atol=0.0, msg=name
            )
    assert kinds == ({False, True} if "depthwise" in case else {False})


def test_switch_spectral_norm_trains_the_raw_weights() -> None:
    network = flipped("depthwise_inception", spectral_norm=True)
    network(torch.rand(4, 1, 28, 28)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
def test_switch_dense_blocks_sets_their_number(blocks: int) -> None:
    network = flipped("depthwise_inception_dense", dense_blocks=blocks)
    kinds = [type(stage).__name__ for stage in network.stages]
    assert kinds == ["DepthwiseInceptionBlock", *["DenseBlock", "TransitionBlock"] * blocks]
    assert {stage.num_layers for stage in network.stages[1::2]} == {3}


def test_switch_depthwise_dense_layers_changes_the_dense_convolutions_alone() -> None:
    coded = flipped("depthwise_inception_dense")
    depthwise = flipped("depthwise_inception_dense", depthwise_dense_layers=True)
    assert stage_names(coded, DepthwiseInceptionBlock) == {"stages.0"}
    convolutions = stage_names(coded, InceptionBlock)
    assert len(convolutions) == 12
    assert stage_names(depthwise, DepthwiseInceptionBlock) == {"stages.0"} | convolutions
    assert stage_names(depthwise, InceptionBlock) == set()


@pytest.mark.parametrize(("channels", "widths"), [(4, [4, 4, 4]), (None, [32, 40, 44])])
def test_switch_transition_channels_sets_what_a_transition_narrows_to(channels, widths) -> None:
    network = flipped("depthwise_inception_dense", transition_channels=channels)
    assert [stage.out_channels for stage in network.stages[2::2]] == widths


def test_switch_activation_changes_the_stages_activations() -> None:
    names = changed("inception_8", activation="leaky_relu")
    assert names == {f"stages.{i}.activation" for i in range(4)}
    network = flipped("inception_8", activation="leaky_relu")
    assert {stage.activation.negative_slope for stage in network.stages} == {0.2}


def test_switch_head_puts_a_sigmoid_after_the_logits_or_not() -> None:
    x = torch.rand(2, 1, 28, 28)
    assert changed("original", head="linear") == set()
    coded, linear = flipped("original"), flipped("original", head="linear")
    torch.testing.assert_close(coded.logits(x), linear.logits(x), rtol=0, atol=0)
    torch.testing.assert_close(coded(x), coded.logits(x).sigmoid(), rtol=0, atol=0)
    torch.testing.assert_close(linear(x), linear.logits(x), rtol=0, atol=0)


def test_switch_init_changes_numbers_alone() -> None:
    assert changed("original", init="he") == set()
    coded, he = flipped("original"), flipped("original", init="he")
    ratio = he.stages[1].body.conv.weight.std() / coded.stages[1].body.conv.weight.std()
    assert ratio.item() == pytest.approx(math.sqrt(2 / 1.04 / 288) / (0.02 * 0.8796), rel=0.03)


def test_variants_differ_in_what_the_original_got_wrong() -> None:
    coded, described, modern = VARIANTS.values()
    assert (coded.norm, coded.bottleneck, coded.head) == ("frozen", False, "sigmoid")
    assert (described.norm, described.bottleneck, described.head) == ("live", True, "linear")
    assert (modern.activation, modern.init, modern.head) == ("leaky_relu", "he", "linear")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"case": "inception"}, ValueError, r"`case` must be one of 'original', .*got 'inception'"),
        ({"variant": "coded"}, ValueError, r"`variant` must be one of 'as_coded', 'as_described'"),
        ({"in_channels": 0}, ValueError, r"`in_channels` must be >= 1, got 0"),
        ({"image_size": 15}, ValueError, r"`image_size` must be >= 16, got 15"),
        ({"image_size": 28.0}, TypeError, r"`image_size` must be an int, got 28\.0"),
        (
            {"memory_efficient": 1},
            TypeError,
            r'`memory_efficient` must be a bool or "recompute", got 1',
        ),
        (
            {"switches": "live"},
            TypeError,
            r"`switches` must be Switches or None, got 'live'\. Change",
        ),
    ],
)
def test_wrong_argument_is_refused(arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match="build_discriminator: " + message):
        build_discriminator(**{"case": "original", **arguments})


@pytest.mark.parametrize(
    ("narrow", "wide"), [("inception_8", "inception_16"), ("inception_16", "inception_32")]
)
def test_base_filters_make_one_inception_case_another(narrow: str, wide: str) -> None:
    filters = int(wide.removeprefix("inception_"))
    assert str(build_discriminator(narrow, base_filters=filters)) == str(build_discriminator(wide))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_base_filters_scale_the_stages_of_every_case(case: str, variant: str) -> None:
    own = {"original": 32, "depthwise_inception": 32, "depthwise_inception_dense": 16}
    filters = own.get(case) or int(case.removeprefix("inception_"))
    default = build_discriminator(case, variant=variant)
    assert str(build_discriminator(case, variant=variant, base_filters=filters)) == str(default)
    doubled = build_discriminator(case, variant=variant, base_filters=2 * filters)
    assert doubled.stages[0].out_channels == 2 * default.stages[0].out_channels
    assert doubled(torch.zeros(2, 1, 28, 28)).shape == (2, 1)


@pytest.mark.parametrize(
    ("switch", "error", "message"),
    [
        (
            {"norm": "batch"},
            ValueError,
            r"`norm` must be one of 'frozen', 'live', 'none', got 'batch'",
        ),
        (
            {"activation": "elu"},
            ValueError,
            r"`activation` must be one of 'relu', 'leaky_relu', got",
        ),
        ({"head": None}, ValueError, r"`head` must be one of 'sigmoid', 'linear', got None"),
        ({"init": "xavier"}, ValueError, r"`init` must be one of 'gas2018', 'he', got 'xavier'"),
        ({"bottleneck": 1}, TypeError, r"`bottleneck` must be a bool, got 1"),
        ({"inner_norm": "no"}, TypeError, r"`inner_norm` must be a bool, got 'no'"),
        (
            {"depthwise_dense_layers": 0},
            TypeError,
            r"`depthwise_dense_layers` must be a bool, got 0",
        ),
        ({"width_multiplier": 0.0}, ValueError, r"`width_multiplier` must be > 0\.0, got 0\.0"),
        ({"inner_activation": "no"}, TypeError, r"`inner_activation` must be a bool, got 'no'"),
        ({"spectral_norm": 1}, TypeError, r"`spectral_norm` must be a bool, got 1"),
        ({"groups": 0}, ValueError, r"`groups` must be >= 1, got 0"),
        ({"dense_blocks": 0}, ValueError, r"`dense_blocks` must be >= 1, got 0"),
        ({"transition_channels": 0}, ValueError, r"`transition_channels` must be >= 1, got 0"),
    ],
)
def test_wrong_switch_is_refused(switch: dict, error: type, message: str) -> None:
    with pytest.raises(error, match="Switches: " + message):
        dataclasses.replace(VARIANTS["as_coded"], **switch)
