"""What each method lists as worth searching."""

import pytest

from ganomaly.methods import METHODS, find_preset
from ganomaly.methods.search_space import Choice, Range

PRESETS = sorted(name for method in METHODS.values() for name in method.presets)


@pytest.mark.parametrize("name", PRESETS)
def test_the_preset_is_in_its_search_space_and_every_end_is_allowed(name):
    method_type, preset = find_preset(name)
    assert method_type.search_space
    for option, searched in method_type.search_space.items():
        start = getattr(preset.options, option)
        match searched:
            case Range(low, high, _):
                assert low <= start <= high
                tried = [low, high]
            case Choice(values):
                assert start in values
                tried = list(values)
            case _:
                continue
        for value in tried:
            preset.options.checked(**{**preset.options.model_dump(), option: value})
