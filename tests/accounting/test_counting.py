"""What `count` finds, against figures that are known or follow from the shapes by hand."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.utils.checkpoint import checkpoint

from gaslayers import DenseBlock, DepthwiseInceptionBlock, DownBlock, InceptionBlock, count
from gaslayers.accounting import CONVENTION


@pytest.mark.parametrize(
    ("name", "options", "macs", "params"),
    [
        ("densenet121", {}, 2_834_161_664, 7_978_856),
        ("googlenet", {"aux_logits": False, "init_weights": False}, 1_498_376_192, 6_624_904),
    ],
)
def test_count_equals_the_published_figures(name, options, macs, params) -> None:
    network = torchvision.models.get_model(name, weights=None, **options).eval()
    report = count(network, torch.zeros(1, 3, 224, 224))
    assert (report.macs, report.params) == (macs, params)
    products = {"conv", "linear"}
    assert sum(report.by_operator[operator].macs for operator in products) == macs
    assert (report.unsupported, report.convention) == ({}, CONVENTION)


X = (2, 4, 6, 8)  # N, C, H, W; 384 elements
PIXELS = 6 * 8


@pytest.mark.parametrize(
    ("module", "macs"),
    [
        (nn.Conv2d(4, 6, 3), 2 * 4 * 6 * 6 * 4 * 9),
        (nn.Conv2d(4, 6, 3, padding="same"), 2 * PIXELS * 6 * 4 * 9),
        (nn.Conv2d(4, 6, 3, padding="same", dilation=2, groups=2), 2 * PIXELS * 6 * 2 * 9),
        (nn.Conv2d(4, 6, 3, padding="valid"), 2 * 4 * 6 * 6 * 4 * 9),
        (nn.Conv2d(4, 6, (1, 3), stride=(2, 1)), 2 * 3 * 6 * 6 * 4 * 3),
        (nn.Conv2d(4, 4, 3, padding=1, groups=4), 2 * PIXELS * 4 * 9),
        (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), 2 * PIXELS * 6 * 4 * 9),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), 2 * PIXELS * 4 * 3 * 9),
        (nn.Linear(8, 5), 2 * 4 * 6 * 8 * 5),
        (nn.Linear(8, 5, bias=False), 2 * 4 * 6 * 8 * 5),
    ],
    ids=str,
)
def test_count_of_a_layer_with_weights(module, macs) -> None:
    report = count(module, torch.zeros(X))
    assert (report.macs, report.flops) == (macs, 2 * macs)
    assert report.activations == module(torch.zeros(X)).numel()


def test_count_of_a_convolution_without_batch() -> None:
    assert count(nn.Conv2d(4, 6, 3, padding="same"), torch.zeros(X[1:])).macs == PIXELS * 6 * 4 * 9


@pytest.mark.parametrize(
    ("module", "flops"),
    [
        (nn.BatchNorm2d(4).eval(), 2),
        (nn.BatchNorm2d(4), 5),
        (nn.BatchNorm2d(4, affine=False), 4),
        (nn.GroupNorm(2, 4), 5),
        (nn.ReLU(), 1),
        (nn.ReLU(inplace=True), 1),
        (nn.LeakyReLU(0.2), 1),
        (nn.PReLU(), 1),
        (nn.Sigmoid(), 1),
        (nn.Tanh(), 1),
        (nn.MaxPool2d(2), 1),
        (nn.MaxPool2d(3, stride=2, ceil_mode=True), 1),
        (nn.AvgPool2d(2), 1),
        (nn.AdaptiveAvgPool2d(1), 1),
        (nn.AdaptiveMaxPool2d(1), 1),
        (nn.Softmax(dim=1), 3),
        (nn.Dropout(0.5), 1),
        (nn.Dropout(0.5).eval(), 0),
        (nn.Flatten(), 0),
        (nn.Identity(), 0),
        (nn.ReflectionPad2d(1), 0),
        (nn.PixelShuffle(2), 0),
        (nn.Upsample(scale_factor=2), 0),
    ],
    ids=str,
)
def test_count_of_a_layer_without_products_is_flops_per_element(module, flops) -> None:
    report = count(module, torch.ones(X))
    assert (report.macs, report.flops, report.unsupported) == (0, 384 * flops, {})


@pytest.mark.parametrize(
    ("function", "flops"),
    [
        (lambda x: x + x, 384),
        (lambda x: 1 - x, 384),
        (lambda x: (x * 2 - 1) / 3, 3 * 384),
        (lambda x: x**2, 384),
        (lambda x: x.mean(dim=(2, 3)), 384),
        (lambda x: x.sum(), 384),
        (lambda x: -x.exp(), 2 * 384),
        (lambda x: x.pow(2).mean().sqrt(), 2 * 384 + 1),
        (lambda x: x[:, :1] * x, 384),
        (lambda x: torch.maximum(x, -x), 2 * 384),
        (lambda x: F.mse_loss(x, x), 3 * 384),
        (lambda x: F.l1_loss(x, x), 3 * 384),
        (lambda x: F.binary_cross_entropy(x.sigmoid(), x), 7 * 384),
        (lambda x: F.binary_cross_entropy_with_logits(x, x), 7 * 384),
        (lambda x: torch.cat([x, x]), 0),
        (lambda x: x.reshape(x.shape[0] * x.shape[1] // 2, -1), 0),
        (lambda x: torch.arange(8) * 2 + 1, 0),
        (lambda x: (x > 0) & (x < 1), 0),
        (lambda x: x.flatten(1)[:, torch.tensor([0, 2])], 0),
    ],
)
def test_count_of_arithmetic_is_that_on_floats(make, function, flops) -> None:
    report = count(make(lambda _, x: function(x)), torch.ones(X))
    assert (report.macs, report.flops, report.unsupported) == (0, flops, {})


@pytest.mark.parametrize(
    ("function", "shapes", "macs"),
    [
        (torch.matmul, [(2, 3), (3, 5)], 2 * 3 * 5),
        (torch.matmul, [(3, 4), (2, 5, 4, 6)], 2 * 5 * 3 * 4 * 6),
        (torch.matmul, [(2, 5, 3, 4), (4, 6)], 2 * 5 * 3 * 4 * 6),
        (torch.matmul, [(2, 5, 3, 4), (4,)], 2 * 5 * 3 * 4),
        (torch.matmul, [(4,), (2, 4, 3)], 2 * 4 * 3),
        (torch.matmul, [(4,), (4,)], 4),
        (torch.mm, [(2, 3), (3, 5)], 2 * 3 * 5),
        (torch.bmm, [(7, 2, 3), (7, 3, 5)], 7 * 2 * 3 * 5),
        (torch.baddbmm, [(7, 2, 5), (7, 2, 3), (7, 3, 5)], 7 * 2 * 3 * 5),
        (torch.addmm, [(2, 5), (2, 3), (3, 5)], 2 * 3 * 5),
        (torch.mv, [(2, 3), (3,)], 2 * 3),
        (torch.addmv, [(2,), (2, 3), (3,)], 2 * 3),
        (torch.dot, [(3,), (3,)], 3),
        (F.scaled_dot_product_attention, [(2, 3, 5, 4)] * 2 + [(2, 3, 5, 6)], 2 * 3 * 25 * 10),
    ],
)
def test_count_of_a_matrix_product(make, function, shapes, macs) -> None:
    report = count(make(lambda _, *x: function(*x)), tuple(map(torch.zeros, shapes)))
    assert (report.macs, report.unsupported) == (macs, {})


def test_count_of_attention_in_evaluation_is_that_of_its_parts() -> None:
    # Without care PyTorch runs the whole layer as one fused operator, in evaluation alone.
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    macs = 2 * 5 * (4 * 8 * 8 + 2 * 8 * 16) + 2 * 2 * 5 * 5 * 8
    assert count(layer, torch.zeros(2, 5, 8)).macs == macs
    x, options = torch.zeros(2, 5, 8), {"need_weights": False}
    with torch.no_grad():
        assert count(layer.eval(), x).macs == macs
        attention = count(layer.self_attn, (x, x, x), kwargs=options)
    assert attention.macs == 2 * 5 * 4 * 8 * 8 + 2 * 2 * 5 * 5 * 8
    frozen = layer.self_attn.requires_grad_(False)
    assert count(frozen, (x, x, x), kwargs=options) == dataclasses.replace(attention, trainable=0)


@pytest.mark.parametrize("grad_mode", [False, True])
def test_count_runs_in_the_grad_mode_around_it(make, grad_mode) -> None:
    modes: list[bool] = []
    with torch.set_grad_enabled(grad_mode):
        count(make(lambda _, x: modes.append(torch.is_grad_enabled()) or x), torch.zeros(X))
    assert modes == [grad_mode, grad_mode]  # one run for each engine


def test_count_includes_a_branch_that_no_output_depends_on(make) -> None:
    def forward(self, x):
        self.dead(x)
        x.flatten(1) @ x.flatten(1).t()
        return self.live(x)

    module = make(forward, dead=nn.Conv2d(4, 2, 1), live=nn.Conv2d(4, 3, 1))
    report = count(module, torch.zeros(X))
    assert report.by_module["dead"].macs == 2 * PIXELS * 4 * 2
    assert report.macs == 2 * PIXELS * 4 * (2 + 3) + 2 * 2 * 4 * PIXELS


def test_count_takes_several_inputs_dicts_and_keywords(make) -> None:
    linear = nn.Linear(8, 5)
    x = torch.zeros(3, 8)
    two = make(lambda self, a, b: self.linear(a) + self.linear(b), linear=linear)
    one_dict = make(lambda self, d: {"y": self.linear(d["x"]), "scale": d["scale"]}, linear=linear)
    keywords = make(lambda self, *, x, scale=1.0: [self.linear(x) * scale, None], linear=linear)
    none = make(lambda self: self.linear(torch.zeros(3, 8)), linear=linear)
    assert count(two, (x, x)).macs == 2 * 3 * 8 * 5
    assert count(one_dict, {"x": x, "scale": 2.0}).macs == 3 * 8 * 5
    assert count(keywords, (), kwargs={"x": x, "scale": 2.0}).flops == 2 * 3 * 8 * 5 + 3 * 5
    assert (count(none, ()).macs, count(none, ()).batch_size) == (3 * 8 * 5, None)


def test_count_of_a_module_called_twice_and_of_tied_weights() -> None:
    shared = nn.Linear(4, 4)
    report = count(nn.Sequential(shared, nn.ReLU(), shared), torch.zeros(2, 4))
    assert (report.macs, report.params) == (2 * 2 * 16, 20)
    assert list(report.by_module) == ["", "0", "1", "2"]
    assert [report.by_module[name].macs for name in ("0", "2")] == [32, 32]
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    report = count(tied, torch.zeros(2, 4))
    assert (report.macs, report.params, report.by_module["1"].params) == (2 * 2 * 16, 24, 20)


@pytest.mark.parametrize("reentrant", [True, False])
def test_count_of_a_checkpointed_module_is_that_of_the_module(make, reentrant) -> None:
    body = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
    checkpointed = make(
        lambda self, x: checkpoint(self.body, x, use_reentrant=reentrant), body=body
    )
    x = torch.zeros(X, requires_grad=True)
    plain, report = count(body, x, backward=True), count(checkpointed, x, backward=True)
    assert (report.macs, report.flops) == (plain.macs, plain.flops)
    assert report.backward_macs == plain.backward_macs == 2 * plain.macs
    assert report.by_module["body.0"] == plain.by_module["0"]


@pytest.mark.parametrize("place", ["whole", "part", "in place"])
def test_count_of_a_compiled_module_is_that_of_the_module(place) -> None:
    network = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU())
    expected = count(network, torch.zeros(X))
    if place == "whole":
        compiled = torch.compile(network, backend="eager")
    elif place == "part":
        compiled = nn.Sequential(torch.compile(network[0], backend="eager"), network[1])
    else:
        compiled = network
        compiled.compile(backend="eager")
        compiled(torch.zeros(X))
    assert count(compiled, torch.zeros(X)) == expected


def test_count_of_wrappers_is_that_of_the_wrapped() -> None:
    network = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU())
    assert count(nn.DataParallel(network), torch.zeros(X)) == count(network, torch.zeros(X))


@pytest.mark.filterwarnings("ignore:.*spectral_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
def test_count_of_a_spectral_norm_includes_its_products(norm) -> None:
    # One power iteration, two products with the weight, and the norm by a third; one dot product.
    report = count(norm(nn.Conv2d(4, 6, 3)), torch.zeros(X))
    assert report.macs == 2 * 4 * 6 * 6 * 4 * 9 + 3 * 6 * 36 + 6
    assert report.by_module[""].fixed_macs == 3 * 6 * 36 + 6


class Doubled(torch.autograd.Function):
    """A linear layer without bias, as a custom function with its own backward."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight.t()

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return grad @ weight, grad.t() @ x


