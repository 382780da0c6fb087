from mmseg_siglip.models import (  # noqa: F401
    backbones,
    data_preprocessor,
    decode_heads,
    dense,
    guides,
    losses,
    postprocessors,
    pretrainers,
    regions,
    sam,
    scores,
    segmentors,
)
