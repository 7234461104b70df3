"""OpenVINO without its telemetry: its first import would send one event to its maker, and each conversion more."""

import sys
from types import ModuleType

_TELEMETRY = "openvino_telemetry"


def import_openvino() -> ModuleType:
    """Import OpenVINO so that it sends nothing, unless this process has imported it before."""
    installed = sys.modules.get(_TELEMETRY)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # makes an import fail; OpenVINO then sends nothing
    try:
        import openvino
    finally:
        if installed is None:
            del sys.modules[_TELEMETRY]
        else:
            sys.modules[_TELEMETRY] = installed
    return sys.modules[openvino.__name__]
