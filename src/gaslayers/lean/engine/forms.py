"""The forms in which a saved tensor can be kept, each of which gives it back to the bit.

- `Whole`: the tensor itself, with its version; `Small`: the same of one of few bytes.
- `ShapeOnly`: nothing but sizes, for an operator whose backward pass reads no values.
- `Bits`: one bit per element, of a tensor of two values or for one that reads which of two it is.
- `View`: another view of memory that is kept whole.
- `Signs`: the same of the side of zero, or the whole tensor where that is kept anyway.
- `Again`: the operator that made it, and the forms of what that one read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor

from gaslayers.lean.engine.bits import Bits
from gaslayers.lean.engine.form import Form
from gaslayers.lean.engine.whole import Whole
from gaslayers.lean.rerun import Precision

Placement: TypeAlias = tuple[int, torch.Size, tuple[int, ...]]
"""Where a view of some memory begins, its shape and its strides."""


class ShapeOnly(Form):
    """Sizes and strides; what comes back holds no values that mean anything.

    A contiguous map comes back as one number expanded, which takes no memory; others in memory of
    their own, since an operator may choose its kernel by their strides.

    Args:
        tensor: What is saved.
        has_memory: Whether a contiguous one comes back in memory, too.
    """

    __slots__ = ("_device", "_dtype", "_is_contiguous", "_shape", "_stride")

    reason = "its shape alone is read"

    def __init__(self, tensor: Tensor, *, has_memory: bool = False) -> None:
        self._shape, self._stride = tensor.shape, tensor.stride()
        self._dtype, self._device = tensor.dtype, tensor.device
        self._is_contiguous = tensor.is_contiguous() and not has_memory

    def restore(self) -> Tensor:
        """A tensor of the same shape."""
        if self._is_contiguous:
            return torch.zeros((), dtype=self._dtype, device=self._device).expand(self._shape)
        return torch.empty_strided(
            self._shape, self._stride, dtype=self._dtype, device=self._device
        )


class View(Form):
    """Another view of memory that is kept whole.

    Args:
        whole: What keeps it.
        kept: What that looked like: offset, shape and strides.
        wanted: What this one looks like.
    """

    __slots__ = ("_kept", "_wanted", "_whole")

    reason = "its memory is kept anyway"

    def __init__(self, whole: Whole, kept: Placement, wanted: Placement) -> None:
        self._whole, self._kept, self._wanted = whole, kept, wanted

    @property
    def parts(self) -> Sequence[Form]:
        """What keeps the memory."""
        return (self._whole,)

    def expect_reader(self) -> None:
        """An operator that runs again will read the memory."""
        self._whole.expect_reader()

    def read(self) -> Tensor:
        """The view of what was there."""
        return self._of(self._whole.read())

    def restore(self) -> Tensor:
        """The view."""
        return self._of(self._whole.restore())

    def _of(self, base: Tensor) -> Tensor:
        offset, shape, stride = self._kept
        if base.stride() != stride:  # hooks around the engine need not give strides back
            place = torch.empty_strided(shape, stride, dtype=base.dtype, device=base.device)
            base = place.copy_(base)
        own_offset, own_shape, own_stride = self._wanted
        return base.as_strided(own_shape, own_stride, base.storage_offset() + own_offset - offset)


class Signs(Form):
    """On which side of zero each element is.

    Where the tensor whose signs these are is kept whole for another operator, the bits are let go
    and it comes back itself.

    Args:
        bits: Theirs.
        are_read: Whether the backward pass reads bits: where it is not differentiated itself, a
            line of bytes comes back, and else one of two values per element.
    """

    __slots__ = ("_are_read", "_whole", "bits")

    reason = "on which side of zero it is decides"

    def __init__(self, bits: Bits, *, are_read: bool) -> None:
        self.bits: Bits | None = bits
        self._are_read = are_read
        self._whole: Whole | None = None

    @property
    def of_values(self) -> Form:
        """The bits, or the tensor that they are read from."""
        return self.parts[0]

    @property
    def parts(self) -> Sequence[Form]:
        """The same."""
        return [form for form in (self.bits, self._whole) if form is not None]

    def read_from(self, whole: Whole) -> None:
        """Let the bits go: this tensor has the same signs, and is kept anyway."""
        self._whole, self.bits = whole, None

    def restore(self) -> Tensor:
        """The bits, or a tensor with the same signs."""
        if self._whole is not None:
            return self._whole.restore()
        if self.bits is None:
            raise AssertionError("Signs: neither bits nor a tensor to read them from")
        if self._are_read and not torch.is_grad_enabled():
            return self.bits.packed()
        return self.bits.restore()


class Again(Form):
    """The operator that made it, run again on the same tensors under the same autocast.

    Args:
        operator: Takes the tensors in order.
        inputs: Their forms.
        stride: Of the tensor; what is run again may make it in others, as for one in place.
        dtype: Likewise.
        precision: The autocast that it ran under; None: none.
    """

    __slots__ = (
        "_dtype",
        "_inputs",
        "_made",
        "_operator",
        "_precision",
        "_readers",
        "_stride",
        "_uses",
        "_uses_left",
    )

    reason = "its operator runs again on what is kept"

    def __init__(
        self,
        operator: Callable[..., Tensor],
        inputs: Sequence[Form],
        stride: tuple[int, ...],
        dtype: torch.dtype,
        precision: Precision | None = None,
    ) -> None:
        self._stride, self._dtype = stride, dtype
        self._operator, self._inputs, self._precision = operator, inputs, precision
        self._readers = self._uses = self._uses_left = 0
        self._made: Tensor | None = None
        for form in inputs:
            form.expect_reader()

    @property
    def parts(self) -> Sequence[Form]:
        """The forms of what the operator reads."""
        return self._inputs

    def restore(self) -> Tensor:
        """The tensor."""
        return self._restore({})

    def _restore(self, shared: dict[Again, Tensor]) -> Tensor:
        """The same, with what is read more than once on the way to it."""
        made = shared.get(self, self._made)
        if made is None:
            made = self._run(shared)
            if self._readers > 1:
                shared[self] = made
        self._uses_left -= 1
        if self._uses_left > 0:
            self._made = made
        else:
            self._made, self._uses_left = None, self._uses
        return made

    def count_reader(self) -> None:
        """Another form reads it, or an operator."""
        self._readers += 1

    def expect_use(self) -> None:
        """Hold what the operator makes for one use more, as of a convolution's by two operators.

        In a second backward pass through the same graph it runs again.
        """
        self._uses += 1
        self._uses_left += 1

    def _run(self, shared: dict[Again, Tensor]) -> Tensor:
        tensors = [
            form._restore(shared) if isinstance(form, Again) else form.read()
            for form in self._inputs
        ]
        with torch.no_grad(), self._as_before(tensors):
            made = self._operator(*tensors)
            made = made.to(self._dtype)
            if made.stride() == self._stride:
                return made
            # Operators choose their kernels by strides, and round accordingly.
            place = torch.empty_strided(
                made.shape, self._stride, dtype=made.dtype, device=made.device
            )
            return place.copy_(made)

    def _as_before(self, tensors: Sequence[Tensor]) -> AbstractContextManager[Any]:
        if self._precision is not None:
            return self._precision.restored()
        if tensors and torch._C._is_any_autocast_enabled():
            return Precision(tensors[0].device.type, None).restored()
        return nullcontext()
