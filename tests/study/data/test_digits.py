from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from gaslayers.study.data import digits as module
from gaslayers.study.data import load_digits

# Records name their data by these; they change only with the digits themselves.
EMBEDDED_CONTENT = "2e49afdffc567fd5f9f306a04e2bafced2432146ae04f4b9a58b25505ba05b2e"
TRAINING_CONTENT = "edc0d1098aa497be14ace79ddd5171e5a3dcf9c4d196c015389203eb3ba1f59b"
# Digits per class in the first 10,000, as counted in MNIST's own label file.
EMBEDDED_CLASS_COUNTS = [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]
MAXIMUM_ASSET_BYTES = 2_000_000


@pytest.fixture(scope="module")
def embedded():
    return load_digits()


def test_load_digits_gives_embedded_digits_by_default(embedded):
    assert embedded.images.shape == (10_000, 28, 28)
    assert embedded.images.dtype == torch.uint8
    assert embedded.labels.shape == (10_000,)
    assert embedded.labels.dtype == torch.int64
    assert embedded.source == "embedded"
    assert embedded.sha256 == EMBEDDED_CONTENT
    assert len(embedded) == 10_000


def test_embedded_digits_start_like_the_training_file(embedded):
    # The first ten labels of MNIST, known from any tutorial.
    assert embedded.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert embedded.labels.bincount().tolist() == EMBEDDED_CLASS_COUNTS


def test_embedded_digits_are_pictures_with_ink_and_background(embedded):
    assert embedded.images.flatten(1).amax(1).min() > 128
    assert (embedded.images[:, 0, 0] == 0).all()


def test_digits_hash_covers_images_then_labels(embedded):
    content = embedded.images.numpy().tobytes() + bytes(embedded.labels.tolist())
    assert embedded.sha256 == hashlib.sha256(content).hexdigest()


def test_loads_share_no_memory(embedded):
    again = load_digits()
    again.images.zero_()
    assert embedded.images.any()


def test_digits_compare_by_content(embedded):
    again = load_digits()
    assert again == embedded
    assert hash(again) == hash(embedded)
    assert dataclasses.replace(again, sha256="another") != embedded


def test_digits_are_frozen_and_print_in_one_line(embedded):
    assert repr(embedded) == f"Digits(source='embedded', sha256='{EMBEDDED_CONTENT}')"
    with pytest.raises(dataclasses.FrozenInstanceError, match="source"):
        embedded.source = "mnist"


def test_asset_stays_small_and_carries_its_licence():
    assert module.EMBEDDED_PATH.stat().st_size <= MAXIMUM_ASSET_BYTES
    note = module.EMBEDDED_PATH.with_name("SOURCE.md").read_text(encoding="utf-8")
    assert module.EMBEDDED_PATH.name in note
    assert "CC BY-SA 3.0" in note
    assert "Yann LeCun, Corinna Cortes and Christopher J.C. Burges" in note


def test_embedded_digits_need_no_torchvision():
    code = (
        "import sys; from gaslayers.study.data import load_digits; load_digits(); "
        "sys.exit('torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda content: content[:1000], r"got 1000 bytes \(truncated\)"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "got SHA-256 [0-9a-f]{64}"),
    ],
    ids=["truncated", "one bit flipped"],
)
def test_load_digits_refuses_spoilt_asset(tmp_path, monkeypatch, spoil, found):
    spoilt = tmp_path / module.EMBEDDED.name
    spoilt.write_bytes(spoil(module.EMBEDDED_PATH.read_bytes()))
    monkeypatch.setattr(module, "EMBEDDED_PATH", spoilt)
    match = (
        f"{re.escape(str(spoilt))}` must be a file of 1646432 bytes "
        f"with SHA-256 {module.EMBEDDED.sha256}, {found}. Reinstall gaslayers"
    )
    with pytest.raises(ValueError, match=match):
        load_digits()


def test_load_digits_names_missing_asset(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "EMBEDDED_PATH", tmp_path / "gone.npz")
    with pytest.raises(FileNotFoundError, match=r"gone\.npz` must be .* no such file\. Reinstall"):
        load_digits()


