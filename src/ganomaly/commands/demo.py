"""`ganomaly demo`: the whole workflow on simulated X-ray baggage, in a few minutes on two cores."""

from pathlib import Path

from ganomaly.commands.console import Console
from ganomaly.commands.evaluate import evaluate
from ganomaly.commands.fit import fit
from ganomaly.config import BATCH_SIZE, SEED, FitOptions
from ganomaly.data.baggage import THREAT_KINDS, write_simulated_baggage
from ganomaly.locks import locked_folder
from ganomaly.output_checks import FIGURES_JSON, MODEL, REPORT, check_outputs
from ganomaly.outputs.report.evaluation_figures import check_figure_folder

NOTICE = (
    "These X-ray images are simulated. They show how the software works; "
    "figures measured on them say nothing about real baggage."
)
MODEL_FILE, METRICS_FILE, REPORT_FILE = "baggage.safetensors", "evaluation.json", "report.html"
FIGURE_FOLDER = "figures"
N_TRAIN = 500
N_TEST_NORMAL = 200
N_TEST_PER_THREAT = 60
OPTIONS = FitOptions(false_alarm_rate=0.05)  # else what `fit` does by default


def demo(console: Console, out: Path) -> bool:
    """Simulate images, fit, evaluate, report; return whether all images could be read."""
    console.say(NOTICE)
    with locked_folder(out, "ganomaly demo"):
        check_outputs(
            {
                "the model": (out / MODEL_FILE, MODEL),
                "the metrics": (out / METRICS_FILE, FIGURES_JSON),
                "the report": (out / REPORT_FILE, REPORT),
            }
        )
        check_figure_folder(out / FIGURE_FOLDER)
        return _run(console, out)


def _run(console: Console, out: Path) -> bool:
    data, model_path = out / "baggage", out / MODEL_FILE
    n_images = N_TRAIN + N_TEST_NORMAL + N_TEST_PER_THREAT * len(THREAT_KINDS)
    with console.counting(n_images, "simulating X-ray baggage") as count:
        write_simulated_baggage(
            data,
            kind="bags",
            n_train=N_TRAIN,
            n_test_normal=N_TEST_NORMAL,
            n_test_per_threat=N_TEST_PER_THREAT,
            seed=SEED,
            progress=count,
        )
    fitted = fit(console, str(data), model_path, OPTIONS, resume=True)
    evaluated = evaluate(
        console,
        model_path,
        str(data),
        json_path=out / METRICS_FILE,
        report=out / REPORT_FILE,
        figures=out / FIGURE_FOLDER,
        audit=False,
        batch_size=BATCH_SIZE,
        notice=NOTICE,
    )
    return fitted and evaluated
