from mmseg_siglip.models.postprocessors.pamr import PAMRPostProcessor
from mmseg_siglip.models.postprocessors.sam_proposals import SAMProposals

__all__ = ['PAMRPostProcessor', 'SAMProposals']
