"""Counts of layers and products with closed forms of their own; both engines agree on each."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gaslayers import count

T, N, C, H = 5, 3, 4, 6  # steps, samples, features, hidden features
GATES = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}
CELLS = {nn.LSTMCell: 4, nn.GRUCell: 3, nn.RNNCell: 1}
STEP_FLOPS = {4: 13, 3: 10, 1: 2}


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", GATES)
def test_count_of_a_recurrent_layer(kind, layers, bidirectional) -> None:
    layer = kind(C, H, layers, bidirectional=bidirectional)
    directions, gates = 1 + bidirectional, GATES[kind]
    inputs = [C, *[directions * H] * (layers - 1)]
    macs = sum(T * N * directions * gates * H * (size + H) for size in inputs)
    report = count(layer, torch.zeros(T, N, C))
    assert (report.macs, report.unsupported) == (macs, {})
    assert report.flops == 2 * macs + STEP_FLOPS[gates] * T * N * H * layers * directions
    assert report.activations == T * N * H * directions


def test_count_of_recurrent_layers_follows_their_options() -> None:
    x = torch.zeros(N, T, C)
    macs = T * N * 4 * H * (C + H)
    assert count(nn.LSTM(C, H, batch_first=True), x).macs == macs
    assert count(nn.LSTM(C, H, bias=False, batch_first=True), x).macs == macs
    assert count(nn.LSTM(C, H), x[0]).macs == macs // N  # without a batch
    projected = count(nn.LSTM(C, H, proj_size=2, batch_first=True), x)
    assert projected.macs == T * N * (4 * H * (C + 2) + 2 * H)
    dropped = nn.LSTM(C, H, 2, dropout=0.5, batch_first=True)
    extra = count(dropped, x).flops - count(dropped.eval(), x).flops
    assert extra == T * N * H
    assert count(nn.RNN(C, H, nonlinearity="relu"), x).macs == T * N * H * (C + H)


@pytest.mark.parametrize("kind", GATES)
def test_backward_of_a_recurrent_layer(kind) -> None:
    report = count(kind(C, H), torch.zeros(T, N, C, requires_grad=True), backward=True)
    # The first state is a constant, which asks for no gradient.
    assert report.backward_macs == 2 * report.macs - N * GATES[kind] * H * H


@pytest.mark.parametrize("kind", CELLS)
def test_count_of_a_recurrent_cell(kind) -> None:
    report = count(kind(C, H), torch.zeros(N, C))
    macs = N * CELLS[kind] * H * (C + H)
    assert (report.macs, report.unsupported) == (macs, {})
    assert report.flops == 2 * macs + STEP_FLOPS[CELLS[kind]] * N * H


def test_counting_a_recurrent_layer_puts_libraries_back(make) -> None:
    def fail(*_args):
        raise KeyError("gone")

    before = torch._C._get_mkldnn_enabled(), torch._C._get_cudnn_enabled()
    count(nn.LSTM(C, H), torch.zeros(T, N, C))
    assert (torch._C._get_mkldnn_enabled(), torch._C._get_cudnn_enabled()) == before
    with pytest.raises(KeyError, match=r"gone"):
        count(make(fail, layer=nn.LSTM(C, H)), torch.zeros(T, N, C))
    assert (torch._C._get_mkldnn_enabled(), torch._C._get_cudnn_enabled()) == before


@pytest.mark.parametrize(
    ("function", "shapes", "macs"),
    [
        (partial(torch.tensordot, dims=([1, 2], [0, 1])), [(2, 3, 4), (3, 4, 5)], 2 * 12 * 5),
        (partial(torch.tensordot, dims=([-1], [1])), [(2, 3, 4), (5, 4)], 2 * 3 * 4 * 5),
        (partial(torch.tensordot, dims=1), [(2, 3), (3, 4)], 2 * 3 * 4),
        (partial(torch.tensordot, dims=([1], [0])), [(2, 1), (3, 4)], 2 * 4),  # summed before
        (torch.inner, [(2, 3), (4, 3)], 2 * 4 * 3),
        (torch.inner, [(2, 5, 3), (3,)], 2 * 5 * 3),
        (torch.inner, [(3,), (3,)], 3),
        (torch.inner, [(2, 3), ()], 0),
        (torch.outer, [(3,), (4,)], 0),
        (torch.linalg.matmul, [(2, 3), (3, 5)], 2 * 3 * 5),
        (partial(torch.einsum, "bi,bj,bk->ijk"), [(3, 4)] * 3, 3 * 4 * 4 * 4),
    ],
)
def test_count_of_a_product(make, function, shapes, macs) -> None:
    report = count(make(lambda _, *x: function(*x)), tuple(map(torch.zeros, shapes)))
    assert (report.macs, report.unsupported) == (macs, {})


COMPLEX = {
    "matrices": (torch.mm, [(2, 3), (3, 5)], 30),
    "batches": (torch.matmul, [(7, 2, 3), (3, 5)], 210),
    "sum": (torch.baddbmm, [(7, 2, 5), (7, 2, 3), (7, 3, 5)], 210),
    "vector": (torch.mv, [(2, 3), (3,)], 6),
    "dot": (torch.vdot, [(3,), (3,)], 3),
    "einsum": (partial(torch.einsum, "ij,jk->ik"), [(2, 3), (3, 5)], 30),
    "tensordot": (partial(torch.tensordot, dims=1), [(2, 3), (3, 5)], 30),
    "inner": (torch.inner, [(2, 3), (4, 3)], 24),
    "linear": (F.linear, [(2, 3), (5, 3), (5,)], 30),
}


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_multiply_add_is_four_real_ones(make, name) -> None:
    function, shapes, macs = COMPLEX[name]
    inputs = tuple(torch.zeros(shape, dtype=torch.complex64) for shape in shapes)
    assert count(make(lambda _, *x: function(*x)), inputs).macs == 4 * macs


def test_count_of_an_rms_norm() -> None:
    x = torch.zeros(2, 4, 8)
    assert count(nn.RMSNorm(8), x).flops == 4 * 64
    assert count(nn.RMSNorm(8, elementwise_affine=False), x).flops == 3 * 64


def test_count_of_a_fold_is_its_sums() -> None:
    report = count(nn.Fold((4, 4), 2, stride=2), torch.zeros(1, 8, 4))
    assert (report.flops, report.unsupported) == (32, {})


class Annotated(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x):
        with torch.profiler.record_function("outer"), torch.profiler.record_function("inner"):
            return self.layer(x)


@pytest.mark.parametrize("wrap", [Annotated, nn.DataParallel])
def test_annotations_and_wrappers_inside_are_no_operators(wrap) -> None:
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    wrapped, x = nn.Sequential(wrap(nn.Conv2d(3, 8, 3)), nn.ReLU()), torch.zeros(2, 3, 8, 8)
    report, expected = (count(network, x, backward=True) for network in (wrapped, plain))
    assert (report.macs, report.flops, report.unsupported) == (expected.macs, expected.flops, {})
    assert report.backward_macs == expected.backward_macs


class Branch(nn.Module):
    """A parent that runs a part twice, or as often as it is told."""

    def __init__(self, part: nn.Module, times: int) -> None:
        super().__init__()
        self.part, self.times = part, times

    def forward(self, x):
        for _ in range(self.times):
            x = self.part(x)
        return x


def test_shared_module_shows_its_share_under_each_parent() -> None:
    shared = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    network = nn.Sequential(Branch(shared, 1), nn.Tanh(), Branch(shared, 2))
    report = count(network, torch.zeros(2, 4, requires_grad=True), backward=True)
    macs = {name: entry.macs for name, entry in report.by_module.items() if entry.macs}
    under = {"0": 32, "0.part": 32, "0.part.0": 32} | {"2": 64, "2.part": 64, "2.part.0": 64}
    assert macs == {"": 96} | under
    assert report.by_module["2"].backward_macs == 2 * 64
    assert (report.params, report.by_module["2"].params) == (20, 20)
    assert report.uncalled == ()


def test_shared_module_that_one_parent_leaves_alone_is_the_others() -> None:
    shared = nn.Linear(4, 4)
    report = count(nn.Sequential(Branch(shared, 0), Branch(shared, 1)), torch.zeros(2, 4))
    assert (report.by_module["0.part"].macs, report.by_module["1.part"].macs) == (0, 32)
    assert (report.by_module["0"].macs, report.uncalled) == (0, ())
