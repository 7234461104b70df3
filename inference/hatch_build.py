"""Where the package lies: beside this project in a checkout, inside of it in a source distribution."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PackageSource(BuildHookInterface):
    """Put the package into both distributions."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the folder that becomes the package."""
        inside = Path(self.root, "src", "ganomaly")
        source = inside if inside.is_dir() else Path(self.root).parent / "src" / "ganomaly"
        destination = "ganomaly" if self.target_name == "wheel" else "src/ganomaly"
        build_data["force_include"][str(source)] = destination
