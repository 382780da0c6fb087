from mmseg_siglip.models.scores.key_smoothing import KeySmoothing
from mmseg_siglip.models.scores.step import ScoreStep

__all__ = ['KeySmoothing', 'ScoreStep']
