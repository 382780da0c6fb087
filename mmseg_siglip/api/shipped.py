"""Systems that ship along, small and trained on ShapesWorld: they know coloured shapes only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mmseg_siglip.api.system import SYSTEMS, System


class Shipped(NamedTuple):
    """A system that `from_pretrained` builds of what ships along.

    Attributes:
        task: See `SYSTEMS`.
        name: What people see.
        options: See `System.from_pretrained`.
    """

    task: str
    name: str
    options: Mapping[str, Any] = {}


SHIPPED = {
    'tiny_siglip_shapes': Shipped(
        'segment',
        'SigLIP',
        dict(
            method='vanilla',
            postprocessor=dict(type='PAMRPostProcessor', num_iter=10, dilations=(1, 2, 4, 8, 16)),
            test_cfg=dict(mode='slide', crop_size=(48, 48), stride=(24, 24)),
            short_side=128,
        ),
    ),
    'shapes_cat_seg': Shipped('segment', 'CAT-Seg'),
    'shapes_refer': Shipped('refer', 'RSRefSeg'),
    'shapes_depth': Shipped('depth', 'DPT'),
    'shapes_chat': Shipped('ask', 'LLaVA'),
}
"""By what `from_pretrained` calls them; the first has the settings of
``configs/sclip/shapes_best.py``."""


def build_shipped(source: str, **options: Any) -> System:
    """One of `SHIPPED`; options go before its own."""
    shipped = SHIPPED[source]
    return SYSTEMS[shipped.task].from_pretrained(source, **{**shipped.options, **options})
