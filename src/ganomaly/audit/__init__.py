"""Whether a model sees the defects: scores of images with their defects, and with the defects painted out.

`plan_audit` chooses what is painted, `audit_model` predicts it, `paint_out` paints.
"""

from ganomaly.audit.audit import MAX_MASKED, AuditedImages, AuditedPair, AuditPlan, audit_model, plan_audit
from ganomaly.audit.datasets import PaintedImages, Painting
from ganomaly.audit.inpainting import paint_out, painted_region

__all__ = [
    "MAX_MASKED",
    "AuditPlan",
    "AuditedImages",
    "AuditedPair",
    "PaintedImages",
    "Painting",
    "audit_model",
    "paint_out",
    "painted_region",
    "plan_audit",
]
