from mmseg_siglip.models.pretrainers.siglip_pretrainer import SigLIPPretrainer

__all__ = ['SigLIPPretrainer']
