from mmseg_siglip.models.decode_heads.cat_seg_head import CATSegHead
from mmseg_siglip.models.decode_heads.dpt_head import DPTHead

__all__ = ['CATSegHead', 'DPTHead']
