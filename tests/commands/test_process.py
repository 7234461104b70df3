"""How a command starts."""

import os
import subprocess
import sys

import pytest

from ganomaly.commands.process import SPINS

PROGRAM = """
import os
from ganomaly.commands.process import heavy_imports
with heavy_imports():
    import torch
print(os.environ.get("GOMP_SPINCOUNT"))
"""


@pytest.mark.parametrize(
    ("chosen", "spins"),
    [({}, SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_threads_sleep_soon_while_they_wait_unless_the_environment_says_otherwise(chosen, spins):
    own = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment | chosen, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == spins
