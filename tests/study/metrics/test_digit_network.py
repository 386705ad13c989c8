from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from gaslayers.study.data import load_digits
from gaslayers.study.metrics import DigitNetwork, digit_network, load_digit_network

TOOL = Path(__file__).parents[3] / "tools" / "train_digit_features.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("train_digit_features", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_weights_are_small_and_know_what_they_are():
    assert digit_network.WEIGHTS_PATH.stat().st_size <= 500_000
    with safe_open(digit_network.WEIGHTS_PATH, "pt") as file:
        facts = json.loads(file.metadata()["facts"])
    assert facts["test_accuracy"] >= 0.99
    assert facts["trained_on"] == "MNIST training digits 10000 to 59999"


def test_network_tells_digits_that_it_was_not_trained_on(described, labels):
    right = described.logits.argmax(1) == labels
    assert right.double().mean() >= 0.99


def test_features_are_64_and_frozen(network):
    features = network(torch.rand(3, 1, 28, 28))
    assert features.shape == (3, 64)
    assert not features.requires_grad
    assert not network.training


def test_other_sizes_are_resized(network):
    image = load_digits().images[:1].unsqueeze(1).float() / 255.0
    large = torch.nn.functional.interpolate(image, (84, 84), mode="bilinear")
    small = network(image)
    assert (network(large) - small).norm() < 0.3 * small.norm()


def test_features_of_an_image_do_not_depend_on_its_batch(network, images):
    torch.testing.assert_close(network(images[:8])[3:4], network(images[3:4]))


def test_damaged_weights_are_not_read(tmp_path, monkeypatch):
    damaged = tmp_path / "weights"
    content = bytearray(digit_network.WEIGHTS_PATH.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    monkeypatch.setattr(digit_network, "WEIGHTS_PATH", damaged)
    digit_network._load.cache_clear()
    try:
        with pytest.raises(ValueError, match=r"load_digit_network: .*SHA-256.*Reinstall"):
            load_digit_network()
    finally:
        digit_network._load.cache_clear()


def test_network_is_a_new_one_for_each_call():
    spoilt = load_digit_network()
    with torch.no_grad():
        spoilt.head.weight.zero_()
    spoilt.train()
    fresh = load_digit_network()
    assert not fresh.training
    assert bool(fresh.head.weight.any())


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.rand(2, 3, 28, 28), ValueError, r"expected input of shape \(N, 1, H, W\)"),
        (torch.rand(2, 1, 28, 28) * 255, ValueError, r"have values in \[0, 1\]"),
        (torch.full((2, 1, 28, 28), float("nan")), ValueError, r"have values in \[0, 1\]"),
        (torch.ones(2, 1, 28, 28, dtype=torch.uint8), TypeError, "floating-point tensor"),
    ],
)
def test_network_says_what_is_wrong(network, images, error, message):
    with pytest.raises(error, match=message):
        network(images)


def test_tool_learns_and_measures(tool):
    digits = load_digits()
    network = tool.train(digits.images[:300], digits.labels[:300], epochs=14)
    assert isinstance(network, DigitNetwork)
    accuracy = tool.measure_accuracy(network, digits.images[500:1000], digits.labels[500:1000])
    assert accuracy > 0.4  # of ten classes


def test_tool_keeps_the_weights_of_a_poor_network_from_the_package(tool, monkeypatch, tmp_path):
    digits = load_digits()
    monkeypatch.setattr(tool, "load_digits", lambda root: digits)
    monkeypatch.setattr(tool, "load_test_digits", lambda root: (digits.images, digits.labels))
    monkeypatch.setattr(tool, "train", lambda *_, epochs: DigitNetwork().eval())
    monkeypatch.setattr(tool, "measure_accuracy", lambda *_: 0.5)
    output = tmp_path / "weights"
    assert tool.main(["root", "--output", str(output)]) == 1
    assert not output.exists()
    monkeypatch.setattr(tool, "measure_accuracy", lambda *_: 0.995)
    assert tool.main(["root", "--output", str(output)]) == 1  # not the expected weights
    assert output.stat().st_size == digit_network.WEIGHTS.size


def test_tool_wants_the_test_digits(tool, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train_digit_features: .*t10k-images"):
        tool.load_test_digits(tmp_path)
