"""Train the network whose features the metrics compare digits by.

    python tools/train_digit_features.py ROOT

ROOT is an MNIST folder in torchvision's layout. The network is trained on training digits 10,000 to
59,999: the first 10,000 are embedded in the package, and the metrics compare with them. The test
digits are read once, at the end, for the accuracy. One thread, so that the same release of PyTorch
on the same kind of processor gives the same weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torchvision.datasets.mnist import read_image_file, read_label_file

from gaslayers.study.data import load_digits
from gaslayers.study.data.verification import ExpectedFile, verify_file
from gaslayers.study.metrics.digit_network import WEIGHTS, WEIGHTS_PATH, DigitNetwork

FIRST = 10_000
"""The digits before it are those in the package."""
BATCH_SIZE = 125
LEAST_ACCURACY = 0.99

TEST_IMAGES = ExpectedFile(
    "t10k-images-idx3-ubyte",
    7_840_016,
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
)
TEST_LABELS = ExpectedFile(
    "t10k-labels-idx1-ubyte",
    10_008,
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)


def load_test_digits(root: Path) -> tuple[Tensor, Tensor]:
    """(10000, 28, 28) grey values and (10000,) labels, verified."""
    raw = root / "MNIST" / "raw"
    for expected in (TEST_IMAGES, TEST_LABELS):
        remedy = "Give the folder that holds MNIST/raw."
        verify_file(raw / expected.name, expected, owner="train_digit_features", remedy=remedy)
    return (
        read_image_file(str(raw / TEST_IMAGES.name)),
        read_label_file(str(raw / TEST_LABELS.name)),
    )


def to_pixels(images: Tensor) -> Tensor:
    """(N, 28, 28) grey values -> (N, 1, 28, 28) in [0, 1]."""
    return images.unsqueeze(1).float() / 255.0


def distort(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, scale, shear and shift each image a little, at random."""
    count = len(images)
    change = torch.rand(count, 2, 3, generator=generator) * 2.0 - 1.0
    change *= torch.tensor([[0.15, 0.2, 0.15], [0.2, 0.15, 0.15]])
    change[:, 0, 0] += 1.0
    change[:, 1, 1] += 1.0
    grid = nn.functional.affine_grid(change, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False).clamp_(0.0, 1.0)


def train(images: Tensor, labels: Tensor, *, epochs: int) -> DigitNetwork:
    """Train on (N, 28, 28) grey values, by Adam under one cycle of the learning rate."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    network = DigitNetwork().to(memory_format=torch.channels_last)
    batches = len(images) // BATCH_SIZE
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=6e-3, total_steps=epochs * batches
    )
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        total = 0.0
        for batch in order.split(BATCH_SIZE)[:batches]:
            x = distort(to_pixels(images[batch]), generator)
            logits = network.classify(network(x.contiguous(memory_format=torch.channels_last)))
            loss = nn.functional.cross_entropy(logits, labels[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        sys.stdout.write(f"epoch {epoch + 1} of {epochs}: loss {total / batches:.4f}\n")
        sys.stdout.flush()
    return network.to(memory_format=torch.contiguous_format).eval()


@torch.no_grad()
def measure_accuracy(network: DigitNetwork, images: Tensor, labels: Tensor) -> float:
    """The share of digits that get their own label."""
    right = 0
    for some, wanted in zip(images.split(500), labels.split(500), strict=True):
        right += int((network.classify(network(to_pixels(some))).argmax(1) == wanted).sum())
    return right / len(images)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file; 1 where it is not the one that the package expects."""
    parser = argparse.ArgumentParser(description="Train the features of the metrics.")
    parser.add_argument("root", type=Path, help="folder that holds MNIST/raw")
    parser.add_argument("--output", type=Path, default=WEIGHTS_PATH, help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=8, help="default: %(default)s")
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)
    digits, test = load_digits(options.root), load_test_digits(options.root)
    network = train(digits.images[FIRST:], digits.labels[FIRST:], epochs=options.epochs)
    accuracy = measure_accuracy(network, *test)
    accuracy_embedded = measure_accuracy(network, digits.images[:FIRST], digits.labels[:FIRST])
    sys.stdout.write(
        f"accuracy: {accuracy:.4%} of test, {accuracy_embedded:.4%} of embedded digits\n"
    )
    if accuracy < LEAST_ACCURACY:
        sys.stderr.write(f"At least {LEAST_ACCURACY:.0%} of the test digits are to be right.\n")
        return 1
    facts = {
        "trained_on": f"MNIST training digits {FIRST} to {len(digits) - 1}",
        "epochs": options.epochs,
        "test_accuracy": round(accuracy, 4),
        "embedded_accuracy": round(accuracy_embedded, 4),
    }
    # One entry: the file format keeps no order among several.
    content = save(network.state_dict(), metadata={"facts": json.dumps(facts)})
    options.output.write_bytes(content)
    found = (len(content), hashlib.sha256(content).hexdigest())
    sys.stdout.write(f"{options.output}: {found[0]} bytes, SHA-256 {found[1]}\n")
    if found != (WEIGHTS.size, WEIGHTS.sha256):
        sys.stderr.write(
            f"gaslayers expects {WEIGHTS.size} bytes, SHA-256 {WEIGHTS.sha256}. Another PyTorch or "
            "processor rounds otherwise; to ship this file, change WEIGHTS in "
            "gaslayers/study/metrics/digit_network.py.\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
