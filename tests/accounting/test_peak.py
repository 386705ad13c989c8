"""What a peak is made of, where it is, and what is refused; all without a trace."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
import random
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gaslayers import DownBlock, peak_memory
from gaslayers.accounting import gan_peak_memory
from gaslayers.models import build_discriminator

ADAM = torch.optim.Adam
X = torch.ones(2, 4)


def test_peak_of_a_linear_layer_by_hand() -> None:
    report = peak_memory(nn.Linear(4, 8), X)
    # Weight and bias; the input; their gradients; the output and the loss; the loss's gradient,
    # which the output's is a view of.
    assert report.breakdown == {
        "parameters": 160,
        "buffers": 0,
        "inputs": 32,
        "gradients": 160,
        "optimizer_state": 0,
        "activations": 64 + 4,
        "temporaries": 4,
    }
    assert report.peak == 160 + 32 + 160 + 68 + 4
    assert (report.phase, report.at_module, report.at_operator) == ("backward", "", "aten.sum")
    assert report.steady_state.start == 160 + 32


def test_first_step_makes_the_state_that_later_ones_start_with() -> None:
    report = peak_memory(nn.Linear(4, 8), X, optimizer=partial(torch.optim.SGD, momentum=0.9))
    assert report.first_step.start == 192
    assert report.steady_state.start == 192 + 160
    assert report.breakdown["optimizer_state"] == 160
    plain = peak_memory(nn.Linear(4, 8), X, optimizer=torch.optim.SGD)
    assert plain.breakdown["optimizer_state"] == 0


def test_more_steps_find_a_state_that_keeps_growing(make) -> None:
    def forward(self, x):
        self.kept.append(self.linear(x).detach())
        return self.linear(x)

    module = make(forward, linear=nn.Linear(4, 8))
    module.kept = []
    two, three = (peak_memory(module, X, steps=steps) for steps in (2, 3))
    assert three.steady_state.start - two.steady_state.start == 64
    assert module.kept == []


def test_peak_is_at_the_module_and_operator_that_make_it() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Upsample(scale_factor=64), nn.ReLU()))
    with torch.no_grad():
        report = peak_memory(network.requires_grad_(False), X[:, None])
    assert (report.phase, report.at_module, report.at_operator) == ("forward", "1.1", "aten.relu")
    assert report.breakdown["gradients"] == 0


def test_backward_operators_belong_to_the_modules_whose_they_are() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Tanh(), nn.Linear(4, 512)))
    timeline = peak_memory(network, X).timeline
    rises = [after.live - before.live for before, after in itertools.pairwise(timeline)]
    highest = timeline[1 + rises.index(max(rises))]
    assert highest[:3] == ("aten.mm", "1.1", "backward")
    assert max(rises) == 4 * 512 * 4 + 4 * 2 * 4  # the gradients of the weight and of its input


def test_frozen_module_is_run_forward_alone() -> None:
    report = peak_memory(nn.Linear(4, 8).requires_grad_(False), X)
    assert report.phase == "forward"
    assert "backward" not in {moment.phase for moment in report.timeline}


def test_gradients_are_not_there_when_a_step_begins() -> None:
    module = nn.Linear(4, 8)
    module(X).sum().backward()
    assert peak_memory(module, X).peak == peak_memory(nn.Linear(4, 8), X).peak
    assert module.weight.grad is not None


def test_views_of_one_storage_count_once_and_whole() -> None:
    batch = torch.ones(100, 4)
    assert peak_memory(nn.Linear(4, 8), batch[:2]).breakdown["inputs"] == 1600


def test_labels_in_a_closure_count_as_inputs_and_stay() -> None:
    labels = torch.tensor([1, 0])
    report = peak_memory(nn.Linear(4, 8), X, loss=lambda out: F.cross_entropy(out, labels))
    assert report.breakdown["inputs"] == 32 + 16
    assert type(labels) is torch.Tensor


def test_network_in_a_closure_keeps_its_gradients() -> None:
    critic = nn.Sequential(nn.Linear(8, 3), nn.BatchNorm1d(3))
    before = critic[1].running_mean.clone()
    report = peak_memory(nn.Linear(4, 8), X, loss=lambda out: critic(out).square().sum())
    assert report.breakdown["inputs"] > 32
    assert [parameter.grad for parameter in critic.parameters()] == [None] * 4
    assert torch.equal(critic[1].running_mean, before)
    assert critic[1].num_batches_tracked.item() == 0


def test_loss_that_reads_the_module_reads_the_same_storages(make) -> None:
    module = make(lambda self, x: self.linear(x), linear=nn.Linear(4, 8))
    module.register_buffer("scale", torch.ones(8))
    report = peak_memory(module, X, loss=lambda out: (out * module.scale).sum())
    assert (report.breakdown["buffers"], report.breakdown["inputs"]) == (32, 32)


def test_counter_of_batches_can_be_divided_by() -> None:
    report = peak_memory(nn.BatchNorm1d(4, momentum=None), X)
    assert report.breakdown["buffers"] == 2 * 16 + 8


def test_autocast_around_a_prediction_is_that_of_its_steps() -> None:
    module = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 4))
    x = torch.ones(64, 4)
    full = peak_memory(module, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = peak_memory(module, x)
    assert half.peak < full.peak


def test_compiled_module_counts_as_what_was_compiled() -> None:
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    eager = peak_memory(network, X, optimizer=ADAM)
    assert peak_memory(torch.compile(network, backend="eager"), X, optimizer=ADAM) == eager
    network[0].compile(backend="eager")
    assert peak_memory(network, X, optimizer=ADAM) == eager


def test_optimizer_that_reads_values_is_predicted() -> None:
    report = peak_memory(nn.Linear(4, 8), X, optimizer=torch.optim.Adafactor)
    assert report.breakdown["optimizer_state"] > 0


@pytest.mark.parametrize("size", [1, 128, 129])
def test_allocator_rounds_each_storage_up_to_512_bytes(size) -> None:
    module = nn.Linear(1, size, bias=False)
    report = peak_memory(module, torch.ones(1, 1))
    blocks = -(-size * 4 // 512)
    # Weight, input; gradient; output, loss; the loss's gradient, which the output's is a view of.
    assert report.allocator_start == 512 * (blocks + 1)
    assert report.allocator_peak == 512 * (blocks + 1 + blocks + blocks + 1 + 1)


def test_allocator_peak_has_updates_of_all_parameters_at_once() -> None:
    layers = [nn.Linear(128, 128, bias=False) for _ in range(8)]
    network, x = nn.Sequential(*layers), torch.ones(1, 128)
    weights = 8 * 128 * 128 * 4
    several = peak_memory(network, x, optimizer=ADAM)
    single = peak_memory(network, x, optimizer=partial(ADAM, foreach=False))
    assert several.peak == single.peak
    assert several.allocator_peak - single.allocator_peak > weights // 2
    # Weights, gradients, two moments, and one temporary of all weights.
    assert 5 * weights <= several.allocator_peak < 5 * weights + 50_000
    asked = peak_memory(network, x, optimizer=partial(ADAM, foreach=True))
    assert asked.allocator_peak == several.allocator_peak
    assert asked.peak > several.peak


def test_allocator_leaves_an_optimizers_counters_on_the_host() -> None:
    module, x = nn.Linear(128, 1, bias=False), torch.ones(1, 128)
    start = peak_memory(module, x, optimizer=ADAM).allocator_start
    assert start == 512 * 4  # weight, input, two moments
    capturable = peak_memory(module, x, optimizer=partial(torch.optim.NAdam, capturable=False))
    assert capturable.allocator_start == 512 * 4


def test_timeline_is_the_course_to_the_peak_and_back() -> None:
    report = peak_memory(DownBlock(3, 8), torch.ones(2, 3, 8, 8), optimizer=ADAM)
    live = [moment.live for moment in report.timeline]
    assert max(live) == report.peak
    assert live[0] == live[-1] == report.steady_state.start
    phases = [moment.phase for moment in report.timeline]
    assert sorted(set(phases), key=phases.index) == ["forward", "backward", "optimizer"]


def test_report_travels_and_becomes_plain_data() -> None:
    report = peak_memory(nn.Linear(4, 8), X, optimizer=ADAM)
    with pytest.raises(dataclasses.FrozenInstanceError, match=r"allocator_peak"):
        report.allocator_peak = 0
    assert pickle.loads(pickle.dumps(report)) == report
    data = report.to_dict()
    assert json.loads(report.to_json()) == data
    assert data["steady_state"]["peak"] == report.peak
    assert "timeline" not in data["steady_state"]
    course = report.to_dict(timeline=True)["first_step"]["timeline"]
    assert course[0] == {"operator": "start", "module": "", "phase": "forward", "live": 192}
    assert json.loads(report.to_json(timeline=True))["first_step"]["timeline"] == course


TEXT = """\
Linear, batch of 2: a training step takes 424 bytes (0.00 MiB) of tensors
at its peak in the backward phase, outside of all parts, at aten.sum
CUDA's allocator: 4,096 bytes (0.00 MiB), without workspaces of kernels

