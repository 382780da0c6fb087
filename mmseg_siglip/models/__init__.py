from mmseg_siglip.models import (  # noqa: F401
    backbones,
    data_preprocessor,
    losses,
    postprocessors,
    pretrainers,
    segmentors,
)
