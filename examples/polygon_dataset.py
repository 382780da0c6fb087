"""A data set of your own: polygons in a JSON file, drawn into label maps as they are needed.

    {"classes": ["circle", "square", "grass"],
     "images": [{"file": "a.png",
                 "shapes": [{"class": "grass", "polygon": [[0, 0], [96, 0], [96, 64]]}]}]}

Later shapes lie on top of earlier ones. Pixels of no shape are ignored (255).
"""

import json
from pathlib import Path

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.dataset import BaseDataset

from mmseg_siglip.registry import DATASETS, TRANSFORMS
from mmseg_siglip.text.class_colours import class_colours


@DATASETS.register_module()
class PolygonDataset(BaseDataset):
    """Images whose labels are polygons.

    Args:
        data_root: The folder that `ann_file` and the images are in.
        ann_file: The JSON file.
        kwargs: See MMEngine's ``BaseDataset``: ``pipeline``, ``indices``, ``test_mode``.

    Raises:
        ValueError: A shape is of a class that the file does not list.
    """

    def __init__(self, *, data_root, ann_file='polygons.json', **kwargs):
        self.annotations = json.loads(Path(data_root, ann_file).read_text(encoding='utf-8'))
        classes = self.annotations['classes']
        metainfo = dict(classes=classes, palette=class_colours(classes).tolist())
        super().__init__(ann_file=ann_file, data_root=data_root, metainfo=metainfo, **kwargs)

    def load_data_list(self):
        number = {name: index for index, name in enumerate(self.annotations['classes'])}
        for image in self.annotations['images']:
            for shape in image['shapes']:
                if shape['class'] not in number:
                    raise ValueError(
                        f'{self.ann_file}: expected one of {", ".join(number)} in {image["file"]}, '
                        f'found {shape["class"]!r}'
                    )
        return [
            dict(
                img_path=str(Path(self.data_root, image['file'])),
                polygons=[(number[s['class']], s['polygon']) for s in image['shapes']],
                label_map=None,
                reduce_zero_label=False,
                seg_fields=[],
            )
            for image in self.annotations['images']
        ]


@TRANSFORMS.register_module()
class DrawPolygons(BaseTransform):
    """`polygons` to ``gt_seg_map`` (H, W) uint8, behind ``LoadImageFromFile``."""

    def transform(self, results):
        labels = np.full(results['img_shape'][:2], 255, np.uint8)
        for index, polygon in results['polygons']:
            cv2.fillPoly(labels, [np.round(polygon).astype(np.int32)], index)
        return dict(results, gt_seg_map=labels, seg_fields=['gt_seg_map'])
