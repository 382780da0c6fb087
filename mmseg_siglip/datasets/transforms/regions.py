"""Every region of a scene as a mask of its own, to train and test Segment Anything."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform

from mmseg_siglip.datasets.shapes_world.scene import CLASSES, ShapesScene
from mmseg_siglip.datasets.transforms.referring import MASKS
from mmseg_siglip.registry import TRANSFORMS

LEAST_PIXELS = 24


def regions(scene: ShapesScene) -> tuple[list[str], np.ndarray]:
    """Names (R) and masks (R, H, W) uint8 of a scene's objects and kinds of ground.

    Regions of fewer pixels than `LEAST_PIXELS` are left out.
    """
    names = [f'{item.colour} {item.shape}' for item in scene.objects]
    masks = [scene.instances == k + 1 for k in range(len(names))]
    for name in scene.stuff:
        names.append(name)
        masks.append((scene.instances == 0) & (scene.classes == CLASSES.index(name)))
    kept = [k for k, mask in enumerate(masks) if mask.sum() >= LEAST_PIXELS]
    return [names[k] for k in kept], np.stack([masks[k] for k in kept]).astype(np.uint8)


@TRANSFORMS.register_module()
class LoadShapesRegions(BaseTransform):
    """Take the regions of a ``ShapesWorldDataset`` scene in place of its label map.

    Adds what `PackReferringInputs` packs: ``text``, their names, and ``gt_ref_masks``.

    Args:
        count: Draw so many regions at random, from NumPy's generator, one of them several times
            where there are fewer; all, in their order, if not given.
    """

    def __init__(self, *, count: int | None = None) -> None:
        self.count = count

    def transform(self, results: dict) -> dict:
        names, masks = regions(results['scene'])
        chosen = np.arange(len(names))
        if self.count is not None:
            chosen = np.random.choice(chosen, self.count, replace=len(names) < self.count)
        results.pop('gt_seg_map', None)
        results['seg_fields'] = []
        results['text'] = [names[k] for k in chosen]
        results[MASKS] = masks[chosen]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(count={self.count})'
