"""Many runs: planned by a grid, made by several workers, each exactly once."""

from gaslayers.study.sweep.cards import runs_per_card
from gaslayers.study.sweep.cluster import ClusterError, run_on_cluster
from gaslayers.study.sweep.grid import Family, Grid, read_grid
from gaslayers.study.sweep.runs import ForeignRunError, Planned, finish_all, sweep
from gaslayers.study.sweep.workers import WorkerError, run_workers

__all__ = [
    "ClusterError",
    "Family",
    "ForeignRunError",
    "Grid",
    "Planned",
    "WorkerError",
    "finish_all",
    "read_grid",
    "run_on_cluster",
    "run_workers",
    "runs_per_card",
    "sweep",
]
