from mmseg_siglip.models.postprocessors.pamr import PAMRPostProcessor

__all__ = ['PAMRPostProcessor']
