"""`ganomaly demo`."""

from pathlib import Path

from ganomaly import demo as demonstration
from ganomaly.commands.console import Console
from ganomaly.commands.evaluate import evaluate
from ganomaly.commands.fit import fit


def demo(console: Console, out: Path) -> bool:
    """Run the whole job on simulated baggage."""
    console.say(demonstration.NOTICE)
    data, model_path = out / "baggage", out / "baggage.safetensors"
    with console.counting(demonstration.N_IMAGES, "simulating X-ray baggage") as count:
        demonstration.write_images(data, progress=count)
    all_read = fit(console, str(data), model_path, demonstration.SETTINGS, resume=True)
    return (
        evaluate(
            console,
            model_path,
            str(data),
            json_path=out / "evaluation.json",
            report=out / "report.html",
            figures=out / "figures",
            batch_size=64,
            notice=demonstration.NOTICE,
        )
        and all_read
    )
