from mmseg_siglip.models.scores.feature_surgery import FeatureSurgery
from mmseg_siglip.models.scores.step import ScoreStep

__all__ = ['FeatureSurgery', 'ScoreStep']
