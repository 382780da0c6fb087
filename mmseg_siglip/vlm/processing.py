"""Image processors at the tower's size, and the processor that puts images and text together."""

from __future__ import annotations

from transformers import (
    AutoImageProcessor,
    LlavaImageProcessor,
    LlavaProcessor,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    SiglipImageProcessor,
)
from transformers.image_processing_utils import BaseImageProcessor

from mmseg_siglip.models.sizes import check_size_asked
from mmseg_siglip.vlm.naflex import NaFlexLlavaProcessor, is_naflex, look_of
from mmseg_siglip.vlm.strategy import in_transformers
from mmseg_siglip.vlm.vision import CLIP_TYPES, num_prefix
from mmseg_siglip.weights.transformers_model import load_part

IMAGE_TOKEN = '<image>'

# Templates of language models take strings; this makes one string of a list of parts.
FLATTEN = (
    '{%- set flat = namespace(messages=[]) -%}'
    '{%- for message in messages -%}'
    '{%- if message.content is string -%}'
    '{%- set text = message.content -%}'
    '{%- else -%}'
    "{%- set parts = namespace(text='') -%}"
    '{%- for part in message.content -%}'
    "{%- if part.type == 'image' -%}"
    "{%- set parts.text = parts.text + '<image>\\n' -%}"
    '{%- else -%}'
    '{%- set parts.text = parts.text + part.text -%}'
    '{%- endif -%}'
    '{%- endfor -%}'
    '{%- set text = parts.text -%}'
    '{%- endif -%}'
    "{%- set flat.messages = flat.messages + [{'role': message.role, 'content': text}] -%}"
    '{%- endfor -%}'
    '{%- set messages = flat.messages -%}'
)
# LLaVA 1.5: "USER: <image>\nquestion ASSISTANT: answer".
PLAIN = (
    '{%- for message in messages -%}'
    "{{ message.role.upper() + ': ' + message.content + ' ' }}"
    '{%- endfor -%}'
    "{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}"
)


def load_own_processor(source: str, *, revision: str | None = None) -> BaseImageProcessor:
    """The image processor of a vision checkpoint as it is.

    Raises:
        ValueError: The checkpoint brings none.
    """
    missing = (
        'expected an image processor (preprocessor_config.json) beside the weights, found none '
        'that loads'
    )
    return load_part(AutoImageProcessor, source, missing, revision=revision, backend='torchvision')


def load_image_processor(
    source: str, config: PretrainedConfig, *, size: tuple[int, int], revision: str | None = None
) -> BaseImageProcessor:
    """The processor of a vision checkpoint, set to give images of `size` (H, W).

    It has ``crop_size`` also for SigLIP, which LLaVA's training code reads. NaFlex checkpoints get
    SigLIP's processor with their own statistics, since theirs gives patches, not images.

    Raises:
        ValueError: The checkpoint brings none.
    """
    processor = load_own_processor(source, revision=revision)
    if is_naflex(config):
        processor = SiglipImageProcessor(**look_of(processor))
    set_size(processor, config, size)
    return processor


def set_size(
    processor: BaseImageProcessor, config: PretrainedConfig, size: tuple[int, int]
) -> None:
    """Make a processor give images of (H, W): SigLIP's squeezes, CLIP's crops the middle."""
    box = dict(height=size[0], width=size[1])
    if config.model_type in CLIP_TYPES and getattr(processor, 'do_center_crop', False):
        processor.size = dict(shortest_edge=max(size))
    else:
        processor.size = dict(box)
    processor.crop_size = dict(box)


def pad_to_square(processor: BaseImageProcessor) -> LlavaImageProcessor:
    """One that does the same to the image padded to a square with the mean colour, as LLaVA 1.5."""
    return LlavaImageProcessor(
        do_pad=True,
        size=dict(processor.size),
        crop_size=dict(processor.crop_size),
        do_center_crop=bool(getattr(processor, 'do_center_crop', False)),
        **look_of(processor),
    )


def get_size(processor: BaseImageProcessor) -> tuple[int, int]:
    """(H, W) of the images that a processor gives."""
    box = processor.crop_size if getattr(processor, 'do_center_crop', False) else processor.size
    return check_size_asked((box.get('height'), box.get('width')), 'image processor')


def make_processor(
    image_processor: BaseImageProcessor,
    tokenizer: PreTrainedTokenizerBase,
    config: PretrainedConfig,
    strategy: str,
) -> LlavaProcessor:
    """Transformers' processor with as many placeholders as there will be features, also of NaFlex.

    Its chat template is the language model's own, or LLaVA 1.5's, and takes images.
    """
    kind = NaFlexLlavaProcessor if hasattr(image_processor, 'max_num_patches') else LlavaProcessor
    return kind(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=config.patch_size,
        vision_feature_select_strategy=in_transformers(strategy),
        num_additional_image_tokens=num_prefix(config),
        chat_template=FLATTEN + (tokenizer.chat_template or PLAIN),
        image_token=IMAGE_TOKEN,
    )


def check_question(question: object) -> str:
    """`question`, if it is one.

    Raises:
        ValueError: It is no text, or blank, or holds ``<image>``.
    """
    if not isinstance(question, str) or not question.strip():
        raise ValueError(f'question: expected text, found {question!r}')
    if IMAGE_TOKEN in question:
        raise ValueError(f'question: expected no {IMAGE_TOKEN} in it; the image comes first')
    return question


def prompt_of(processor: LlavaProcessor, question: str, *, image: bool = True) -> str:
    """The question in the model's chat template, with one ``<image>`` or without.

    A token that begins every text is left to the tokenizer where that adds it: templates have it as
    well, and a model has never seen two.

    Raises:
        ValueError: The tokenizer adds one that ends every text, after which there is no answer; or
            the template leaves the question out.
    """
    parts = [dict(type='image')] if image else []
    prompt, other = (
        processor.apply_chat_template(
            [dict(role='user', content=[*parts, dict(type='text', text=text)])],
            add_generation_prompt=True,
        )
        for text in (question, f'{question}?')
    )
    if prompt == other:
        raise ValueError(
            f'chat_template: expected a prompt that holds the question {question[:80]!r}, found '
            f'{prompt[:200]!r}, which it gives for another one, too'
        )
    tokenizer = processor.tokenizer
    ids = tokenizer('a')['input_ids']
    if ids[-1] == tokenizer.eos_token_id:
        raise ValueError(
            f'tokenizer: expected prompts that go on, found {tokenizer.eos_token} added to their '
            'end; see add_eos_token in tokenizer_config.json'
        )
    begins = tokenizer.bos_token is not None and ids[0] == tokenizer.bos_token_id
    return prompt.removeprefix(tokenizer.bos_token) if begins else prompt
