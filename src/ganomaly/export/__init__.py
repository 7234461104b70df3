"""A trained model as one graph that runs anywhere: ONNX and OpenVINO."""

from ganomaly.export.int8 import in_8_bits
from ganomaly.export.write import ExportFormat, as_onnx, check_export_path, export_model, write_graph

__all__ = ["ExportFormat", "as_onnx", "check_export_path", "export_model", "in_8_bits", "write_graph"]
