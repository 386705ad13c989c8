"""The described digits of the metrics' tests, for verdicts on samples."""

from tests.study.metrics.conftest import (  # noqa: F401  (fixtures, taken by their names)
    _one_thread_for_all,
    described,
    images,
    judge,
    labels,
    network,
)
