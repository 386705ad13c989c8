"""What every form has in which a saved tensor can be kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor


class Form(ABC):
    """What is kept in a tensor's place."""

    __slots__ = ("__weakref__",)

    reason: ClassVar[str]
    """Why this is enough, in a sentence for people."""

    @abstractmethod
    def restore(self) -> Tensor:
        """The tensor, or one that is as good for the operator that saved it."""

    def read(self) -> Tensor:
        """The tensor for an operator that runs again, whatever happened to it since."""
        return self.restore()

    def expect_reader(self) -> None:  # noqa: B027  # most forms need not know
        """An operator that runs again will read it."""

    @property
    def of_values(self) -> Form:
        """The form for an operator that reads values, and not what else `restore` may give."""
        return self

    @property
    def is_changed(self) -> bool:
        """Whether something that is kept for it was changed in place since."""
        return any(part.is_changed for part in self.parts)

    @property
    def parts(self) -> Sequence[Form]:
        """The forms that it is made of."""
        return ()
