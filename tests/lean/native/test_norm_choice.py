"""When the batch-norm kernels run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from gaslayers.lean.batch_norm import BatchNormCall
from gaslayers.lean.native import availability, norm_choice
from gaslayers.lean.native.norm_call import suits
from tests.lean.native.maps import LAST, slice_of_wider
from tests.lean.native.needs import CAPABILITIES, needs_norm_kernels

pytestmark = needs_norm_kernels


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_each_library_rounds_as_pytorch_does_on_its_processor(capability: str) -> None:
    script = """
import torch
from gaslayers.lean.native import norm_choice
raise SystemExit(not norm_choice.take(torch.zeros(1), ()))
"""
    environment = os.environ | {"ATEN_CPU_CAPABILITY": capability.lower()}
    run = [sys.executable, "-c", script]
    assert subprocess.run(run, env=environment, check=False).returncode == 0


def test_where_pytorch_rounds_otherwise_nothing_is_taken(monkeypatch) -> None:
    assert norm_choice.take(torch.zeros(1), ())
    norm_choice.are_exact.cache_clear()
    original = torch.native_batch_norm

    def otherwise(*args):
        y, *moments = original(*args)
        return torch.nextafter(y, y + 1), *moments

    monkeypatch.setattr(torch, "native_batch_norm", otherwise)
    assert not norm_choice.take(torch.zeros(1), ())
    norm_choice.are_exact.cache_clear()


def test_the_first_question_may_come_among_fake_tensors() -> None:
    norm_choice.are_exact.cache_clear()
    with FakeTensorMode():
        assert norm_choice.take(torch.zeros(1), ())
    with torch.device("meta"):
        norm_choice.are_exact.cache_clear()
        assert norm_choice.take(torch.zeros(1, device="cpu"), ())


def test_what_the_kernels_do_not_take() -> None:
    x = torch.zeros(2, 8, 4, 4).contiguous(memory_format=LAST)
    assert suits(x)
    assert suits(slice_of_wider(x))
    assert not suits(x.contiguous())
    assert not suits(x[:, :1])
    assert not suits(x[:, :, ::2])
    assert not suits(x[:, :, :1, :1])
    assert not suits(x[:1, :, :2, :1]) or torch.get_num_threads() < 2
    assert norm_choice.take(x, [torch.zeros(8), None])
    assert not norm_choice.take(x, [torch.zeros(8, dtype=torch.float64)])
    assert not norm_choice.take(x, [torch.zeros(16)[::2]])
    assert not norm_choice.take(x, [torch.zeros(8).as_subclass(type("Tagged", (Tensor,), {}))])
    call = BatchNormCall(None, None, None, None, training=True, momentum=0.1, eps=1e-5)
    assert norm_choice.take_call(x, call)
    assert not norm_choice.take_call(slice_of_wider(x), call)
    with availability.switched_off():
        assert not norm_choice.take_call(x, call)


def test_how_many_pixels_they_ask_for() -> None:
    x = torch.zeros(8, 8, 2, 2).contiguous(memory_format=LAST)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert not suits(x[:1])
        assert suits(x[:2])
        torch.set_num_threads(1)
        assert suits(x[:1])
        assert not suits(x[:, :, :1, :1])  # whatever there are of them
    finally:
        torch.set_num_threads(before)
