"""What luggage is made of, and how strongly it attenuates X-rays of two energies.

The mass-attenuation coefficients are approximate. Those of elements, water and polyethylene follow the tables of
Hubbell and Seltzer (NIST Standard Reference Database 126, https://doi.org/10.18434/T4D01F) at 60 keV and, read
between 100 and 150 keV on log-log scales, at 110 keV; mixtures are mass-weighted sums of their elements. A scanner
sees two broad spectra, not two lines: these energies stand for the effective energies of such a pair.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Material:
    """A homogeneous material.

    Attributes
    ----------
    density : float
        Mass per volume as packed, g/cm³; cloth and paper include the air between their layers.
    mass_attenuation_low, mass_attenuation_high : float
        μ/ρ at about 60 keV and about 110 keV, cm²/g.
    """

    density: float
    mass_attenuation_low: float
    mass_attenuation_high: float

    @property
    def attenuation_low(self) -> float:
        """Linear attenuation μ at the low energy, 1/mm."""
        return self.density * self.mass_attenuation_low / 10

    @property
    def attenuation_high(self) -> float:
        """Linear attenuation μ at the high energy, 1/mm."""
        return self.density * self.mass_attenuation_high / 10


# organic
COTTON = Material(0.32, 0.192, 0.157)
WOOL = Material(0.18, 0.190, 0.156)
DENIM = Material(0.55, 0.192, 0.157)
NYLON = Material(1.10, 0.190, 0.158)
FOAM = Material(0.06, 0.190, 0.158)
LEATHER = Material(0.90, 0.202, 0.159)
RUBBER = Material(1.15, 0.212, 0.162)
SOLE = Material(0.55, 0.205, 0.160)
PAPER = Material(0.78, 0.205, 0.160)
WOOD = Material(0.70, 0.192, 0.157)
POLYETHYLENE = Material(0.95, 0.197, 0.167)
PLASTIC = Material(1.10, 0.191, 0.158)
POLYCARBONATE = Material(1.20, 0.187, 0.156)
WATER = Material(1.00, 0.206, 0.166)
COSMETIC = Material(1.00, 0.215, 0.166)
TOOTHPASTE = Material(1.30, 0.275, 0.172)
FOOD = Material(0.95, 0.205, 0.164)
# mixed and light metal
PVC = Material(1.35, 0.345, 0.184)
CIRCUIT_BOARD = Material(1.90, 0.330, 0.181)
CHIP = Material(2.10, 0.420, 0.190)
GLASS = Material(2.50, 0.267, 0.160)
ALUMINIUM = Material(2.70, 0.278, 0.162)
BATTERY_CELL = Material(2.40, 0.580, 0.207)
# metal
STEEL = Material(7.85, 1.205, 0.320)
COPPER = Material(8.96, 1.593, 0.387)
BRASS = Material(8.50, 1.651, 0.397)
ZINC_ALLOY = Material(6.70, 1.690, 0.402)
CUPRONICKEL = Material(8.90, 1.573, 0.382)
FERRITE = Material(4.80, 1.060, 0.290)
MAGNET = Material(7.40, 1.900, 0.620)
SOLDER = Material(7.30, 5.900, 1.330)
LEAD = Material(11.3, 5.021, 4.373)
