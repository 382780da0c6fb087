"""ClearCLIP, https://arxiv.org/abs/2407.12442."""

from torch import Tensor

from mmseg_siglip.models.backbones.block import attend
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.registry import DENSE_METHODS

SOURCE = 'https://arxiv.org/abs/2407.12442'
SLIDE = dict(short_side=448, crop_size=448, stride=224, logit_scale=50)
PUBLISHED = dict(
    voc21=dict(SLIDE, prob_thd=0.5, area_thd=None),
    voc20=SLIDE,
    context60=dict(SLIDE, prob_thd=0.15),
    context59=SLIDE,
    coco_object=dict(SLIDE, prob_thd=0.4),
    coco_stuff=SLIDE,
    ade20k=SLIDE,
)
"""Its figures are of other words, one for each class, so none stands here."""


@DENSE_METHODS.register_module(name='clearclip')
class ClearCLIP(DenseMethod):
    """softmax(q qᵀ / √d) v alone."""

    reads = 'qv'

    def mix(self, q: Tensor, k: Tensor, v: Tensor, trunk: object) -> Tensor:
        return attend(q, q, v)
