from mmseg_siglip.models.postprocessors.label_step import LabelStep
from mmseg_siglip.models.postprocessors.pamr import PAMRPostProcessor
from mmseg_siglip.models.postprocessors.sam_proposals import SAMProposals
from mmseg_siglip.models.postprocessors.sam_refine import SAMRefine

__all__ = ['LabelStep', 'PAMRPostProcessor', 'SAMProposals', 'SAMRefine']
