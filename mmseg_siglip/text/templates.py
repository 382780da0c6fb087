"""Prompt templates: sentences in which ``{}`` stands for a class word."""

from __future__ import annotations

from collections.abc import Sequence

from open_clip import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

from mmseg_siglip.misspelt import did_you_mean

SLOT = '{}'
SINGLE = 'a photo of a {}.'

TEMPLATES = {
    'imagenet80': tuple(template(SLOT) for template in OPENAI_IMAGENET_TEMPLATES),
    'imagenet8': (SINGLE, *(template(SLOT) for template in SIMPLE_IMAGENET_TEMPLATES)),
    'single': (SINGLE,),
    'plain': (SLOT,),
    'cat_seg': ('A photo of a {} in the scene',),
}
"""The named sets: OpenAI's 80 for ImageNet; CLIP's own subset of 7, chosen on ImageNet
(https://github.com/openai/CLIP, notebooks/Prompt_Engineering_for_ImageNet.ipynb), with the single
template in front; that single template; and the bare word."""


def get_templates(source: str | Sequence[str]) -> tuple[str, ...]:
    """A named set, or a list of templates of one's own.

    Raises:
        ValueError: No set has that name, the list is empty, or a template has not exactly one slot.
    """
    if isinstance(source, str):
        if source not in TEMPLATES:
            raise ValueError(
                f'unknown templates {source!r}; expected one of {", ".join(TEMPLATES)}, '
                f'or a list of sentences with {SLOT}{did_you_mean(source, TEMPLATES)}'
            )
        return TEMPLATES[source]
    if not source:
        raise ValueError('templates: expected at least one sentence, found an empty list')
    for template in source:
        if template.count(SLOT) != 1:
            raise ValueError(f'template {template!r}: expected {SLOT} exactly once')
    return tuple(source)