class Split(torch.autograd.Function):
    """The same in the newer style, with a separate `setup_context`."""

    @staticmethod
    def forward(x, weight):
        return x @ weight.t()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    backward = Doubled.backward


@pytest.mark.parametrize("apply", [Doubled.apply, Split.apply, None])
def test_count_looks_into_custom_functions(make, apply) -> None:
    # With None it is looked up in the forward pass; the others were bound before the count.
    module = make(
        lambda self, x: (apply or Doubled.apply)(x, self.linear.weight), linear=nn.Linear(8, 5)
    )
    report = count(module, torch.zeros(3, 8, requires_grad=True), backward=True)
    assert (report.macs, report.backward_macs) == (3 * 8 * 5, 2 * 3 * 8 * 5)
    assert report.unsupported == {}


class Lean(nn.Module):
    """A block whose lean path takes more multiply-adds than the layer that it stands for."""

    def __init__(self, memory_efficient: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.memory_efficient = memory_efficient

    def forward(self, x):
        if self.memory_efficient:
            return Doubled.apply(x, Doubled.apply(self.linear.weight, torch.eye(4)))
        return self.linear(x)


def test_count_of_a_lean_block_is_that_of_its_plain_twin() -> None:
    lean, plain = Lean(memory_efficient=True), Lean(memory_efficient=False)
    x = torch.zeros(2, 4, requires_grad=True)
    report = count(nn.Sequential(lean), x, backward=True)
    assert report == count(nn.Sequential(plain), x, backward=True)
    assert (report.macs, report.backward_macs) == (32, 64)
    assert lean.memory_efficient


@pytest.mark.parametrize(
    "block",
    [
        InceptionBlock(4, 8, memory_efficient=True),
        DepthwiseInceptionBlock(4, 8, memory_efficient=True),
        DenseBlock(4, 2, memory_efficient=True),
        DownBlock(4, 8, memory_efficient=True),
    ],
    ids=lambda block: type(block).__name__,
)
@pytest.mark.parametrize("frozen", [False, True])
def test_count_of_our_blocks_is_the_same_lean_and_plain(block, frozen) -> None:
    block.requires_grad_(not frozen)
    block.memory_efficient = True
    x = torch.zeros(X, requires_grad=True)
    report = count(block, x, backward=True)
    block.memory_efficient = False
    assert count(block, x, backward=True) == report
    assert report.backward_macs == (1 if frozen else 2) * report.macs
    assert report.macs == X[0] * block.expected_macs(*X[2:])


def test_count_names_what_it_has_no_cost_for_and_what_was_not_called(make) -> None:
    module = make(lambda self, x: torch.special.i0(x), unused=nn.Conv2d(1, 1, 1))
    report = count(module, torch.zeros(X))
    assert (report.unsupported, report.uncalled) == ({"aten::i0": 1}, ("unused",))
    assert report.by_module["unused"].macs == 0


def test_count_follows_training_and_evaluation() -> None:
    norm = nn.BatchNorm2d(4)
    training, evaluation = count(norm, torch.zeros(X)), count(norm.eval(), torch.zeros(X))
    assert (training.flops, evaluation.flops) == (5 * 384, 2 * 384)


def test_count_is_the_same_whatever_the_grad_mode_around_it() -> None:
    network = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))
    expected = count(network, torch.zeros(X), backward=True)
    with torch.no_grad():
        assert count(network, torch.zeros(X), backward=True) == expected
    with torch.inference_mode():
        assert count(network, torch.zeros(X), backward=True) == expected


def test_count_without_verification_is_the_same() -> None:
    network = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))
    assert count(network, torch.zeros(X), verify=False) == count(network, torch.zeros(X))


def test_count_loads_fvcore_late_and_passes_with_warnings_as_errors() -> None:
    code = """
import sys
import torch, gaslayers, gaslayers.accounting
assert "fvcore" not in sys.modules
print(gaslayers.count(torch.nn.Conv2d(1, 1, 3, padding="same"), torch.zeros(1, 1, 4, 4)).macs)
assert "fvcore" in sys.modules
"""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "144\n", "")
