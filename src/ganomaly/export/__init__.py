"""A trained model as one graph that runs anywhere: ONNX and OpenVINO."""

from ganomaly.export.int8 import quantise
from ganomaly.export.write import ExportFormat, check_export_path, export_model, to_onnx, write_graph

__all__ = ["ExportFormat", "check_export_path", "export_model", "quantise", "to_onnx", "write_graph"]
