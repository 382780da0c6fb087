"""Your own photograph, your own words, three lines of Python.

    from mmseg_siglip.api.segment import OpenVocabSegmenter

    segmenter = OpenVocabSegmenter.from_pretrained('ViT-B/16')
    segmenter('photo.jpg', ['cat', 'dog', 'grass']).plot().save('photo_segmented.png')

Shapes: an image is (H, W); C classes; D joint channels; (h, w) the grid of patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from mmseg.structures import SegDataSample
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from mmseg_siglip.api.results import Segmentation
from mmseg_siglip.io.image import ImageLike, check_sides, check_tensor, read_image
from mmseg_siglip.models.labelling import merge_words
from mmseg_siglip.models.segmentors import CATSegSegmentor, SCLIPSegmentor
from mmseg_siglip.registry import MODELS, SCOPE
from mmseg_siglip.text.vocabulary import BACKGROUND, Vocabulary

METHODS = {
    'clip': 'vanilla',
    'maskclip': 'maskclip',
    'sclip': 'csa',
    'clearclip': 'clearclip',
    'naclip': 'naclip',
}
RESIZE = 1.5  # short side over the encoder's image size: 336 over 224, as SCLIP has it

Words = str | Path | Sequence[str] | Vocabulary


class OpenVocabSegmenter:
    """Segments images by words.

    Args:
        model: The segmentor.
        short_side: Pixels to which the short side of an image is resized first; None leaves it.
        background_index: The class that stands for everything else, whatever the words are. By
            default, the one that they mark.
    """

    def __init__(
        self,
        model: SCLIPSegmentor | CATSegSegmentor,
        *,
        short_side: int | None,
        background_index: int | None = None,
    ) -> None:
        self.model = model.eval()
        self.short_side = short_side
        self.background_index = background_index

    @classmethod
    def from_pretrained(
        cls,
        encoder: str,
        method: str = 'sclip',
        *,
        device: str | torch.device | None = None,
        precision: str = 'auto',
        short_side: int | None = None,
        background_index: int | None = None,
        **options,
    ) -> OpenVocabSegmenter:
        """Build a segmenter on an encoder's weights.

        Args:
            encoder: Whatever `build_encoder` takes: an OpenAI or open_clip name, a transformers
                folder or Hub id, a file, or the name of a checkpoint that ships along.
            method: A key of `METHODS`.
            device: By default the GPU, if there is one.
            precision: See `mmseg_siglip.precision`.
            short_side: By default 1.5 times the encoder's image size.
            background_index: See `OpenVocabSegmenter`.
            options: Further arguments of `SCLIPSegmentor`, but for its vocabulary.

        Raises:
            ValueError: No such method, no encoder there, or a vocabulary among the options.
        """
        if method not in METHODS:
            raise ValueError(f'unknown method {method!r}; expected one of {", ".join(METHODS)}')
        if 'vocabulary' in options:
            raise ValueError(
                "vocabulary: expected words in the segmenter's call, "
                f'found {options["vocabulary"]!r} here'
            )
        model = SCLIPSegmentor(
            dict(pretrained=encoder),
            [f'{BACKGROUND} object'],
            attention=METHODS[method],
            precision=precision,
            **options,
        )
        if device is None:
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
        side = short_side or round(RESIZE * min(model.backbone.image_size))
        return cls(model.to(device), short_side=side, background_index=background_index)

    @classmethod
    def from_config(
        cls,
        config: str | Path | Config,
        checkpoint: str | Path | None = None,
        *,
        device: str | torch.device | None = None,
        precision: str = 'auto',
        short_side: int | None = None,
    ) -> OpenVocabSegmenter:
        """Build a segmenter of a trained CAT-Seg.

        Args:
            config: A config of ``configs/cat_seg``, or its file.
            checkpoint: Weights written by training; the config's ``load_from`` if not given.
            device: By default the GPU, if there is one.
            precision: See `mmseg_siglip.precision`.
            short_side: By default the one that the config resizes test images to, if it does.

        Raises:
            ValueError: There are no weights, they do not fit, or the config is of another model.
        """
        config = read_config(config)
        model = load_trained(CATSegSegmentor, config, checkpoint, device=device)
        model.precision = precision
        return cls(model, short_side=short_side or short_side_of(config))

    def __call__(
        self, images: ImageLike | Sequence[ImageLike], words: Words
    ) -> Segmentation | list[Segmentation]:
        """Label every pixel with one of the words.

        Args:
            images: One image or a list of them: a path (turned upright by its EXIF orientation),
                a PIL image, an RGB array (H, W, 3) uint8, or an RGB tensor (3, H, W), uint8 or
                float in [0, 1].
            words: One class an item, synonyms after commas; or a vocabulary's name or file.

        Returns:
            One result for one image, a list for a list.

        Raises:
            ValueError: An image or a word cannot be used; the message names it.
        """
        single = isinstance(images, (str, Path, Image.Image, np.ndarray, Tensor))
        pixels = [read_image(image) for image in ([images] if single else images)]
        tensors = [torch.from_numpy(rgb).permute(2, 0, 1) for rgb in pixels]
        results = [
            Segmentation(labels.numpy(), scores.numpy(), self.model.vocabulary.names, rgb)
            for rgb, (labels, scores) in zip(
                pixels, self.segment_torch(tensors, words), strict=True
            )
        ]
        return results[0] if single else results

    @torch.no_grad()
    def segment_torch(
        self, images: Tensor | Sequence[Tensor], words: Words
    ) -> list[tuple[Tensor, Tensor]]:
        """The same on tensors.

        Args:
            images: (B, 3, H, W), or B tensors (3, H, W) of any sizes: RGB, uint8 or float in
                [0, 1].
            words: As in `__call__`.

        Returns:
            For each image, on the CPU, labels (H, W) int64 and scores (H, W) float32 in [0, 1].
        """
        self.use(words)
        images = [check_tensor(image) for image in images]
        inputs = [self._prepare(image) for image in images]
        samples = [SegDataSample(metainfo=dict(ori_shape=image.shape[-2:])) for image in images]
        self.model.predict(inputs, samples, return_scores=True)
        return [
            (sample.pred_sem_seg.data[0].cpu(), sample.scores.data[0].cpu()) for sample in samples
        ]

    @torch.no_grad()
    def compute_dense_similarity(self, image: ImageLike, class_names: Sequence[str]) -> Tensor:
        """Cosines between words and patches of the whole image, in one forward pass.

        Returns:
            (num_classes, H_feat, W_feat) float32 in [-1, 1]; of several words for one class, the
            highest.

        Raises:
            ValueError: The model was trained to look at cosines, and has none to show.
        """
        if not isinstance(self.model, SCLIPSegmentor):
            raise ValueError(
                'compute_dense_similarity: expected a segmenter made by from_pretrained, '
                f'found a {type(self.model).__name__}'
            )
        self.use(class_names)
        pixels = torch.from_numpy(read_image(image)).permute(2, 0, 1)
        (features,) = self.model.extract_feat([self._prepare(pixels)])
        features = normalize(features, dim=0)
        cosines = torch.einsum('dhw,qd->qhw', features, self.model.text)
        return merge_words(cosines, self.model.vocabulary.query_to_class).cpu()

    def use(self, words: Words) -> None:
        """Look for these words from now on."""
        vocabulary = Vocabulary.load(words)
        if vocabulary == self.model.vocabulary:
            return
        self.model.set_vocabulary(vocabulary, self.background_index)

    def _prepare(self, rgb: Tensor) -> Tensor:
        """(3, H, W) RGB, uint8 or float in [0, 1], resized and normalised, on the device."""
        preprocessor = self.model.data_preprocessor
        check_sides(*rgb.shape[-2:], 'an image')
        image = rgb.to(preprocessor.mean.device).float()
        image = image if rgb.dtype == torch.uint8 else 255 * image
        if self.short_side is not None:
            scale = self.short_side / min(rgb.shape[-2:])
            size = [max(round(side * scale), 1) for side in rgb.shape[-2:]]
            image = interpolate(image[None], size=size, mode='bilinear', antialias=True)[0]
        return (image - preprocessor.mean) / preprocessor.std


def short_side_of(config: Config) -> int | None:
    """What a config resizes the short side of its test images to, if it keeps their aspect."""
    for transform in config.test_dataloader.dataset.pipeline:
        if transform['type'] == 'Resize' and transform.get('keep_ratio'):
            return min(transform['scale'])
    return None


def read_config(config: str | Path | Config) -> Config:
    """A config, or that of a file.

    Raises:
        ValueError: There is no such file.
    """
    if isinstance(config, Config):
        return config
    if not Path(config).is_file():
        raise ValueError(f'config not found: there is no file {config}.')
    return Config.fromfile(config)


def load_trained(
    kind: type[nn.Module],
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
) -> nn.Module:
    """The trained model of a config, ready to predict.

    Args:
        kind: What it shall be.
        config: A config, or its file.
        checkpoint: Weights written by training; the config's ``load_from`` if not given.
        device: By default the GPU, if there is one.

    Raises:
        ValueError: There are no weights, they do not fit, or the config is of another model.
    """
    config = read_config(config)
    checkpoint = checkpoint or config.get('load_from')
    if checkpoint is None or not Path(checkpoint).is_file():
        raise ValueError(f'checkpoint not found: there is no file {checkpoint}.')
    with DefaultScope.overwrite_default_scope(SCOPE):
        model = MODELS.build(config.model)
    if not isinstance(model, kind):
        raise ValueError(
            f'{config.filename}: expected a {kind.__name__}, found {type(model).__name__}'
        )
    try:
        load_checkpoint(model, str(checkpoint), map_location='cpu', strict=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ValueError(f'{checkpoint} does not fit {config.filename}: {reason}') from error
    if device is None:
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    return model.to(device).eval()
