"""The audit of a sweep as pages and pictures."""

from gaslayers.study.report.audit.page import write_audit

__all__ = ["write_audit"]
