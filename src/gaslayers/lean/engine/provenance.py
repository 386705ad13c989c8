"""Which operator made a tensor, and of what: known by the tensor's storage, place and version.

The book holds no tensor. It is told when a storage dies, since the next one may get its address.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from gaslayers.lean.engine.form import Form
from gaslayers.lean.engine.forms import Again, Signs, View
from gaslayers.lean.engine.whole import Hooks, Whole
from gaslayers.lean.rerun import Precision

LARGE_BYTES = 2**20
"""A map of at most so many bytes that is made again is held until the last one has read it.

A larger one is made again for each of them: its memory is worth more than the time."""

Key: TypeAlias = tuple[int, int, torch.Size, tuple[int, ...], torch.dtype, int]


def key_of(tensor: Tensor) -> Key:
    """What tells one value from another: storage, place in it, and version."""
    return (
        tensor.untyped_storage()._cdata,
        int(tensor.storage_offset()),
        tensor.shape,
        tensor.stride(),
        tensor.dtype,
        tensor._version,
    )


def is_large(byte_count: int) -> bool:
    """Whether a map's memory is worth more than the time of an operator on it."""
    return byte_count > LARGE_BYTES


def is_parameter(tensor: Tensor) -> bool:
    """Whether it is one; of most tensors the class alone tells, without PyTorch's own question."""
    kind = type(tensor)
    return kind is nn.Parameter or (kind is not Tensor and isinstance(tensor, nn.Parameter))


class Origin:
    """How a tensor came to be.

    Args:
        tensor: It.
        operator: Gives it back from the tensors of ``inputs``; None: nobody knows.
        inputs: The origins of what the operator read.
        moved_bytes: What the operator reads and writes when it runs again.
        precision: The autocast that it ran under; None: none.
    """

    __slots__ = (
        "_again",
        "_kept",
        "_storage",
        "_tensor",
        "byte_count",
        "held",
        "held_bytes",
        "holds",
        "inputs",
        "is_dear",
        "is_fresh",
        "is_parameter",
        "key",
        "moved_bytes",
        "operator",
        "precision",
        "prefers_inputs",
        "remaking",
        "signs",
    )

    def __init__(
        self,
        tensor: Tensor,
        key: Key,
        storage: weakref.ref[Any],
        operator: Callable[..., Tensor] | None = None,
        inputs: Sequence[Origin] = (),
        moved_bytes: int = 0,
        precision: Precision | None = None,
    ) -> None:
        self.key = key
        self.operator, self.inputs, self.precision = operator, inputs, precision
        self.moved_bytes = moved_bytes
        self.byte_count = tensor.nbytes
        self.held_bytes = tensor.untyped_storage().nbytes()  # as by a slice the whole of it
        self.is_parameter = is_parameter(tensor)
        self.prefers_inputs = False
        self.is_dear = self.is_fresh = False
        self.held: Form | None = None
        self.holds: Sequence[Form] = ()
        self.signs: weakref.ref[Signs] | None = None
        self.remaking: Any = None  # what it took to make it again when that was decided
        self._tensor = weakref.ref(tensor)
        self._storage = storage
        self._kept: weakref.ref[Whole] | None = None
        self._again: weakref.ref[Again] | None = None

    @property
    def storage_lives(self) -> bool:
        """Whether its memory is still its own; an address says nothing once it is not."""
        return self._storage() is not None

    @property
    def tensor(self) -> Tensor | None:
        """The tensor, where it lives and was not changed in place."""
        tensor = self._tensor()
        return tensor if tensor is not None and tensor._version == self.key[-1] else None

    @property
    def can_be_kept(self) -> bool:
        """Whether it is there to be kept, and is nobody's to keep anyway."""
        return self.tensor is not None and not self.is_parameter

    @property
    def kept(self) -> Whole | None:
        """The form that keeps it whole, where one does."""
        if self._kept is None:
            return None
        whole = self._kept()
        return None if whole is None or whole.is_changed else whole

    @property
    def is_made_again(self) -> bool:
        """Whether somebody keeps its operator in its place, and what that reads as it was."""
        form = self._again() if self._again is not None else None
        return form is not None and not form.is_changed

    def keep(self, tensor: Tensor, outer: Hooks | None) -> Whole:
        """Keep it whole."""
        whole = Whole(tensor, outer)
        self._kept = weakref.ref(whole)
        signs = self.signs() if self.signs is not None else None
        if signs is not None:
            signs.read_from(whole)
        return whole

    def again(self, make_inputs: Callable[[], Sequence[Form]]) -> Again:
        """The form that runs its operator again, one for all who need it.

        Args:
            make_inputs: Makes the forms of what the operator reads, where there is no form yet.
        """
        form = self._again() if self._again is not None else None
        if form is None:
            if self.operator is None:
                raise AssertionError("Origin: there is no operator to run again")
            form = Again(self.operator, make_inputs(), self.key[3], self.key[4], self.precision)
            self._again = weakref.ref(form)
        form.count_reader()
        if self.is_dear or not is_large(self.held_bytes):
            form.expect_use()
        return form


