"""Lay samples out on disk exactly as a public benchmark does.

Folders, names, suffixes, label encodings and split files are the benchmark's own, so a config of
that benchmark runs on them as it would on the real data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mmseg_siglip import compat  # noqa: F401  isort: skip  (mends mmcv before mmseg is imported)
from mmseg.datasets import PascalVOCDataset

from mmseg_siglip.io.files import write_atomically, write_image

VOID = -1
WHITE = (255, 255, 255)
VOC_PALETTE = [value for colour in PascalVOCDataset.METAINFO['palette'] for value in colour]


@dataclass(frozen=True)
class Layout:
    """Where one benchmark keeps its evaluation split below its data root.

    Attributes:
        image: Path of an image, with ``{stem}``.
        label: Path of its label map.
        classes: Number of classes.
        stem: Name of sample number ``{index}``.
        split: Path of the list of samples, if the benchmark has one.
        line: What the list says of a sample, with ``{stem}``.
        first: Label value of class 0; class c has ``first + c``.
        void: Label value of pixels without a class.
        wide: Whether labels are 16-bit.
        palette: Colours of an indexed label image, red green blue red ...
        colours: Colour of each class, of labels that are RGB; white where there is none.
    """

    image: str
    label: str
    classes: int
    stem: str = '{index:012d}'
    split: str | None = None
    line: str = '{stem}'
    first: int = 0
    void: int = 255
    wide: bool = False
    palette: Sequence[int] | None = None
    colours: Sequence[Sequence[int]] | None = None

    def encode(self, labels: np.ndarray) -> Image.Image:
        """Class indices (H, W), -1 where there is none, as the benchmark's label image."""
        if self.colours is not None:
            return Image.fromarray(np.array([*self.colours, WHITE], np.uint8)[labels])
        values = np.where(labels == VOID, self.void, labels + self.first)
        image = Image.fromarray(values.astype(np.uint16 if self.wide else np.uint8))
        if self.palette is not None:
            image.putpalette(self.palette)
        return image


VOC = dict(
    image='JPEGImages/{stem}.jpg',
    label='SegmentationClass/{stem}.png',
    stem='2007_{index:06d}',
    split='ImageSets/Segmentation/val.txt',
    palette=VOC_PALETTE,
)
CONTEXT = dict(
    VOC,
    label='SegmentationClassContext/{stem}.png',
    stem='2008_{index:06d}',
    split='ImageSets/SegmentationContext/val.txt',
    palette=None,
)
COCO = dict(image='images/val2017/{stem}.jpg')
MMSEG = dict(image='img_dir/val/{stem}.png', label='ann_dir/val/{stem}.png', stem='{index}')
DRONE = dict(image='val/src/{stem}.JPG', label='val/gt/{stem}.png')
DETECTRON = dict(wide=True, void=65535)

