from mmseg_siglip.models.scores.key_smoothing import KeySmoothing
from mmseg_siglip.models.scores.step import ScoreStep
from mmseg_siglip.models.scores.template_experts import TemplateExperts

__all__ = ['KeySmoothing', 'ScoreStep', 'TemplateExperts']
