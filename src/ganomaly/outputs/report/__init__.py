"""The HTML report and the figures: what a person looks at after scoring."""

from ganomaly.outputs.report.html import ReportBuilder, ReportRow

__all__ = ["ReportBuilder", "ReportRow"]
