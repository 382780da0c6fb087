"""Questions about images, one or many at a time, as text or as a stream.

from mmseg_siglip.vlm import VisionChat

chat = VisionChat.from_pretrained('my_llava')
answer = chat('photo.jpg', 'What is nearest?')
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import LlavaProcessor, TextStreamer

from mmseg_siglip.io.image import ImageLike, read_image
from mmseg_siglip.vlm.assemble import PretrainedVLM
from mmseg_siglip.vlm.fusion import depth_statistics
from mmseg_siglip.vlm.processing import IMAGE_TOKEN


def prompt_of(processor: LlavaProcessor, question: str, *, image: bool = True) -> str:
    """The question in the model's chat template, with one ``<image>`` or without."""
    parts = [dict(type='image')] if image else []
    message = dict(role='user', content=[*parts, dict(type='text', text=question)])
    return processor.apply_chat_template([message], add_generation_prompt=True)


class VisionChat:
    """A LLaVA model to ask.

    Args:
        vlm: What `load_pretrained_model` or `build_llava` gave.
    """

    def __init__(self, vlm: PretrainedVLM) -> None:
        self.vlm = vlm
        self.model = vlm.model.eval()

    @classmethod
    def from_pretrained(cls, name_or_path: str, **options) -> VisionChat:
        """See `load_pretrained_model`."""
        from mmseg_siglip.vlm.loader import load_pretrained_model

        return cls(load_pretrained_model(name_or_path, **options))

    @torch.no_grad()
    def __call__(
        self,
        images: ImageLike | Sequence[ImageLike],
        question: str,
        *,
        depths: Sequence[np.ndarray | Tensor] | np.ndarray | Tensor | None = None,
        max_new_tokens: int = 256,
        on_text: Callable[[str], None] | None = None,
    ) -> str | list[str]:
        """The answer for an image, or for each of a list; the most likely words, no sampling.

        Args:
            images: See `read_image`.
            question: The same for all.
            depths: (H, W) in metres for each image, of the whole picture at any resolution; for a
                model with depth fusion, and needed there.
            max_new_tokens: Longest answer.
            on_text: Called with each piece of the answer as it comes; for one image.

        Raises:
            ValueError: An image or depth map does not fit, depth is missing or not wanted, the
                question holds ``<image>``, or prompt and answer exceed the model's context.
        """
        single = isinstance(images, (str, Path, Image.Image, np.ndarray, Tensor))
        images = [images] if single else list(images)
        if depths is not None and single:
            depths = [depths]
        if on_text is not None and len(images) > 1:
            raise ValueError(f'on_text: expected one image to stream for, found {len(images)}')
        if IMAGE_TOKEN in question:
            raise ValueError(f'question: expected no {IMAGE_TOKEN} in it; the image comes first')
        if not images:
            return []
        inputs = self._inputs(images, question, depths)
        length = inputs['input_ids'].shape[1]
        if length + max_new_tokens > self.vlm.context_len:
            raise ValueError(
                f'expected at most {self.vlm.context_len} tokens, the context of the model, found '
                f'{length} of image and question and {max_new_tokens} of the answer'
            )
        tokenizer = self.vlm.tokenizer
        streamer = None if on_text is None else _Pieces(tokenizer, on_text)
        generated = self.model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=tokenizer.pad_token_id,
            streamer=streamer,
        )
        texts = tokenizer.batch_decode(generated[:, length:], skip_special_tokens=True)
        answers = [text.strip() for text in texts]
        return answers[0] if single else answers

    def _inputs(self, images: Sequence[ImageLike], question: str, depths) -> dict[str, Tensor]:
        wanted = self.model.depth_fusion is not None
        if wanted and depths is None:
            raise ValueError('depths: expected a map for each image, this model fuses depth')
        if depths is not None and len(depths) != len(images):
            raise ValueError(f'depths: expected {len(images)}, found {len(depths)}')
        text = prompt_of(self.vlm.processor, question)
        batch = self.vlm.processor(
            images=[Image.fromarray(read_image(image)) for image in images],
            text=[text] * len(images),
            return_tensors='pt',
            padding=True,
            padding_side='left',
            return_attention_mask=True,
        )
        inputs = {key: batch[key] for key in ('input_ids', 'attention_mask', 'pixel_values')}
        if depths is not None:
            maps = [torch.as_tensor(depth) for depth in depths]
            inputs['depth_statistics'] = depth_statistics(
                maps, self.vlm.image_processor, self.model.config
            )
        return {key: value.to(self.model.device) for key, value in inputs.items()}


class _Pieces(TextStreamer):
    """Transformers' streamer, with a function in the place of the screen."""

    def __init__(self, tokenizer, on_text: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.on_text = on_text

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if text:
            self.on_text(text)
