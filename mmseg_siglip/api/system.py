"""What people ask of images: one class a task, one way to call it.

Importing this is quick: systems, and what they are made of, come when they are asked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mmseg_siglip.lazy import LazyMapping

if TYPE_CHECKING:
    import numpy as np
    import torch
    from mmengine.config import Config

    from mmseg_siglip.io.image import ImageLike

SYSTEMS = LazyMapping(
    {
        'segment': 'mmseg_siglip.api.segment:OpenVocabSegmenter',
        'refer': 'mmseg_siglip.api.refer:ReferringSegmenter',
        'depth': 'mmseg_siglip.api.depth:DepthPredictor',
        'ask': 'mmseg_siglip.api.ask:VisionChat',
    }
)
"""Task to system."""


class System(ABC):
    """A model that answers for photographs.

    Attributes:
        task: Its key in `SYSTEMS`.
        asks: What it wants to be told beside images: ``words``, ``phrases``, a ``question``, or
            None.
        kind: The class of the models that are trained for it.
    """

    task: ClassVar[str]
    asks: ClassVar[str | None]
    kind: ClassVar[type]

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        device: str | torch.device | None = None,
        precision: str = 'auto',
        **options,
    ) -> System:
        """Build the system on published weights.

        Args:
            source: A name, file, folder or Hub id.
            device: By default the GPU, if there is one.
            precision: See `mmseg_siglip.precision`.
            options: The system's own.

        Raises:
            ValueError: There are no such weights, or they are not enough for this system.
        """
        raise ValueError(
            f'{cls.__name__}: expected from_config(config, checkpoint), which names a trained '
            f'model, found from_pretrained({str(source)!r})'
        )

    @classmethod
    def from_config(
        cls,
        config: str | Path | Config,
        checkpoint: str | Path | None = None,
        *,
        device: str | torch.device | None = None,
        precision: str = 'auto',
        **options,
    ) -> System:
        """Build the system of a model that was trained here.

        Args:
            config: The config that it was trained by, or its file.
            checkpoint: Weights written by training; the config's ``load_from`` if not given.
            device: By default the GPU, if there is one.
            precision: See `mmseg_siglip.precision`.
            options: The system's own.

        Raises:
            ValueError: There are no weights, they do not fit, or the config is of another model.
        """
        from mmseg_siglip.api.load import load_trained, read_config
        from mmseg_siglip.device import find_device
        from mmseg_siglip.precision import compute_dtype

        config, device = read_config(config), find_device(device)
        compute_dtype(precision, device)
        model = load_trained(cls.kind, config, checkpoint, device=device)
        return cls._of_trained(model, config, precision, **options)

    @classmethod
    def _of_trained(cls, model: Any, config: Config, precision: str) -> System:
        """The system of a model of `kind`."""
        model.precision = precision
        return cls(model)

    def __call__(
        self, images: ImageLike | Sequence[ImageLike], prompt: Any = None, **options
    ) -> Any:
        """What the system says about images.

        Args:
            images: One image or a list of them, of any sizes: a path (turned upright by its EXIF
                orientation), a PIL image, an RGB array (H, W, 3) uint8, or an RGB tensor
                (3, H, W), uint8 or float in [0, 1].
            prompt: What the system `asks` for.
            options: See `torch`.

        Returns:
            One `Result` for one image, a list for a list; where several phrases are asked for, a
            list of them in the place of each.

        Raises:
            ValueError: An image or the prompt cannot be used; the message names it.
        """
        from mmseg_siglip.api.images import as_tensor, is_single, read_images

        prompt, pixels = self.check_prompt(prompt), read_images(images)
        outputs = self.torch([as_tensor(rgb) for rgb in pixels], prompt, **options)
        results = [
            self._result(rgb, output, prompt) for rgb, output in zip(pixels, outputs, strict=True)
        ]
        return results[0] if is_single(images) else results

    @abstractmethod
    def torch(self, images: torch.Tensor | Sequence[torch.Tensor], prompt: Any = None) -> list:
        """The same on tensors.

        Args:
            images: (B, 3, H, W), or B tensors (3, H, W) of any sizes: RGB, uint8 or float in
                [0, 1].
            prompt: As in `__call__`.

        Returns:
            What results are made of, for each image, on the CPU.
        """

    def check_prompt(self, prompt: Any) -> Any:
        """`prompt`, if the system can be asked that; it is told so before any image is read.

        Raises:
            ValueError: It cannot; the message says why.
        """
        if (prompt is None) != (self.asks is None):
            wanted = f'{self.asks} beside images' if self.asks else 'images alone'
            raise ValueError(f'{type(self).__name__}: expected {wanted}, found {prompt!r}')
        return prompt

    @abstractmethod
    def _result(self, rgb: np.ndarray, output: Any, prompt: Any) -> Any:
        """One image's output as a `Result`, or a list of them."""
