"""The digits of the study: embedded, from an MNIST folder, or downloaded; verified before use."""

from gaslayers.study.data.digits import Digits, load_digits

__all__ = ["Digits", "load_digits"]
