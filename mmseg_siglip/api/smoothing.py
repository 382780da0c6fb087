"""Less flicker from frame to frame of a video.

Shapes: scores are (C, H, W), probabilities of C classes, or (H, W), depth.
"""

from __future__ import annotations

from torch import Tensor


class ExponentialAverage:
    """Mixes each frame's scores with those of all frames before it.

    With p(t) the scores of frame t and s the strength, m(0) = p(0) and
    m(t) = s m(t - 1) + (1 - s) p(t): what was seen n frames ago counts s^n as much.

    Args:
        strength: s, from 0, which changes nothing, to below 1.

    Raises:
        ValueError: It is out of range.
    """

    def __init__(self, strength: float) -> None:
        if not 0 <= strength < 1:
            raise ValueError(f'smooth: expected 0 to below 1, found {strength}')
        self.strength = strength
        self._mean: Tensor | None = None

    def __call__(self, scores: Tensor) -> Tensor:
        """m(t) of the next frame; frames of another shape begin anew."""
        if self._mean is None or self._mean.shape != scores.shape:
            self._mean = scores.clone()
        else:
            self._mean.mul_(self.strength).add_(scores, alpha=1 - self.strength)
        return self._mean
