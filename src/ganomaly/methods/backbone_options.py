"""Options of methods that have a pretrained backbone."""

import json
from typing import Annotated, Any, Self

from pydantic import Field

from ganomaly.config import MAX_OPTION_TEXT
from ganomaly.errors import UsageError
from ganomaly.methods.options import ScheduledOptions
from ganomaly.networks.backbones import VARIANTS, default_levels, describe_backbone


class BackboneOptions(ScheduledOptions):
    """Which backbone, and which of its levels."""

    backbone: Annotated[str, Field(max_length=500)] = ""
    """Name of the pretrained network, see `ganomaly.networks.backbones`."""
    levels: Annotated[str, Field(max_length=500)] = ""
    """Names of its levels, separated by commas."""
    backbone_description: Annotated[str, Field(max_length=MAX_OPTION_TEXT)] = ""
    """JSON that builds the backbone from a model file alone; `completed` fills it where the name does not suffice."""

    def completed(self) -> Self:
        """Read what builds the backbone; raises what `describe_backbone` does."""
        if not self.backbone:
            return self
        description = describe_backbone(self.backbone, self._level_names())
        if self.backbone in VARIANTS:
            return self
        return self.model_copy(update={"backbone_description": json.dumps(description)})

    def describe_backbone(self) -> dict[str, Any]:
        """What `build_backbone` needs."""
        if self.backbone_description:
            try:
                return dict(json.loads(self.backbone_description))
            except ValueError as error:
                raise UsageError(f"backbone_description is not a JSON object ({error})") from error
        return describe_backbone(self.backbone, self._level_names())

    def default_levels(self) -> list[str]:
        """The levels of the backbone that are taken unless others are named."""
        return default_levels(self.backbone)

    def _level_names(self) -> list[str]:
        return [level.strip() for level in self.levels.split(",") if level.strip()] or self.default_levels()