@pytest.mark.parametrize("kind", [Path, str])
def test_load_digits_reads_training_files_from_root(small_mnist, kind):
    digits = load_digits(kind(small_mnist.root))
    assert_close(digits.images, small_mnist.images)
    assert_close(digits.labels, small_mnist.labels)
    assert digits.source == "mnist"
    content = small_mnist.images.numpy().tobytes() + bytes(small_mnist.labels.tolist())
    assert digits.sha256 == hashlib.sha256(content).hexdigest()


def test_load_digits_expands_home_in_root(small_mnist, monkeypatch):
    monkeypatch.setenv("HOME", str(small_mnist.root.parent))
    monkeypatch.setenv("USERPROFILE", str(small_mnist.root.parent))
    assert_close(load_digits("~/mnist").images, small_mnist.images)


def test_load_digits_passes_by_unverified_processed_files(small_mnist):
    processed = small_mnist.root / "MNIST" / "processed"
    processed.mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(1, 28, 28), torch.zeros(1)), processed / name)
    assert_close(load_digits(small_mnist.root).images, small_mnist.images)


@pytest.mark.parametrize("name", ["image_file", "label_file"])
def test_load_digits_names_missing_training_file(small_mnist, name):
    path = getattr(small_mnist, name)
    path.unlink()
    match = (
        rf"{re.escape(str(path))}` must be a file of .* got no such file\. "
        "Give as `root` .* embedded digits"
    )
    with pytest.raises(FileNotFoundError, match=match):
        load_digits(small_mnist.root)


def test_load_digits_takes_folder_for_missing_file(small_mnist):
    small_mnist.label_file.unlink()
    small_mnist.label_file.mkdir()
    with pytest.raises(FileNotFoundError, match=r"train-labels-idx1-ubyte` .* no such file"):
        load_digits(small_mnist.root)


@pytest.mark.parametrize("name", ["image_file", "label_file"])
def test_load_digits_refuses_half_written_training_file(small_mnist, name):
    path = getattr(small_mnist, name)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    match = (
        rf"{re.escape(str(path))}` must be a file of {len(content)} bytes "
        rf"with SHA-256 [0-9a-f]{{64}}, "
        rf"got {len(content) // 2} bytes \(truncated\)\. .*download=True.*embedded digits"
    )
    with pytest.raises(ValueError, match=match):
        load_digits(small_mnist.root)


@pytest.mark.parametrize("name", ["image_file", "label_file"])
def test_load_digits_refuses_training_file_of_other_content(small_mnist, name):
    path = getattr(small_mnist, name)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}` must .*, got SHA-256 {found}"):
        load_digits(small_mnist.root)


def test_load_digits_refuses_training_file_with_tail(small_mnist):
    size = small_mnist.image_file.stat().st_size
    with small_mnist.image_file.open("ab") as file:
        file.write(b"tail")
    with pytest.raises(ValueError, match=f"got {size + 4} bytes. Give"):
        load_digits(small_mnist.root)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"root": 3}, "load_digits: `root` must be a path or None, got 3"),
        ({"download": 1}, "load_digits: `download` must be a bool, got 1"),
        ({"download": "no"}, "load_digits: `download` must be a bool, got 'no'"),
    ],
)
def test_load_digits_refuses_arguments_of_wrong_kind(arguments, match):
    with pytest.raises(TypeError, match=match):
        load_digits(**arguments)


@pytest.mark.skipif(
    "GASLAYERS_MNIST_ROOT" not in os.environ,
    reason="needs the full MNIST: set GASLAYERS_MNIST_ROOT to a folder that holds MNIST/raw",
)
def test_full_training_set_starts_with_embedded_digits(embedded):
    full = load_digits(os.environ["GASLAYERS_MNIST_ROOT"])
    assert full.images.shape == (60_000, 28, 28)
    assert full.images.dtype == torch.uint8
    assert full.labels.dtype == torch.int64
    assert full.source == "mnist"
    assert full.sha256 == TRAINING_CONTENT
    assert_close(full.images[:10_000], embedded.images)
    assert_close(full.labels[:10_000], embedded.labels)


def test_asset_holds_labels_as_bytes():
    with np.load(module.EMBEDDED_PATH, allow_pickle=False) as arrays:
        assert {name: arrays[name].dtype for name in arrays.files} == {
            "images": np.dtype("uint8"),
            "labels": np.dtype("uint8"),
        }