bytes at the peak  lives                  first step  steady state
-----------------  ---------------------  ----------  ------------
parameters         always                        160           160
buffers            always                          0             0
inputs             always                         32            32
gradients          backward to update            160           160
optimizer state    from the first update           0             0
activations        forward to backward            68            68
temporaries        between operators               4             4
(all)                                            424           424"""


def test_report_prints() -> None:
    report = peak_memory(nn.Linear(4, 8), X)
    assert str(report) == TEXT
    assert report.to_markdown().splitlines()[-1] == "| `(all)` |  | 424 | 424 |"
    assert report._repr_html_().count("<tr>") == 1 + 8
    assert repr(report).startswith("PeakReport(module='Linear', batch_size=2, peak=424, phase=")
    assert repr(report.steady_state).startswith("StepPeak(peak=424, phase='backward', at_module=''")


def test_timeline_plots_with_its_peak() -> None:
    report = peak_memory(DownBlock(3, 8), torch.ones(2, 3, 8, 8), optimizer=ADAM)
    ax = report.plot()
    (peak,) = [line for line in ax.lines if line.get_marker() == "o"]
    assert peak.get_ydata() == [report.peak / 2**20]
    assert {text.get_text() for text in ax.texts} >= {"backward", "optimizer"}
    assert report.plot(ax) is ax


class Restless(nn.Module):
    """Moves all that a module can move: itself, its input, every random state."""

    def __init__(self, failure: BaseException | None = None) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)
        self.conv = nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 3, padding=1))
        self.drop = nn.Dropout(0.5)
        self.block = DownBlock(4, 4)
        self.calls, self.seen, self.last = 0, [], None
        self.failure = failure
        self.norm.weight.grad = torch.ones(4)
        self.conv.register_forward_hook(lambda module, args, output: output * 1)

    def forward(self, x):
        self.calls += 1
        self.seen.append(self.calls)
        self.extra = torch.rand(1) + random.random()
        x.add_(1.0)
        x = self.conv(self.norm(x))
        self.last = x
        self.train(not self.training)
        if self.failure is not None:
            raise self.failure
        return self.block(self.drop(x))


@pytest.mark.parametrize("used", [False, True])
def test_prediction_leaves_no_trace(take_picture, used) -> None:
    module, x = Restless(), torch.randn(2, 4, 6, 6)
    if used:  # it then holds a tensor with a history
        module(torch.zeros(2, 4, 6, 6))
    peak_memory(nn.Linear(4, 4), X)  # imports are not undone
    before = take_picture(module, x)
    peak_memory(module, x, optimizer=ADAM)
    assert take_picture(module, x) == before


def failing_loss(_out):
    raise KeyError("gone")


class NotAnOptimizer:
    def __init__(self, parameters) -> None:
        self.parameters = list(parameters)


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (KeyError, {"failure": KeyError("gone")}),
        (KeyboardInterrupt, {"failure": KeyboardInterrupt()}),
        (KeyError, {"loss": failing_loss}),
        (ValueError, {"loss": lambda out: out}),
        (ValueError, {"loss": lambda out: out.sum().detach()}),
        (TypeError, {"loss": lambda _: 1.0}),
        (TypeError, {"optimizer": NotAnOptimizer}),
        (ValueError, {"loss": lambda out: out.sum() * out.max().item()}),
    ],
    ids=["forward", "interrupt", "loss", "shape", "detached", "number", "optimizer", "item"],
)
def test_prediction_leaves_no_trace_when_it_fails(take_picture, error, options) -> None:
    module, x = Restless(options.pop("failure", None)), torch.randn(2, 4, 6, 6)
    peak_memory(nn.Linear(4, 4), X)
    before = take_picture(module, x)
    with pytest.raises(error):  # each one's words are tested below
        peak_memory(module, x, **options)
    assert take_picture(module, x) == before
    assert peak_memory(nn.Linear(4, 8), X).peak == 424  # and the next one works


def test_prediction_leaves_the_graph_of_its_inputs() -> None:
    source = torch.randn(2, 4, requires_grad=True)
    generated = source * 2
    peak_memory(nn.Linear(4, 2), generated)
    generated.sum().backward()
    assert torch.equal(source.grad, torch.full_like(source, 2.0))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_prediction_is_the_same_whatever_the_grad_mode_around_it(mode) -> None:
    module = nn.Linear(4, 8)
    with mode():
        assert peak_memory(module, X).peak == 424


def test_prediction_allocates_no_tensor_memory() -> None:
    module = nn.Linear(1000, 1000)
    x = torch.ones(1, 1000).expand(1000, 1000).contiguous()
    with torch.profiler.profile(
        profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]
    ) as profiler:
        peak_memory(module, x, optimizer=ADAM)
    assert sum(max(0, event.self_cpu_memory_usage) for event in profiler.events()) < 100_000


def test_bad_arguments_are_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"peak_memory: `module` must be a torch.nn.Module, got 'n"):
        peak_memory("net", X)
    with pytest.raises(TypeError, match=r"peak_memory: `kwargs` must be a mapping"):
        peak_memory(nn.Linear(4, 8), X, kwargs=[1])
    with pytest.raises(
        TypeError, match=r"peak_memory: `loss` must be a callable or None, got 'mse"
    ):
        peak_memory(nn.Linear(4, 8), X, loss="mse")
    built = ADAM(nn.Linear(1, 1).parameters())
    with pytest.raises(TypeError, match=r"(?s)`optimizer` must be a callable or None, .*Pass what"):
        peak_memory(nn.Linear(4, 8), X, optimizer=built)
    with pytest.raises(
        TypeError, match=r"`optimizer` must make a torch.optim.Optimizer, got <.*Not"
    ):
        peak_memory(nn.Linear(4, 8), X, optimizer=NotAnOptimizer)
    with pytest.raises(ValueError, match=r"`steps` must be >= 1, got 0"):
        peak_memory(nn.Linear(4, 8), X, steps=0)


def test_loss_must_be_a_scalar_that_hangs_on_the_parameters(make) -> None:
    with pytest.raises(ValueError, match=r"`loss` must return a scalar, got \(2, 8\). Reduce it"):
        peak_memory(nn.Linear(4, 8), X, loss=lambda out: out)
    with pytest.raises(TypeError, match=r"`loss` must return a tensor, got 1.0"):
        peak_memory(nn.Linear(4, 8), X, loss=lambda _: 1.0)
    with pytest.raises(ValueError, match=r"`loss` must return what depends on the parameters"):
        peak_memory(nn.Linear(4, 8), X, loss=lambda out: out.sum().detach())
    with pytest.raises(ValueError, match=r"`module` must return floating tensors, got <class 'tor"):
        peak_memory(make(lambda self, x: self.linear(x) > 0, linear=nn.Linear(4, 8)), X)


DATA_DEPENDENT = {
    "branch": (lambda _, x: x * 2 if x.sum() > 0 else x, "_local_scalar_dense"),
    "item": (lambda _, x: x * x.max().item(), "_local_scalar_dense"),
    "mask": (lambda _, x: x[x > 0], "index"),
    "nonzero": (lambda _, x: x.nonzero(), "nonzero"),
}


@pytest.mark.parametrize("kind", DATA_DEPENDENT)
def test_control_flow_that_hangs_on_values_is_refused_by_module(make, kind) -> None:
    function, operator = DATA_DEPENDENT[kind]
    network = nn.Sequential(nn.Linear(4, 4), make(function))
    words = rf"but '1' reads some, got 'aten.{operator}'. No values exist before it runs"
    with pytest.raises(ValueError, match=words) as raised:
        peak_memory(network, X)
    assert raised.value.__cause__ is not None


def test_operator_without_a_fake_implementation_is_refused_by_module(make) -> None:
    @torch.library.custom_op("gaslayers_tests::opaque", mutates_args=())
    def opaque(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    network = nn.Sequential(nn.Identity(), make(lambda _, x: opaque(x)))
    with pytest.raises(ValueError, match=r"but '1' does not, got 'gaslayers_tests.opaque'. Regis"):
        peak_memory(network, X)


def test_what_cannot_be_run_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be initialised, got 'lazy weight'"):
        peak_memory(nn.LazyLinear(4), X)
    with pytest.raises(ValueError, match=r"must be run on tensors that hold values, got 'meta'"):
        peak_memory(nn.Linear(4, 4, device="meta"), X)
    with pytest.raises(RuntimeError, match=r"\[2, 5\]"):
        peak_memory(nn.Linear(4, 4), torch.ones(2, 5))
    held = nn.Linear(4, 4)
    held.stream = (value for value in ())
    with pytest.raises(TypeError, match=r"must be one that can be copied, got 'stream'"):
        peak_memory(held, X)


LOSSES = {
    "discriminator_loss": lambda real, fake: (real - 1).square().mean() + fake.square().mean(),
    "generator_loss": lambda fake: (fake - 1).square().mean(),
}


def test_pair_shares_one_memory_and_takes_no_graph_through_the_generator() -> None:
    discriminator, generator = nn.Linear(8, 1), nn.Sequential(nn.Linear(2, 32), nn.Linear(32, 8))
    report = gan_peak_memory(
        discriminator, generator, torch.ones(4, 8), torch.ones(4, 2), optimizer=ADAM, **LOSSES
    )
    weights = sum(p.nbytes for net in (discriminator, generator) for p in net.parameters())
    d_step, g_step = report.discriminator_step, report.generator_step
    for step in (d_step, g_step):
        assert step.breakdown["parameters"] == weights
        assert step.breakdown["optimizer_state"] == 2 * weights + 4 * 6
        assert step.breakdown["inputs"] == 4 * 8 * 4 + 4 * 2 * 4
    # Of the discriminator alone: the fake images, two batches of scores and the loss.
    at_the_end = [m for m in d_step.timeline if m.phase == "backward"]
    assert d_step.steady_state.breakdown["gradients"] <= 9 * 4
    assert at_the_end
    assert g_step.steady_state.breakdown["gradients"] <= (2 * 32 + 32 + 32 * 8 + 8) * 4
    assert d_step.module == "Linear and Sequential, D step"
    assert set(report.to_dict()) == {"discriminator_step", "generator_step"}
    assert json.loads(report.to_json()) == report.to_dict()
    assert str(report).count("CUDA's allocator") == 2
    assert report._repr_html_().count("<table>") == 2
    assert report.allocator_peak == max(d_step.allocator_peak, g_step.allocator_peak)
    assert all(p.requires_grad and p.grad is None for p in discriminator.parameters())


def test_pair_hands_labels_on_with_generated_images(make) -> None:
    scores = make(lambda self, x, y: self.net(x) * y, net=nn.Linear(8, 1))
    data = (torch.ones(4, 8), torch.ones(4, 1))
    report = gan_peak_memory(scores, nn.Linear(2, 8), data, torch.ones(4, 2), **LOSSES)
    assert report.generator_step.breakdown["inputs"] == 4 * 8 * 4 + 4 * 4 + 4 * 2 * 4


def test_pair_refuses_bad_arguments() -> None:
    networks = (nn.Linear(8, 1), nn.Linear(2, 8), torch.ones(4, 8), torch.ones(4, 2))
    with pytest.raises(TypeError, match=r"`generator_loss` must be a callable, got None"):
        gan_peak_memory(*networks, **LOSSES | {"generator_loss": None})
    with pytest.raises(TypeError, match=r"gan_peak_memory: `module` must be a torch.nn.Module"):
        gan_peak_memory("d", *networks[1:], **LOSSES)


def test_lean_blocks_stay_lean_in_a_prediction() -> None:
    x = torch.zeros(32, 1, 28, 28)
    lean, plain = (
        peak_memory(build_discriminator("original", variant="modern", memory_efficient=lean), x)
        for lean in (True, False)
    )
    assert lean.peak < 0.8 * plain.peak
