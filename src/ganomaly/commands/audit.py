"""`ganomaly evaluate --audit`."""

from collections.abc import Mapping

from rich.table import Table

from ganomaly.audit import AuditedImages, audit_model, plan_audit
from ganomaly.commands.console import Console
from ganomaly.commands.reporting import MAX_LISTED_FAILURES
from ganomaly.data import ImageDataset
from ganomaly.defaults import SEED
from ganomaly.metrics import Audit, KindAudit
from ganomaly.prediction import Predictor


def audit(
    console: Console, model: Predictor, dataset: ImageDataset, scores: Mapping[int, float], *, batch_size: int
) -> AuditedImages:
    """Audit a model whose scores of the images, by index, are given; print the figures and what they say."""
    plan = plan_audit(dataset, scores, seed=SEED)
    with console.counting(len(plan.paintings), "auditing") as count:
        audited = audit_model(
            model, dataset, scores, plan, seed=SEED, batch_size=batch_size, on_prediction=count
        )
    console.print_table(audit_table(audited.audit))
    console.say(audited.audit.conclusion)
    for sentence in _remarks(audited.audit):
        console.say(sentence)
    for path, why in list(audited.failures.items())[:MAX_LISTED_FAILURES]:
        console.warn(f"left out of the audit: {path}: {why}")
    return audited


def audit_table(audit: Audit) -> Table:
    """The figures of an audit, for all images and for each kind of defect."""
    table = Table(title="audit: AUROC with and without the defects", title_justify="left")
    table.add_column("kind")
    for name in (
        "n",
        "defect /\nnormal",
        "without /\nnormal",
        "defect /\nwithout",
        "higher\nwith defect",
        "control",
    ):
        table.add_column(name, justify="right")

    def add_row(name: str, figures: KindAudit, *, end_section: bool = False) -> None:
        values = (
            figures.image_auroc,
            figures.painted_out_auroc,
            figures.defect_auroc,
            figures.defect_pairs,
            figures.control_auroc,
        )
        texts = ["–" if value is None else f"{value:.3f}" for value in values]
        table.add_row(name, str(figures.n), *texts, end_section=end_section)

    add_row("all", audit, end_section=True)
    for kind, figures in audit.per_kind.items():
        add_row(kind, figures)
    return table


def _remarks(audit: Audit) -> list[str]:
    sentences = []
    if audit.n_recorded:
        sentences.append(
            f"Images that were recorded without their defects too, so that nothing is painted: {audit.n_recorded}."
        )
    if audit.n_mask_too_large:
        sentences.append(
            "Anomalous images that are left out, because their masks cover more than a tenth of them, and painting "
            f"that much proves nothing: {audit.n_mask_too_large}."
        )
    if audit.n_without_mask:
        sentences.append(
            f"Anomalous images that are left out, because they have no mask, or an empty one: {audit.n_without_mask}."
        )
    return sentences
