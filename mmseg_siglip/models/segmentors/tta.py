"""Test-time augmentation: the mean of class probabilities over several views of an image."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_siglip.registry import MODELS


@MODELS.register_module()
class OpenVocabularyTTAModel(BaseTTAModel):
    """Averages what an open-vocabulary segmentor says of each view, then labels as it does.

    MMSeg's ``SegTTAModel`` would take a softmax of what already are probabilities, and knows no
    background threshold.

    Args:
        module: An `OpenVocabularySegmentor`, or its configuration. It is made to return its
            probabilities.

    Raises:
        ValueError: It has label steps, which change labels and not probabilities.
    """

    def __init__(self, module: dict | nn.Module, **kwargs) -> None:
        super().__init__(module, **kwargs)
        steps = [type(step).__name__ for step in getattr(self.module, 'label_steps', ())]
        if steps:
            raise ValueError(
                'test-time augmentation labels by mean probabilities, which label steps do not '
                f'change: expected no label_steps, found {", ".join(steps)}; leave one of both out'
            )
        self.keep = self.module.test_cfg['return_logits']
        self.module.test_cfg['return_logits'] = True

    def merge_preds(
        self, data_samples_list: Sequence[Sequence[SegDataSample]]
    ) -> list[SegDataSample]:
        """One sample from the views of each image, all (C, H, W) at the original size."""
        return [self._merge(views) for views in data_samples_list]

    def _merge(self, views: Sequence[SegDataSample]) -> SegDataSample:
        mean = sum(view.seg_logits.data for view in views) / len(views)
        merged = views[0]
        merged.pred_sem_seg = PixelData(data=self.module.labels_of(mean)[None])
        if self.keep:
            merged.seg_logits = PixelData(data=mean)
        else:
            del merged.seg_logits
        return merged
