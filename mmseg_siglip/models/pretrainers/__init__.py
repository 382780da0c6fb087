from mmseg_siglip.models.pretrainers.sam_pretrainer import SAMPretrainer
from mmseg_siglip.models.pretrainers.siglip_pretrainer import SigLIPPretrainer

__all__ = ['SAMPretrainer', 'SigLIPPretrainer']
