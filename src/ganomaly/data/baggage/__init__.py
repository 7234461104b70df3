"""Simulated dual-energy X-ray images of luggage, with and without threats, and their masks.

A bag is packed (`packing`, which draws `clothing`, `belongings`, `electronics` and `luggage`), a threat may be hidden
in it (`firearms`, `knives`), all of it as thickness of some material (`materials`) on a canvas of optical depth
(`canvas`), and the whole goes through the scanner (`scanner`).
"""

from ganomaly.data.baggage.bag import SimulatedBag, simulate_bag, simulate_patch
from ganomaly.data.baggage.folder import write_simulated_baggage
from ganomaly.data.baggage.packing import THREAT_KINDS

__all__ = ["THREAT_KINDS", "SimulatedBag", "simulate_bag", "simulate_patch", "write_simulated_baggage"]
