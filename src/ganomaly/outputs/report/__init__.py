"""The HTML report, and the figures of an evaluation."""

from pathlib import Path

from ganomaly.outputs.report.audit import ReportAudit, ReportPair
from ganomaly.outputs.report.html import ReportBuilder

__all__ = ["STYLE", "ReportAudit", "ReportBuilder", "ReportPair"]

STYLE = Path(__file__).parent / "template" / "report.css"
"""The style of the report."""
