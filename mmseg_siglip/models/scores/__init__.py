from mmseg_siglip.models.scores.step import ScoreStep

__all__ = ['ScoreStep']
