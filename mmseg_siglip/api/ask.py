"""Questions about images, one or many at a time, as text or as a stream.

from mmseg_siglip.api import VisionChat

chat = VisionChat.from_pretrained('my_llava')
answer = chat('photo.jpg', 'What is nearest?')
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image
from torch import Tensor, no_grad
from transformers import TextStreamer

from mmseg_siglip.api.images import is_single
from mmseg_siglip.api.model_card import CardFacts, write_card
from mmseg_siglip.api.results import Answer
from mmseg_siglip.api.system import System
from mmseg_siglip.api.system_folder import SystemFolder, as_dtype
from mmseg_siglip.io.image import ImageLike, read_image
from mmseg_siglip.misspelt import check_options
from mmseg_siglip.vlm.assemble import PretrainedVLM
from mmseg_siglip.vlm.finite import RefuseNaN
from mmseg_siglip.vlm.fusion import check_depths, depth_statistics
from mmseg_siglip.vlm.generation import ends_of, greedy
from mmseg_siglip.vlm.loader import load_pretrained_model, place
from mmseg_siglip.vlm.processing import check_question, prompt_of
from mmseg_siglip.vlm.trainer import LlavaTrainer
from mmseg_siglip.weights.finite import refuse_not_finite

SIZES = ('image_sizes', 'spatial_shapes')
READ = ('input_ids', 'attention_mask', 'pixel_values', 'pixel_attention_mask', 'batch_num_images')
READ += SIZES
"""What models take of what a processor gives, from the fourth on where images differ in tokens."""
Depths = Sequence[np.ndarray | Tensor]


class VisionChat(System):
    """A LLaVA model to ask: an `Answer`, the most likely words, no sampling.

    Args:
        vlm: What `load_pretrained_model` or `build_llava` gave.

    Examples:
        >>> from mmseg_siglip.vlm import VisionChat, build_llava
        >>> from mmseg_siglip.datasets.shapes_world.scene import generate, scene_seed
        >>> image = generate(scene_seed('test', 0), size=(64, 96)).image  # or 'photo.jpg'
        >>> llm = dict(  # or a folder or Hub id
        ...     model_type='llama', vocab_size=381, hidden_size=32, intermediate_size=48,
        ...     num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=512,
        ... )
        >>> vlm = build_llava('tiny_siglip_shapes', llm, tokenizer='shapes_questions')  # untrained
        >>> answer = VisionChat(vlm)(image, 'What is nearest?', max_new_tokens=4)
        >>> answer.question
        'What is nearest?'
    """

    task, asks, kind, gives = 'ask', 'question', LlavaTrainer, Answer
    own_folders = False

    def __init__(self, vlm: PretrainedVLM) -> None:
        self.vlm = vlm
        self.model = vlm.model.eval()
        self.model.generation_config = greedy(self.model, vlm.tokenizer)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path | Mapping,
        *,
        device: str | torch.device | None = None,
        precision: str = 'auto',
        **options,
    ) -> VisionChat:
        """See `load_pretrained_model`, which takes the options."""
        check_options(
            options,
            cls.from_pretrained,
            load_pretrained_model,
            but=('source', 'config_or_path'),
            what=f'{cls.__name__}.from_pretrained',
        )
        vlm = load_pretrained_model(source, device=device, precision=precision, **options)
        return cls(vlm)

    def save_pretrained(
        self, folder: str | Path, *, dtype: str = 'float32', facts: CardFacts | None = None
    ) -> None:
        """Write the whole model in the layout of transformers, whose own LLaVA classes load it.

        It generates there as here: other settings of the checkpoint's ``generation_config.json``
        than special tokens are not written.

        Args:
            folder: Its place.
            dtype: Number format of the weights that are written.
            facts: What the card says of data, results, limits and licence.

        Raises:
            ValueError: There is no such number format, or a weight is too large for it.
        """
        wanted, vlm = as_dtype(dtype), self.vlm
        if self.model.dtype != wanted:
            vlm = PretrainedVLM.of(deepcopy(self.model).to(wanted), vlm.processor)
        refuse_not_finite(vlm.model.state_dict(), f'the model as {dtype}')
        vlm.save_pretrained(folder)
        described = dict(type=type(self.model).__name__)
        saved = SystemFolder(Path(folder), self.task, described, {}, '', {})
        write_card(saved, type(self).__name__, self.asks, facts or CardFacts())

    @classmethod
    def _of_trained(cls, model: LlavaTrainer, config: Config, precision: str) -> VisionChat:
        if not model.use_image:
            raise ValueError(
                f'{config.filename}: expected a model that has seen images, found one trained with '
                'use_image=False, whose answers have nothing to do with them'
            )
        return cls(place(model.vlm, model.llava.device, precision))

    def check_prompt(self, prompt: str | None) -> str:
        """A question, the same for all images.

        Raises:
            ValueError: See `check_question`.
        """
        return check_question(super().check_prompt(prompt))

    def __call__(
        self,
        images: ImageLike | Sequence[ImageLike],
        prompt: str | None = None,
        *,
        depths: Depths | np.ndarray | Tensor | None = None,
        **options,
    ) -> Answer | list[Answer]:
        """See `System`; of one image, `depths` is its map."""
        if depths is not None and is_single(images):
            depths = [depths]
        return super().__call__(images, prompt, depths=depths, **options)

    @no_grad()
    def torch(
        self,
        images: Tensor | Sequence[Tensor],
        question: str,
        *,
        depths: Depths | None = None,
        max_new_tokens: int = 256,
        on_text: Callable[[str], None] | None = None,
    ) -> list[Words]:
        """The answer about each image, `Words` that know whether they came to an end.

        Args:
            images: (B, 3, H, W), or B tensors (3, H, W), uint8 or float in [0, 1].
            question: The same for all.
            depths: (H, W) in metres for each image, of the whole picture at any resolution; for a
                model with depth fusion, and needed there.
            max_new_tokens: Longest answer; what is longer is cut there.
            on_text: Called with each piece of the answer as it comes; for one image.

        Raises:
            ValueError: An image or depth map does not fit, depth is missing or not wanted, the
                question holds ``<image>``, or prompt and answer exceed the model's context.
        """
        if on_text is not None and len(images) > 1:
            raise ValueError(f'on_text: expected one image to stream for, found {len(images)}')
        question = self.check_prompt(question)
        if not len(images):
            return []
        inputs = self._inputs(images, question, depths)
        length = inputs['input_ids'].shape[1]
        if length + max_new_tokens > self.vlm.context_len:
            raise ValueError(
                f'expected at most {self.vlm.context_len} tokens, the context of the model, found '
                f'{length} of image and question and {max_new_tokens} of the answer'
            )
        tokenizer = self.vlm.tokenizer
        names = [f'image {i + 1} of {len(images)}' for i in range(len(images))]
        streamer = None if on_text is None else _Pieces(tokenizer, on_text)
        generated = self.model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            pad_token_id=tokenizer.pad_token_id,
            logits_processor=[RefuseNaN(names)],
            streamer=streamer,
        )
        texts = tokenizer.batch_decode(generated[:, length:], skip_special_tokens=True)
        ends = torch.tensor(ends_of(self.model.generation_config.eos_token_id))
        ended = torch.isin(generated[:, length:].cpu(), ends).any(1).tolist()
        return [Words(text, end) for text, end in zip(texts, ended, strict=True)]

    def _result(self, rgb: np.ndarray, output: Words, prompt: str) -> Answer:
        return Answer(output, prompt, rgb, complete=output.complete)

    def _inputs(
        self, images: Sequence[Tensor], question: str, depths: Depths | None
    ) -> dict[str, Any]:
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
        inputs = {key: batch[key] for key in READ if key in batch}
        if depths is not None:
            maps = [torch.as_tensor(depth) for depth in depths]
            pictures = [tuple(image.shape[-2:]) for image in images]
            check_depths(maps, pictures, self.vlm.image_processor, self.model.config)
            sizes = next((batch[name] for name in SIZES if name in batch), None)
            inputs['depth_statistics'] = depth_statistics(
                maps, self.vlm.image_processor, self.model.config, sizes=sizes
            )
        return {key: value.to(self.model.device) for key, value in inputs.items()}


class Words(str):
    """Text without blanks around it.

    Attributes:
        complete: Whether it ended, or the tokens that it may have were used up.
    """

    complete: bool

    def __new__(cls, text: str, complete: bool) -> Words:
        words = super().__new__(cls, text.strip())
        words.complete = complete
        return words


class _Pieces(TextStreamer):
    """Transformers' streamer, with a function in the place of the screen."""

    def __init__(self, tokenizer, on_text: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.on_text = on_text

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if text:
            self.on_text(text)
