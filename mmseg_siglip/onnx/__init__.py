"""Systems as ONNX graphs: written from torch, checked against it, and run by onnxruntime."""

from mmseg_siglip.lazy import lazy

SUFFIX = '.onnx'

OFFERED = {
    'mmseg_siglip.onnx.export': ('export_graph',),
    'mmseg_siglip.onnx.graph': ('Graph',),
}
__getattr__, __dir__, __all__ = lazy(__name__, OFFERED)
