"""The pages and pictures that a person looks at after a study, all of them drawn from records."""

from gaslayers.study.report.page import draw_study_pictures, write_report
from gaslayers.study.report.pictures import Picture
from gaslayers.study.report.run_pictures import draw_run_pictures
from gaslayers.study.report.runs import Run, read_run

__all__ = [
    "Picture",
    "Run",
    "draw_run_pictures",
    "draw_study_pictures",
    "read_run",
    "write_report",
]
