from mmseg_siglip.models import backbones, losses, postprocessors, pretrainers, segmentors  # noqa: F401
