from mmseg_siglip.models.scores.feature_surgery import FeatureSurgery
from mmseg_siglip.models.scores.global_bias import GlobalBias
from mmseg_siglip.models.scores.key_smoothing import KeySmoothing
from mmseg_siglip.models.scores.step import ScoreStep
from mmseg_siglip.models.scores.template_experts import TemplateExperts

__all__ = ['FeatureSurgery', 'GlobalBias', 'KeySmoothing', 'ScoreStep', 'TemplateExperts']
