"""Recurrent layers: predicted where PyTorch's operators run them, refused where a library does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn.modules import module as modules
from torch.nn.utils.rnn import PackedSequence

from gaslayers import peak_memory
from gaslayers.accounting._recurrent import _library
from tests.accounting.watch import real_peak

X = torch.randn(3, 7, 16)
WORDS = (
    r"peak_memory: `module` must keep tensors of known sizes alone, but the LSTM '1' has a "
    r"library's own workspace, got 'oneDNN'. Predict and train within torch.backends.mkldnn.flags"
)


@pytest.fixture
def _without_onednn() -> Iterator[None]:
    enabled = torch._C._get_mkldnn_enabled()  # the public switch warns
    torch._C._set_mkldnn_enabled(False)
    yield
    torch._C._set_mkldnn_enabled(enabled)


class Scored(nn.Module):
    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.LazyLinear(1)
        self.head(layer(X)[0])

    def forward(self, x):
        return self.head(self.layer(x)[0])


OPTIONS = [
    {"batch_first": batch_first, "bidirectional": bidirectional, "num_layers": layers}
    for batch_first in (False, True)
    for bidirectional in (False, True)
    for layers in (1, 2)
]
PLAIN = [{"bias": False}, {"num_layers": 2, "dropout": 0.3}]


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("options", [*OPTIONS, *PLAIN], ids=str)
@pytest.mark.parametrize("kind", [nn.GRU, nn.RNN])
def test_peak_of_a_layer_that_pytorch_runs_is_real(kind, options, gradient) -> None:
    network, x = Scored(kind(16, 12, **options)), X.clone().requires_grad_(gradient)
    assert peak_memory(network, x).peak == real_peak(network, (x,))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="what is refused is oneDNN")
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("options", [*OPTIONS, *PLAIN], ids=str)
def test_lstm_that_onednn_runs_is_refused_by_name(options, frozen) -> None:
    network = nn.Sequential(nn.Identity(), nn.LSTM(16, 12, **options)).requires_grad_(not frozen)
    hooks = list(modules._global_forward_pre_hooks)
    with pytest.raises(ValueError, match=WORDS):
        peak_memory(network, X)
    assert list(modules._global_forward_pre_hooks) == hooks


@pytest.mark.usefixtures("_without_onednn")
@pytest.mark.parametrize("options", [*OPTIONS, *PLAIN], ids=str)
def test_peak_of_an_lstm_without_onednn_is_real(options) -> None:
    network = Scored(nn.LSTM(16, 12, **options))
    assert peak_memory(network, X).peak == real_peak(network, (X,))


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported:UserWarning")
@pytest.mark.parametrize("options", [{"proj_size": 5}, {"dtype": torch.float64}], ids=str)
def test_peak_of_an_lstm_that_onednn_does_not_know_is_real(options) -> None:
    layer, x = nn.LSTM(16, 12, **options), X.to(options.get("dtype", torch.float32))
    assert peak_memory(layer, x).peak == real_peak(layer, (x,))


def test_lstm_of_a_packed_sequence_is_none_of_onednns() -> None:
    packed = nn.utils.rnn.pack_padded_sequence(X, [3, 3, 2, 2, 1, 1, 1])
    assert _library(nn.LSTM(16, 12), (packed,)) is None
    assert isinstance(packed, PackedSequence)


def test_lstm_in_a_loss_is_refused_too() -> None:
    critic = nn.LSTM(16, 12)
    with pytest.raises(ValueError, match=r"but the LSTM 'LSTM' has a library's own workspace"):
        peak_memory(nn.Linear(16, 16), X, loss=lambda out: critic(out)[0].sum())


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_cudnn_is_named_for_every_recurrent_layer_on_cuda(kind, monkeypatch) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        layer = kind(4, 4)
        layer._parameters["weight_ih_l0"] = nn.Parameter(torch.empty(4, 4, device="cuda"))
    assert _library(layer, ())[0] == "cuDNN"
    monkeypatch.setattr(torch.backends.cudnn, "enabled", False)
    assert _library(layer, ()) is None
