from mmseg_siglip.models.postprocessors.label_step import LabelStep
from mmseg_siglip.models.postprocessors.pamr import PAMRPostProcessor
from mmseg_siglip.models.postprocessors.prompt_denoising import PromptDenoising
from mmseg_siglip.models.postprocessors.propagation import PixelPropagation
from mmseg_siglip.models.postprocessors.region_vote import RegionVote
from mmseg_siglip.models.postprocessors.sam3_vote import SAM3Vote
from mmseg_siglip.models.postprocessors.sam_proposals import SAMProposals
from mmseg_siglip.models.postprocessors.sam_refine import SAMRefine

__all__ = [
    'LabelStep',
    'PAMRPostProcessor',
    'PixelPropagation',
    'PromptDenoising',
    'RegionVote',
    'SAM3Vote',
    'SAMProposals',
    'SAMRefine',
]
