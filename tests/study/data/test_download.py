from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
import torchvision.datasets.utils
from torch.testing import assert_close
from torchvision.datasets import MNIST

from gaslayers.study.data import digits as module
from gaslayers.study.data import load_digits


@pytest.fixture
def server(small_mnist, monkeypatch):
    """A stand-in for torchvision's download: copies the small files and notes what was asked."""
    contents = {
        f"{path.name}.gz": path.read_bytes()
        for path in (small_mnist.image_file, small_mnist.label_file)
    }
    asked = []

    def download_and_extract_archive(url, download_root, *, filename, md5):
        assert md5 == dict(MNIST.resources)[filename]
        asked.append(url)
        target = Path(download_root) / filename.removesuffix(".gz")
        target.write_bytes(contents[filename])

    monkeypatch.setattr(
        torchvision.datasets.utils, "download_and_extract_archive", download_and_extract_archive
    )
    return asked


@pytest.fixture
def no_network(monkeypatch):
    def refuse(url, *arguments, **options):
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.datasets.utils, "_get_redirect_url", refuse)


def urls(*names):
    return [f"{MNIST.mirrors[0]}{name}.gz" for name in names]


def test_download_fetches_training_files_into_new_root(small_mnist, server, tmp_path):
    digits = load_digits(tmp_path / "new" / "root", download=True)
    assert server == urls("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
    assert_close(digits.images, small_mnist.images)
    assert digits.source == "mnist"


@pytest.mark.parametrize(
    ("variable", "folder"), [("XDG_CACHE_HOME", "cache"), ("HOME", "home/.cache")]
)
def test_download_goes_to_user_cache_without_root(
    server, small_mnist, tmp_path, monkeypatch, variable, folder
):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(variable, str(tmp_path / Path(folder).parts[0]))
    assert_close(load_digits(download=True).images, small_mnist.images)
    raw = tmp_path / folder / "gaslayers" / "MNIST" / "raw"
    assert (raw / small_mnist.image_file.name).is_file()


def test_download_asks_for_nothing_when_files_are_whole(small_mnist, server):
    load_digits(small_mnist.root, download=True)
    assert server == []
    # Nor is anything written, so that a read-only folder will do.
    assert sorted(small_mnist.raw.iterdir()) == [small_mnist.image_file, small_mnist.label_file]


def test_download_fetches_half_written_file_again(small_mnist, server):
    content = small_mnist.image_file.read_bytes()
    small_mnist.image_file.write_bytes(content[:100])
    digits = load_digits(small_mnist.root, download=True)
    assert server == urls("train-images-idx3-ubyte")
    assert_close(digits.images, small_mnist.images)


def test_download_does_not_repeat_what_another_run_fetched(small_mnist, server, monkeypatch):
    content = small_mnist.image_file.read_bytes()
    small_mnist.image_file.write_bytes(content[:100])

    class LockOfAnotherRun:
        """Handed over at the moment when the other run has finished the file."""

        def __init__(self, path):
            assert path.parent == small_mnist.raw

        def __enter__(self):
            small_mnist.image_file.write_bytes(content)

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(module, "FileLock", LockOfAnotherRun)
    load_digits(small_mnist.root, download=True)
    assert server == []


def test_download_is_verified(small_mnist, monkeypatch):
    small_mnist.image_file.unlink()

    def download_and_extract_archive(url, download_root, **options):
        small_mnist.image_file.write_bytes(b"half")

    monkeypatch.setattr(
        torchvision.datasets.utils, "download_and_extract_archive", download_and_extract_archive
    )
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte` .* got 4 bytes \(truncated\)"):
        load_digits(small_mnist.root, download=True)


def test_download_runs_torchvisions_own_code(small_mnist, no_network, monkeypatch):
    # The archives lie there already, whole: torchvision compares their MD5 and unpacks them.
    sums = small_mnist.pack()
    monkeypatch.setattr(MNIST, "resources", list(sums.items()))
    digits = load_digits(small_mnist.root, download=True)
    assert_close(digits.images, small_mnist.images)
    assert_close(digits.labels, small_mnist.labels)


def test_download_tries_next_mirror(small_mnist, server, monkeypatch):
    small_mnist.label_file.unlink()
    works = torchvision.datasets.utils.download_and_extract_archive

    def first_mirror_is_down(url, *arguments, **options):
        if url.startswith(MNIST.mirrors[0]):
            raise URLError("down")
        works(url, *arguments, **options)

    monkeypatch.setattr(
        torchvision.datasets.utils, "download_and_extract_archive", first_mirror_is_down
    )
    load_digits(small_mnist.root, download=True)
    assert server == [f"{MNIST.mirrors[1]}train-labels-idx1-ubyte.gz"]


def test_failed_download_says_what_was_tried_and_the_remedy(tmp_path, no_network):
    match = (
        r"load_digits: could not download train-images-idx3-ubyte\.gz into .*raw "
        rf"\({MNIST.mirrors[0]}: .*no route to host.*; {MNIST.mirrors[1]}: .*\)\. "
        r"Try again with a network, or leave download off: the embedded digits serve every preset"
    )
    with pytest.raises(OSError, match=match):
        load_digits(tmp_path, download=True)
