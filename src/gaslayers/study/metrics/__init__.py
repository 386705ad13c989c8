"""How good images are: distances, coverage, classes and copies, each beside its floor."""

from gaslayers.study.metrics.classes import Classes, compare_classes
from gaslayers.study.metrics.digit_network import DigitNetwork, load_digit_network
from gaslayers.study.metrics.evaluation import evaluate
from gaslayers.study.metrics.frechet import frechet_distance
from gaslayers.study.metrics.kernel import kernel_distance
from gaslayers.study.metrics.manifolds import Manifolds, compare_manifolds
from gaslayers.study.metrics.modes import (
    Modes,
    StackedEvaluation,
    count_modes,
    evaluate_stacked,
    stack_digits,
)
from gaslayers.study.metrics.neighbours import nearest_ratio
from gaslayers.study.metrics.scores import Evaluation, Score

__all__ = [
    "Classes",
    "DigitNetwork",
    "Evaluation",
    "Manifolds",
    "Modes",
    "Score",
    "StackedEvaluation",
    "compare_classes",
    "compare_manifolds",
    "count_modes",
    "evaluate",
    "evaluate_stacked",
    "frechet_distance",
    "kernel_distance",
    "load_digit_network",
    "nearest_ratio",
    "stack_digits",
]
