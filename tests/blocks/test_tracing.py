"""`torch.fx`, torchvision's feature extractor and `torch.jit.trace` on every block."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from gaslayers import ConvNormAct
from tests.blocks.catalogue import CATALOGUE

EXACT = {"rtol": 0, "atol": 0}


def build(name: str) -> nn.Module:
    return CATALOGUE[name].factory(in_channels=3).eval()


@pytest.mark.parametrize("name", CATALOGUE)
def test_symbolic_trace_computes_what_the_plain_composition_computes(name: str) -> None:
    block = build(name)
    traced = torch.fx.symbolic_trace(block)
    plain = copy.deepcopy(block)
    for module in plain.modules():
        if hasattr(module, "memory_efficient"):
            module.memory_efficient = False
    for size in ((8, 8), (7, 6)):
        x = torch.randn(2, 3, *size)
        torch.testing.assert_close(traced(x), plain(x), **EXACT)


@pytest.mark.parametrize("name", CATALOGUE)
def test_symbolic_trace_in_training_gives_the_same_gradients_and_statistics(name: str) -> None:
    block = build(name).double().train()
    if "dropout" in name:
        block.layers[0].dropout.eval()
    traced = torch.fx.symbolic_trace(copy.deepcopy(block))
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    for module in (block, traced):
        module(x).square().sum().backward()
    for key, parameter in block.named_parameters():
        torch.testing.assert_close(traced.get_parameter(key).grad, parameter.grad)
    for key, buffer in block.named_buffers():
        torch.testing.assert_close(traced.get_buffer(key), buffer)


@pytest.mark.parametrize("name", CATALOGUE)
def test_feature_extractor_takes_every_layer_of_a_block(name: str) -> None:
    block = build(name)
    _, nodes = get_graph_node_names(block)
    extractor = create_feature_extractor(block, return_nodes=[nodes[1], nodes[-1]])
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(extractor(x)[nodes[-1]], block(x))


# `torch.nn.GroupNorm` itself decides by a size.
@pytest.mark.parametrize("name", [name for name in CATALOGUE if name != "conv_act_norm"])
def test_jit_trace_records_no_size_of_the_example(name: str) -> None:
    block = build(name)
    with warnings.catch_warnings():
        # Deprecated as a whole; a size that a trace fixes is another warning, and an error here.
        warnings.filterwarnings("ignore", message="`torch.jit", category=DeprecationWarning)
        traced = torch.jit.trace(block, torch.randn(2, 3, 8, 8))
    for size in ((8, 8), (7, 6)):
        x = torch.randn(2, 3, *size)
        torch.testing.assert_close(traced(x), block(x))


@pytest.mark.parametrize("size", [(8, 8), (7, 8), (9, 9)])
def test_export_with_free_sides_takes_a_kernel_of_even_side(size: tuple[int, int]) -> None:
    unit = ConvNormAct(3, 4, kernel_size=4, stride=2).eval()
    sides = {2: torch.export.Dim("height", min=4), 3: torch.export.Dim("width", min=4)}
    example = torch.randn(2, 3, 10, 10)
    program = torch.export.export(unit, (example,), dynamic_shapes={"x": sides})
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(program.module()(x), unit(x))
