"""Checkpoints of RSRefSeg's code as weights of a `ReferringSegmentor`.

The one place that knows their names: https://github.com/KyanChen/RSRefSeg. They are those of its
classes and configs; no released file was at hand to try.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

WRAPPERS = ('state_dict', 'module', 'model')
"""Entries that hold the weights: of MMEngine and Lightning, of DeepSpeed, of others."""
PREFIXES = ('module.', '_orig_mod.', 'model.')
"""What DDP, torch.compile and Lightning put in front of every name."""
LORA = r'(?:base_model\.model\.)?'
SIGLIP = 'encoder.backbone.model.'
TOWERS = (
    (rf'^clip_vision_encoder\.{LORA}model\.', f'{SIGLIP}vision_model.'),
    (rf'^clip_text_encoder\.{LORA}model\.', f'{SIGLIP}text_model.'),
    (rf'^clip_text_encoder\.{LORA}(logit_scale|logit_bias)$', rf'{SIGLIP}\1'),
)
"""Of SigLIP, here and in RSRefSeg 2."""
RENAMES = (
    *TOWERS,
    (rf'^backbone\.{LORA}model\.', 'sam.model.vision_encoder.'),
    (rf'^backbone\.{LORA}shared_image_embedding\.', 'sam.model.shared_image_embedding.'),
    (r'^sam_prompt_encoder\.model\.', 'sam.model.prompt_encoder.'),
    (r'^sam_mask_decoder\.model\.', 'sam.model.mask_decoder.'),
    (r'^prompter_down_channel\.conv\.', 'decode_head.activation.mix.'),
    (r'^prompter_down_channel\.bn\.', 'decode_head.norm.'),
)
DOWN = 'prompter_down_spatial'
POOLING = re.compile(r'^(clip_vision_encoder\..*\.head\..*?)\.(base_layer|lora_[AB]\.\w+)(\.\w+)$')
"""Adapted matrices of the vision tower's pooling head, on which nothing depends."""


def trained_weights(checkpoint: Mapping) -> dict[str, Tensor]:
    """The tensors of a training run, without the names that its framework put around them.

    Args:
        checkpoint: What an MMEngine, Lightning or DeepSpeed file (``mp_rank_00_model_states.pt``)
            holds, or the weights alone.
    """
    state = next((checkpoint[n] for n in WRAPPERS if isinstance(checkpoint.get(n), Mapping)), None)
    state = {
        name: value
        for name, value in (checkpoint if state is None else state).items()
        if isinstance(value, Tensor)
    }
    while state:
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None)
        if prefix is None:
            break
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def renamed(
    state: Mapping[str, Tensor], renames: Sequence[tuple[str, str]], *, kind: str
) -> dict[str, Tensor]:
    """Tensors by the first pattern of `renames` that fits their name.

    Adapters of SigLIP's vision pooling head are left out.

    Raises:
        ValueError: There is a tensor that no pattern fits, or none for a pattern; names `kind`.
    """
    result, used, strange = {}, set(), []
    for name, value in state.items():
        if match := POOLING.match(name):
            if match[2] != 'base_layer':
                continue
            name = match[1] + match[3]
        fit = next((rename for rename in renames if re.match(rename[0], name)), None)
        if fit is None:
            strange.append(name)
            continue
        used.add(fit)
        result[re.sub(*fit, name)] = value
    absent = [rename[1] for rename in renames if rename not in used]
    if strange or absent:
        found = f'none for {absent[0]}*' if absent else f'{len(result)} weights'
        others = f'{len(strange)} others (first {strange[0]})' if strange else 'no others'
        raise ValueError(f'expected the weights of {kind}, found {found} and {others}')
    return result


def from_rsrefseg(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An RSRefSeg's weights as those of the model of ``configs/refer_sam/rsrefseg_b.py`` or ``_l``.

    Adapters stay adapters: training can go on.

    Raises:
        ValueError: It holds a tensor that RSRefSeg has not, or lacks a part.
    """
    stages = [int(name.split('.')[1]) for name in state if name.startswith(f'{DOWN}.')]
    last = max(stages, default=0)  # has no norm, and here no module around it
    down = (
        (rf'^{DOWN}\.{last}\.conv\.', f'decode_head.prompter.down.{last}.'),
        (rf'^{DOWN}\.', 'decode_head.prompter.down.'),
    )
    return renamed(state, RENAMES + down, kind='an RSRefSeg')
