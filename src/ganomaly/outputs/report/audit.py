"""The audit's part of the report: its figures, and images with and without their defects."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ganomaly.outputs.panels import Panels
from ganomaly.outputs.report.thumbnails import encode

if TYPE_CHECKING:
    from ganomaly.metrics import Audit


@dataclass(frozen=True)
class ReportPair:
    """An image with its defect, and with the defect painted out.

    Attributes
    ----------
    path : str
        Of the image.
    kind : str or None
        Of the defect.
    score, painted_out_score : float
        A(x) with and without the defect.
    panels, painted_out_panels : mapping
        Panels to show of each.
    """

    path: str
    kind: str | None
    score: float
    painted_out_score: float
    panels: Panels
    painted_out_panels: Panels


@dataclass(frozen=True)
class ReportAudit:
    """An audit with some of its pairs.

    Attributes
    ----------
    audit : Audit
        The figures.
    pairs : sequence of ReportPair
        In the order to show them.
    """

    audit: "Audit"
    pairs: Sequence[ReportPair]

    def template_data(self) -> dict[str, Any]:
        """What the template shows; thumbnails are encoded here."""
        return {
            "audit": self.audit,
            "kinds": {"all kinds": self.audit, **self.audit.per_kind},
            "pairs": [
                {
                    "pair": pair,
                    "thumbnails": [
                        [encode(name, panel) for name, panel in panels.items()]
                        for panels in (pair.panels, pair.painted_out_panels)
                    ],
                }
                for pair in self.pairs
            ],
        }
