"""MNIST training digits, in file order: 10,000 embedded in the package, or all 60,000 from disk."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from gaslayers._checks import bad_type, check_bool
from gaslayers.study.data.verification import ExpectedFile, verify_file

# tools/embed_digits.py writes this file and compares it with these numbers.
EMBEDDED = ExpectedFile(
    "mnist_train_10000.npz",
    1_646_432,
    "0c60e9cc58268284d33ca19d4492713726841c11d5a9ac1d199ef4e978640657",
)
EMBEDDED_PATH = Path(__file__).with_name(EMBEDDED.name)

TRAINING_IMAGES = ExpectedFile(
    "train-images-idx3-ubyte",
    47_040_016,
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
)
TRAINING_LABELS = ExpectedFile(
    "train-labels-idx1-ubyte",
    60_008,
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
)

_OWNER = "load_digits"
_EMBEDDED_SUFFICE = "the embedded digits serve every preset"


@dataclass(frozen=True)
class Digits:
    """Digits with their classes; equal where their content is.

    Args:
        images: Grey values, 0 is background.
        labels: Classes 0 to 9.
        source: ``"embedded"`` for the 10,000 in the package, ``"mnist"`` for the full training set.
        sha256: SHA-256 of the image bytes followed by the labels as bytes. It names the digits
            themselves, whatever file they were packed in, and goes into records.

    Shape:
        - images: (N, 28, 28), uint8.
        - labels: (N,), int64.
    """

    images: Tensor = field(repr=False, compare=False)
    labels: Tensor = field(repr=False, compare=False)
    source: Literal["embedded", "mnist"]
    sha256: str

    def __len__(self) -> int:
        return len(self.images)


def load_digits(root: str | os.PathLike[str] | None = None, *, download: bool = False) -> Digits:
    """MNIST training digits in the order of their file, which is the order the 2018 study read.

    Without arguments these are the first 10,000, embedded in the package. Every file is compared
    with its known SHA-256 before it is read.

    Args:
        root: A folder in torchvision's layout, which holds ``MNIST/raw/train-images-idx3-ubyte``
            and ``MNIST/raw/train-labels-idx1-ubyte``. All 60,000 digits are then loaded.
        download: Fetch those of the two files that are missing or wrong into ``root``, or into
            ``gaslayers`` in the user's cache folder where ``root`` is None.

    Raises:
        TypeError: An argument is of the wrong kind.
        FileNotFoundError: A file is missing.
        ValueError: A file is truncated or has another content.
        OSError: The download failed.

    Example:
        >>> digits = load_digits()
        >>> tuple(digits.images.shape), digits.source
        ((10000, 28, 28), 'embedded')

    References:
        LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
    """
    check_bool(_OWNER, "download", download)
    if root is not None and not isinstance(root, str | os.PathLike):
        raise bad_type(_OWNER, "root", "be a path or None", root)
    if root is None and not download:
        return _load_embedded()
    folder = Path(root).expanduser() if root is not None else _cache_folder()
    raw = folder / "MNIST" / "raw"
    if download:
        _fetch_training_files(raw)
    return _load_training_files(raw)


def _load_embedded() -> Digits:
    verify_file(EMBEDDED_PATH, EMBEDDED, owner=_OWNER, remedy="Reinstall gaslayers.")
    with np.load(EMBEDDED_PATH) as arrays:
        images, labels = (torch.from_numpy(arrays[name]) for name in ("images", "labels"))
    return Digits(images, labels.long(), "embedded", _content_hash(images, labels))


def _load_training_files(raw: Path) -> Digits:
    # torchvision's readers and not its MNIST class: the class also wants the test files, and
    # prefers a `processed` folder of old releases, which nobody verified, to the raw files.
    from torchvision.datasets.mnist import read_image_file, read_label_file

    remedy = (
        "Give as `root` the folder that holds MNIST/raw, fetch the file with download=True, "
        f"or leave both out: {_EMBEDDED_SUFFICE}."
    )
    for expected in (TRAINING_IMAGES, TRAINING_LABELS):
        verify_file(raw / expected.name, expected, owner=_OWNER, remedy=remedy)
    images = read_image_file(str(raw / TRAINING_IMAGES.name))
    labels = read_label_file(str(raw / TRAINING_LABELS.name))
    return Digits(images, labels, "mnist", _content_hash(images, labels))


def _fetch_training_files(raw: Path) -> None:
    for expected in (TRAINING_IMAGES, TRAINING_LABELS):
        path = raw / expected.name
        if expected.fault_of(path) is None:
            continue
        raw.mkdir(parents=True, exist_ok=True)
        with FileLock(raw / ".download.lock"):
            # Asked again under the lock: a run that started beside this one may have fetched it.
            if expected.fault_of(path) is not None:
                _fetch(f"{expected.name}.gz", raw)


def _fetch(archive: str, raw: Path) -> None:
    from torchvision.datasets import MNIST

    failures = []
    for mirror in MNIST.mirrors:
        failure = _fetch_from(mirror, archive, raw)
        if failure is None:
            return
        failures.append(f"{mirror}: {failure}")
    raise OSError(
        f"{_OWNER}: could not download {archive} into {raw} ({'; '.join(failures)}). "
        f"Try again with a network, or leave download off: {_EMBEDDED_SUFFICE}."
    )


def _fetch_from(mirror: str, archive: str, raw: Path) -> Exception | None:
    # One archive at a time, where torchvision's MNIST class would take a half-written file for a
    # finished one and read it.
    from torchvision.datasets import MNIST
    from torchvision.datasets.utils import download_and_extract_archive

    md5 = dict(MNIST.resources)[archive]
    try:
        download_and_extract_archive(f"{mirror}{archive}", raw, filename=archive, md5=md5)
    except (OSError, RuntimeError, HTTPException) as error:
        return error
    return None


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gaslayers"


def _content_hash(images: Tensor, labels: Tensor) -> str:
    digest = hashlib.sha256(images.numpy().tobytes())
    digest.update(labels.to(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