class Provenance:
    """The origins of the tensors that live."""

    def __init__(self) -> None:
        self._origins: dict[Key, tuple[weakref.ref[Any], Origin]] = {}
        self._kept: dict[int, tuple[weakref.ref[Whole], Key]] = {}

    def find(self, tensor: Tensor) -> Origin | None:
        """The tensor's origin, where it is in the book."""
        entry = self._origins.get(key_of(tensor))
        return None if entry is None else entry[1]

    def of(self, tensor: Tensor) -> Origin:
        """The tensor's origin; one that nobody knows is written down as such."""
        return self.find(tensor) or self.record(tensor)

    def record(
        self,
        tensor: Tensor,
        operator: Callable[..., Tensor] | None = None,
        inputs: Sequence[Origin] = (),
        moved_bytes: int = 0,
        precision: Precision | None = None,
    ) -> Origin:
        """Write down how a tensor came to be."""
        key, storage = key_of(tensor), tensor.untyped_storage()
        me = weakref.ref(self)

        def forget(_: object) -> None:
            book = me()
            if book is not None:
                book._origins.pop(key, None)
                book._kept.pop(key[0], None)

        watched = weakref.ref(storage, forget)
        origin = Origin(tensor, key, watched, operator, inputs, moved_bytes, precision)
        self._origins[key] = (watched, origin)
        return origin

    def keep(self, origin: Origin, outer: Hooks | None, tensor: Tensor | None = None) -> Form:
        """Keep a tensor whole, once for all who need it and for all views of its memory."""
        kept: Form | None = origin.kept or self.view_of_kept(origin)
        if kept is not None:
            return kept
        tensor = origin.tensor if tensor is None else tensor
        if tensor is None:
            raise AssertionError("Provenance: a tensor to be kept is gone")
        whole = origin.keep(tensor, outer)
        self._kept[origin.key[0]] = weakref.ref(whole), origin.key
        return whole

    def prepare_change(self, tensor: Tensor) -> None:
        """The memory of a tensor is about to be changed in place."""
        entry = self._kept.get(tensor.untyped_storage()._cdata)
        whole = None if entry is None else entry[0]()
        if whole is not None:
            whole.prepare_change()

    def view_of_kept(self, origin: Origin) -> Form | None:
        """The form that reads it out of memory that is kept for another view; None: none is."""
        if not origin.storage_lives:
            return None
        entry = self._kept.get(origin.key[0])
        whole = None if entry is None else entry[0]()
        if entry is None or whole is None or whole.is_changed:
            return None
        _, offset, shape, stride, dtype, version = entry[1]
        _, own_offset, own_shape, own_stride, own_dtype, own_version = origin.key
        last, own_last = offset + _reach(shape, stride), own_offset + _reach(own_shape, own_stride)
        is_within = offset <= own_offset and own_last <= last
        # In a copy, as hooks around the engine may make one, there is nothing between the elements.
        is_dense = last - offset + 1 == shape.numel()
        if version != own_version or dtype != own_dtype or not (is_within and is_dense):
            return None
        return View(whole, (offset, shape, stride), (own_offset, own_shape, own_stride))


def _reach(shape: Sequence[int], stride: Sequence[int]) -> int:
    """From the first element to the last one in memory."""
    return sum((n - 1) * step for n, step in zip(shape, stride, strict=True) if n)
