"""A ten-digit MNIST folder that load_digits takes for the real one."""

from __future__ import annotations

import gzip
import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gaslayers.study.data import digits as module
from gaslayers.study.data.verification import ExpectedFile


@dataclass(frozen=True)
class SmallMNIST:
    root: Path
    images: Tensor
    labels: Tensor

    @property
    def raw(self) -> Path:
        return self.root / "MNIST" / "raw"

    @property
    def image_file(self) -> Path:
        return self.raw / "train-images-idx3-ubyte"

    @property
    def label_file(self) -> Path:
        return self.raw / "train-labels-idx1-ubyte"

    def pack(self) -> dict[str, str]:
        """Replace the files by their .gz archives; MD5 by archive name."""
        sums = {}
        for path in (self.image_file, self.label_file):
            archive = path.with_name(f"{path.name}.gz")
            archive.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
            path.unlink()
            sums[archive.name] = hashlib.md5(archive.read_bytes()).hexdigest()
        return sums


@pytest.fixture
def small_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallMNIST:
    images = torch.randint(256, (10, 28, 28), generator=torch.Generator().manual_seed(0))
    small = SmallMNIST(tmp_path / "mnist", images.to(torch.uint8), torch.arange(10).flip(0))
    contents = {
        "TRAINING_IMAGES": (
            small.image_file,
            struct.pack(">4i", 0x803, 10, 28, 28) + small.images.numpy().tobytes(),
        ),
        "TRAINING_LABELS": (
            small.label_file,
            struct.pack(">2i", 0x801, 10) + bytes(small.labels.tolist()),
        ),
    }
    small.raw.mkdir(parents=True)
    for constant, (path, content) in contents.items():
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        monkeypatch.setattr(module, constant, ExpectedFile(path.name, len(content), digest))
    return small
