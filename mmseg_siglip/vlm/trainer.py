"""Training a LLaVA model, or parts of it, on MMEngine's Runner.

Shapes: B samples, N image tokens, T tokens of a conversation, K depth statistics.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmseg_siglip.precision import training_attention
from mmseg_siglip.registry import MODELS
from mmseg_siglip.vlm.assemble import build_llava, require_gradients
from mmseg_siglip.vlm.finite import RefuseNaN
from mmseg_siglip.vlm.fusion import check_depths, depth_statistics
from mmseg_siglip.vlm.generation import generating_by, greedy
from mmseg_siglip.vlm.llava import feature_layers
from mmseg_siglip.vlm.naflex import is_naflex
from mmseg_siglip.vlm.processing import IMAGE_TOKEN, check_question, prompt_of

IGNORED = -100
SHAPELESS = ('num_attention_heads', 'num_key_value_heads', 'hidden_act')


@MODELS.register_module()
class LlavaTrainer(BaseModel):
    """A LLaVA model that learns to answer questions about images.

    A batch is a list of images, (3, H, W) uint8, RGB, of any sizes, and a list of samples:
    ``question``, ``answer``, maybe ``further`` pairs of them, and ``depth`` (H, W) in metres if
    depth is fused. The loss is on the answers alone. Images go through the model's own image
    processor, prompts through its chat template, so training and use see the same.

    Args:
        vision, llm, tokenizer, projector, image_size, select_layer: See `build_llava`.
        train: Parts that learn: some of ``vision`` (up to the layer selected), ``projector``,
            ``fusion``, ``llm``.
        depth: Options of ``add_depth_fusion``; None leaves depth out.
        use_image: Whether the model sees the image; without, it is the blind baseline.
        attention: Implementation while training, see `training_attention`.
        max_new_tokens: Longest answer, its end included; true ones must not be longer.

    Raises:
        ValueError: See `build_llava`; or a part is not there, or is not read without images, or the
            tokenizer has no end. Of a batch: a sample lacks something, is no such image, or is
            longer than the model's context or `max_new_tokens`.
    """

    def __init__(
        self,
        vision: str,
        llm: str | Mapping,
        *,
        tokenizer: str | None = None,
        projector: str = 'mlp2x_gelu',
        image_size: int | tuple[int, int] | None = None,
        select_layer: int = -2,
        train: Sequence[str] = ('projector', 'fusion'),
        depth: Mapping | None = None,
        use_image: bool = True,
        attention: str = 'auto',
        max_new_tokens: int = 8,
    ) -> None:
        super().__init__()
        if not use_image and set(train) != {'llm'}:
            raise ValueError(
                f"use_image=False: expected train=('llm',), all that is read, found {tuple(train)}"
            )
        self.vlm = build_llava(
            vision,
            llm,
            projector=projector,
            image_size=image_size,
            tokenizer=tokenizer,
            select_layer=select_layer,
        )
        self.llava = self.vlm.model
        if is_naflex(self.llava.config.vision_config):
            raise ValueError(
                f'vision: expected an encoder of fixed resolution, found {vision}, a NaFlex one, '
                'whose images differ in tokens'
            )
        if self.vlm.tokenizer.eos_token_id is None:
            raise ValueError(
                f'{tokenizer or llm}: expected a tokenizer with an end token (eos_token), by which '
                'answers end, found none'
            )
        if depth is not None:
            self.llava.add_depth_fusion(depth)
        if depth is None and 'fusion' in train:
            train = tuple(part for part in train if part != 'fusion')
        require_gradients(self.llava, train)
        self.llava.set_attn_implementation(training_attention(attention))
        self.train_parts, self.use_image = tuple(train), use_image
        self.max_new_tokens = max_new_tokens

    @property
    def learnt_with(self) -> tuple[str, ...]:
        fused = self.llava.depth_fusion is not None
        return 'use_image', 'layers', 'towers', *(('depth',) if fused else ())

    @property
    def layers(self) -> tuple[int, ...]:
        return feature_layers(self.llava.config)

    @property
    def towers(self) -> dict[str, dict[str, Any]]:
        """What of the encoder and of the language model no weight has the shape of."""
        parts = dict(vision=self.llava.config.vision_config, llm=self.llava.config.text_config)
        return {
            name: {key: getattr(part, key) for key in SHAPELESS if hasattr(part, key)}
            for name, part in parts.items()
        }

    @property
    def depth(self) -> dict[str, Any]:
        """Options of the fusion."""
        return self.llava.config.depth_fusion

    def init_weights(self) -> None:
        """Do nothing: weights were set at construction."""

    def forward(
        self, inputs: Sequence[Tensor], data_samples: Sequence[BaseDataElement], mode: str = 'loss'
    ) -> dict[str, Tensor] | list[BaseDataElement]:
        """``loss``: a dict of scalars; ``predict``: the samples with ``pred_answer``."""
        if mode == 'loss':
            return self._loss(inputs, data_samples)
        if mode == 'predict':
            return self._predict(inputs, data_samples)
        raise ValueError(f'mode: expected loss or predict, found {mode!r}')

    def _loss(
        self, inputs: Sequence[Tensor], samples: Sequence[BaseDataElement]
    ) -> dict[str, Tensor]:
        talks = [
            self._conversation(prompt, sample)
            for prompt, sample in zip(self._prompts(samples), samples, strict=True)
        ]
        rows, labels = zip(*talks, strict=True)
        for row, sample in zip(rows, samples, strict=True):
            self._check_context(len(row), 0, sample)
        ids, mask = self._pad(rows, side='right')
        labels = pad_sequence(
            [torch.tensor(row) for row in labels], batch_first=True, padding_value=IGNORED
        ).to(ids.device)
        states = self.llava.model(
            input_ids=ids, attention_mask=mask, **self._visual(inputs, samples)
        ).last_hidden_state
        # The head on the answers' places alone: that is all that the loss reads.
        places = labels[:, 1:] != IGNORED
        logits = self.llava.lm_head(states[:, :-1][places])
        loss = torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][places])
        return dict(loss=loss)

    def _predict(
        self, inputs: Sequence[Tensor], samples: Sequence[BaseDataElement]
    ) -> list[BaseDataElement]:
        prompts = self._prompts(samples)
        for prompt, sample in zip(prompts, samples, strict=True):
            self._check_context(len(prompt), self.max_new_tokens, sample)
            self._check_answer(sample)
        ids, mask = self._pad(prompts, side='left')
        with generating_by(self.llava, greedy(self.llava, self.vlm.tokenizer)):
            generated = self.llava.generate(
                input_ids=ids,
                attention_mask=mask,
                **self._visual(inputs, samples),
                max_new_tokens=self.max_new_tokens,
                logits_processor=[RefuseNaN([name_of(sample) for sample in samples])],
                pad_token_id=self.vlm.tokenizer.pad_token_id,
            )
        texts = self.vlm.tokenizer.batch_decode(
            generated[:, ids.shape[1] :], skip_special_tokens=True
        )
        for sample, text in zip(samples, texts, strict=True):
            sample.pred_answer = text.strip()
        return list(samples)

    def _visual(
        self, inputs: Sequence[Tensor], samples: Sequence[BaseDataElement]
    ) -> dict[str, Tensor]:
        """``pixel_values`` and ``depth_statistics``, as far as the model takes them."""
        if not self.use_image:
            return {}
        for image, sample in zip(inputs, samples, strict=True):
            if image.dtype != torch.uint8 or image.dim() != 3 or image.shape[0] != 3:
                raise ValueError(
                    f'{name_of(sample)}: expected an RGB image (3, H, W) of uint8, found '
                    f'{tuple(image.shape)} of {image.dtype}'
                )
        images = self.vlm.image_processor(list(inputs), return_tensors='pt')
        device = self.llava.device
        found = dict(pixel_values=images.pixel_values.to(device))
        if self.llava.depth_fusion is not None:
            depths = [needed(sample, 'depth') for sample in samples]
            pictures = [tuple(image.shape[-2:]) for image in inputs]
            check_depths(depths, pictures, self.vlm.image_processor, self.llava.config)
            statistics = depth_statistics(depths, self.vlm.image_processor, self.llava.config)
            found['depth_statistics'] = statistics.to(device)
        return found

    def _prompts(self, samples: Sequence[BaseDataElement]) -> list[list[int]]:
        """Token ids up to the answer, placeholders repeated for each image token."""
        tokens = self.llava.config.image_seq_length
        texts = [
            self._prompt(sample, needed(sample, 'question'), image=self.use_image).replace(
                IMAGE_TOKEN, IMAGE_TOKEN * tokens
            )
            for sample in samples
        ]
        return self.vlm.tokenizer(texts)['input_ids']

    def _prompt(self, sample: BaseDataElement, question: str, *, image: bool) -> str:
        try:
            return prompt_of(self.vlm.processor, check_question(question), image=image)
        except ValueError as error:
            raise ValueError(f'{name_of(sample)}: {error}') from None

    def _conversation(
        self, prompt: list[int], sample: BaseDataElement
    ) -> tuple[list[int], list[int]]:
        """Ids of all turns, and the same with `IGNORED` where the user speaks."""
        answer = self._answer_ids(needed(sample, 'answer'), sample)
        ids, labels = prompt + answer, [IGNORED] * len(prompt) + answer
        for question, text in sample.get('further', ()):
            asked = self._prompt(sample, question, image=False)
            asked = self.vlm.tokenizer(asked, add_special_tokens=False)['input_ids']
            answer = self._answer_ids(text, sample)
            ids, labels = ids + asked + answer, labels + [IGNORED] * len(asked) + answer
        return ids, labels

    def _answer_ids(self, answer: str, sample: BaseDataElement) -> list[int]:
        """Raises: ValueError: It is no text, or blank, or holds special tokens."""
        tokenizer = self.vlm.tokenizer
        if not isinstance(answer, str) or not answer.strip():
            raise ValueError(f'{name_of(sample)}: answer: expected text, found {answer!r}')
        ids = tokenizer(f' {answer}', add_special_tokens=False)['input_ids']
        if tokenizer.decode(ids) != tokenizer.decode(ids, skip_special_tokens=True):
            raise ValueError(
                f'{name_of(sample)}: answer: expected no special tokens in it, of which '
                f'predictions show none, found {answer!r}'
            )
        return [*ids, tokenizer.eos_token_id]

    def _check_context(self, length: int, more: int, sample: BaseDataElement) -> None:
        """Raises: ValueError: The model was not made for so many tokens."""
        if length + more > self.vlm.context_len:
            raise ValueError(
                f'{name_of(sample)}: expected at most {self.vlm.context_len} tokens, the context '
                f'of the model, found {length}' + (f' and {more} of the answer' if more else '')
            )

    def _check_answer(self, sample: BaseDataElement) -> None:
        """Raises: ValueError: A prediction as long as the true answer would not be known to end."""
        if sample.get('answer') is None:
            return
        length = len(self._answer_ids(sample.answer, sample))
        if length > self.max_new_tokens:
            raise ValueError(
                f'{name_of(sample)}: max_new_tokens: expected {length} or more, as the true '
                f'answer {sample.answer!r} has with its end, found {self.max_new_tokens}; '
                'predictions would be cut'
            )

    def _pad(self, rows: Sequence[Sequence[int]], *, side: str) -> tuple[Tensor, Tensor]:
        """(B, T) ids and mask."""
        tensors = [torch.tensor(row) for row in rows]
        ids = pad_sequence(
            tensors,
            batch_first=True,
            padding_value=self.vlm.tokenizer.pad_token_id,
            padding_side=side,
        )
        mask = pad_sequence(
            [torch.ones_like(row) for row in tensors], batch_first=True, padding_side=side
        )
        return ids.to(self.llava.device), mask.to(self.llava.device)

    def save_pretrained(self, folder: str | Path) -> None:
        """A folder for `load_pretrained_model` and ``python -m mmseg_siglip.vlm``.

        Neither knows of ``use_image=False``, of which a warning tells.
        """
        if not self.use_image:
            warnings.warn(
                f'{folder}: its language model was trained without images (use_image=False), which '
                'who loads it will show it: answers have nothing to do with them',
                stacklevel=2,
            )
        self.vlm.save_pretrained(folder)


def name_of(sample: BaseDataElement) -> str:
    return str(sample.get('img_path', sample.get('name', 'a sample')))


def needed(sample: BaseDataElement, field: str) -> Any:
    """A field of a sample.

    Raises:
        ValueError: It has none.
    """
    value = sample.get(field)
    if value is None:
        raise ValueError(f'{name_of(sample)}: expected its {field}, found none')
    return value