LAYOUTS: Mapping[str, Layout] = dict(
    voc20=Layout(**VOC, classes=20, first=1, void=0),
    voc21=Layout(**VOC, classes=21),
    context59=Layout(**CONTEXT, classes=59, first=1, void=0),
    context60=Layout(**CONTEXT, classes=60),
    context459=Layout(
        **CONTEXT | DETECTRON | dict(label='annotations_detectron2/pc459_val/{stem}.tif'),
        classes=459,
    ),
    coco_object=Layout(**COCO, label='annotations/val2017/{stem}_instanceTrainIds.png', classes=81),
    coco_stuff=Layout(**COCO, label='annotations/val2017/{stem}_labelTrainIds.png', classes=171),
    coco_stuff10k=Layout(
        image='images/test2014/{stem}.jpg',
        label='annotations/test2014/{stem}_labelTrainIds.png',
        stem='COCO_train2014_{index:012d}',
        classes=171,
        first=1,
        void=0,
    ),
    cityscapes=Layout(
        image='leftImg8bit/val/frankfurt/{stem}_leftImg8bit.png',
        label='gtFine/val/frankfurt/{stem}_gtFine_labelTrainIds.png',
        stem='frankfurt_000000_{index:06d}',
        classes=19,
    ),
    ade20k=Layout(
        image='images/validation/{stem}.jpg',
        label='annotations/validation/{stem}.png',
        stem='ADE_val_{index:08d}',
        classes=150,
        first=1,
        void=0,
    ),
    ade847=Layout(
        image='images_detectron2/validation/{stem}.jpg',
        label='annotations_detectron2/validation/{stem}.tif',
        stem='ADE_val_{index:08d}',
        classes=847,
        **DETECTRON,
    ),
    camvid=Layout(
        image='val/{stem}.png',
        label='valannot/{stem}.png',
        stem='0016E5_{index:05d}',
        classes=11,
        void=11,
    ),
    loveda=Layout(**MMSEG, classes=7, first=1, void=0),
    potsdam=Layout(**MMSEG | dict(stem='2_13_{index}_0_512_512'), classes=6, first=1, void=0),
    vaihingen=Layout(**MMSEG | dict(stem='area11_{index}_0_512_512'), classes=6, first=1, void=0),
    isaid=Layout(
        **MMSEG
        | dict(label='ann_dir/val/{stem}_instance_color_RGB.png', stem='P{index:04d}_0_896_0_896'),
        classes=16,
    ),
    openearthmap=Layout(
        image='aachen/images/{stem}.tif',
        label='aachen/labels/{stem}.tif',
        stem='aachen_{index}',
        split='val.txt',
        line='{stem}.tif',
        classes=8,
        first=1,
        void=0,
    ),
    uavid=Layout(
        image='uavid_val/seq16/Images/{stem}.png',
        label='uavid_val/seq16/Labels/{stem}.png',
        stem='{index:06d}',
        classes=8,
        colours=[
            (0, 0, 0),
            (128, 0, 0),
            (128, 64, 128),
            (192, 0, 192),
            (0, 128, 0),
            (128, 128, 0),
            (64, 64, 0),
            (64, 0, 128),
        ],
    ),
    udd5=Layout(**DRONE | dict(stem='DJI_{index:04d}'), classes=5),
    vdd=Layout(**DRONE | dict(stem='org{index:03d}'), classes=7),
)


def write_layout(
    name: str,
    root: str | Path,
    samples: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    class_ids: Sequence[int] | None = None,
) -> Path:
    """Write samples as benchmark ``name`` would hold its evaluation split.

    Args:
        root: The folder that the benchmark's config calls ``data_root``.
        samples: Pairs of an image, uint8 (H, W, 3) RGB, and its labels, int (H, W), -1 for void.
        class_ids: The benchmark's class for each class of the samples; the same if not given.

    Returns:
        ``root``.

    Raises:
        ValueError: Unknown name, sizes that differ, or a label outside the benchmark's classes.
    """
    if name not in LAYOUTS:
        raise ValueError(f"no layout '{name}', there are {', '.join(LAYOUTS)}")
    layout, root = LAYOUTS[name], Path(root)
    stems = []
    for index, (image, labels) in enumerate(samples, 1):
        labels = _translate(np.asarray(labels).astype(np.int64), class_ids)
        _check(name, layout, index, image, labels)
        stem = layout.stem.format(index=index)
        stems.append(stem)
        for template, picture in (
            (layout.image, Image.fromarray(image)),
            (layout.label, layout.encode(labels)),
        ):
            path = root / template.format(stem=stem)
            kind = Image.registered_extensions()[path.suffix.lower()]
            write_image(picture, path, kind=kind, **(dict(quality=95) if kind == 'JPEG' else {}))
    if layout.split is not None:
        split = root / layout.split
        lines = [f'{layout.line.format(stem=stem)}\n' for stem in stems]
        write_atomically(''.join(lines), split)
    return root


def _translate(labels: np.ndarray, class_ids: Sequence[int] | None) -> np.ndarray:
    if class_ids is None:
        return labels
    if labels.max() >= len(class_ids):
        raise ValueError(f'class {labels.max()} has no entry in class_ids {tuple(class_ids)}')
    return np.asarray((*class_ids, VOID))[labels]


def _check(name: str, layout: Layout, index: int, image: np.ndarray, labels: np.ndarray) -> None:
    if image.shape != (*labels.shape, 3) or image.dtype != np.uint8:
        raise ValueError(
            f'sample {index}: image {image.dtype} {image.shape}, expected uint8 '
            f'{(*labels.shape, 3)} as its labels are {labels.shape}'
        )
    if labels.min() < VOID or labels.max() >= layout.classes:
        raise ValueError(
            f'sample {index}: labels {labels.min()} to {labels.max()}, but {name} has classes 0 '
            f'to {layout.classes - 1}'
        )
