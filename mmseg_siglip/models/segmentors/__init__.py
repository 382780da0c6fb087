from mmseg_siglip.models.segmentors.sclip import SCLIPSegmentor

__all__ = ['SCLIPSegmentor']
