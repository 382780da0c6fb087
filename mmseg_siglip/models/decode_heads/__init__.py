from mmseg_siglip.models.decode_heads.cat_seg_head import CATSegHead
from mmseg_siglip.models.decode_heads.dpt_head import DPTHead
from mmseg_siglip.models.decode_heads.sam_prompter_head import SAMPrompterDecodeHead
from mmseg_siglip.models.decode_heads.tips_head import TIPSHead

__all__ = ['CATSegHead', 'DPTHead', 'SAMPrompterDecodeHead', 'TIPSHead']
