"""What public benchmarks hold, to tell a whole evaluation split from a part of one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Benchmark:
    """The split that published figures are of.

    Attributes:
        samples: How many images it has; of referring expressions, how many phrases.
        made_by: What brings the download into the layout that the configs expect.
    """

    samples: int
    made_by: str


MMSEG = 'mmseg/.mim/tools/dataset_converters'
OURS = 'tools/dataset_converters'
_AS_IS = 'nothing: it is used as downloaded'
_VOC = Benchmark(1449, _AS_IS)
_CONTEXT = Benchmark(5104, f'{MMSEG}/pascal_context.py')
_ADE = Benchmark(2000, _AS_IS)
_STUFF = Benchmark(5000, f'{MMSEG}/coco_stuff164k.py')

BENCHMARKS = dict(
    voc21=_VOC,
    voc20=_VOC,
    voc20b=_VOC,
    context60=_CONTEXT,
    context59=_CONTEXT,
    pc59=_CONTEXT,
    context459=Benchmark(5104, f'{OURS}/pascal_context_459.py'),
    pc459=Benchmark(5104, f'{OURS}/pascal_context_459.py'),
    coco_object=Benchmark(5000, f'{MMSEG}/coco_stuff164k.py, then {OURS}/coco_object.py'),
    coco_stuff=_STUFF,
    coco_stuff10k=Benchmark(1000, f'{MMSEG}/coco_stuff10k.py'),
    cityscapes=Benchmark(500, f'{MMSEG}/cityscapes.py'),
    ade20k=_ADE,
    ade150=_ADE,
    ade847=Benchmark(2000, f'{OURS}/ade20k_847.py'),
    rsrefseg_b=Benchmark(3481, _AS_IS),
    rsrefseg_l=Benchmark(3481, _AS_IS),
)
"""By the name of a config that has a published figure."""
