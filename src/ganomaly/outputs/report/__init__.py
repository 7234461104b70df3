"""The HTML report, and the figures of an evaluation."""

from ganomaly.outputs.report.html import ReportBuilder

__all__ = ["ReportBuilder"]
