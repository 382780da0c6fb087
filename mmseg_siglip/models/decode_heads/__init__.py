from mmseg_siglip.models.decode_heads.dpt_head import DPTHead

__all__ = ['DPTHead']
