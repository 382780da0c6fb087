from mmseg_siglip.models.upsamplers.any_up import AnyUp

__all__ = ['AnyUp']
