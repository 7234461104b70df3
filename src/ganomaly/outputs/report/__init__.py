"""The HTML report, and the figures of an evaluation."""

from ganomaly.outputs.report.audit import ReportAudit, ReportPair
from ganomaly.outputs.report.html import ReportBuilder

__all__ = ["ReportAudit", "ReportBuilder", "ReportPair"]
