"""All benchmarks that need no data, one after the other: `make bench`."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = (
    "training_speed.py",
    "scoring_speed.py",
    "latency.py",
    "image_loading.py",
    "scoring_memory.py",
)


def main() -> None:
    """Run each script in a process of its own and stop at the first that fails."""
    folder = Path(__file__).parent
    for script in SCRIPTS:
        print(f"\n== {script}", flush=True)
        subprocess.run([sys.executable, str(folder / script)], check=True)


if __name__ == "__main__":
    main()
