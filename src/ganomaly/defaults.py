"""Defaults and choices that the command line shows; `config.py` builds its options from them.

They stand in a module without imports because `ganomaly --help` needs them, and importing pydantic, which `config.py`
does, takes as long as all the rest of the help.
"""

from typing import Literal

Device = Literal["auto", "cpu", "cuda"]
"""Where to compute; `auto` takes a GPU where there is one."""

Precision = Literal["auto", "fp32", "bf16"]
"""How training computes; `auto` takes bf16 where the device computes in it, fp32 elsewhere."""

MapFormat = Literal["png", "npy", "dcm"]
"""How anomaly maps are written: as 16-bit gray on the scale of the threshold, or as float32."""

AUTO = "auto"
"""The preset that is chosen by size and colour of the images."""

SEED = 0
DEVICE: Device = "auto"
PRECISION: Precision = "auto"
FALSE_ALARM_RATE = 0.01
"""Share of new normal images that may be called anomalous."""

BATCH_SIZE = 64
"""Images per batch of a prediction; changes memory and speed, not scores."""

MAP_FORMAT: MapFormat = "png"

TRIALS = 30
TRIAL_BUDGET = 0.3
"""Share of the whole training that a trial of a search gets, of its steps and of the images."""
