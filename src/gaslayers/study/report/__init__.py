"""The pages and pictures that a person looks at after a study, all of them drawn from records."""

from gaslayers.study.report.page import write_report

__all__ = ["write_report"]
