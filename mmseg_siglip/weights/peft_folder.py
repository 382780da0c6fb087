"""Adapters of another checkpoint's weights, as peft saves them: LoRA, added to these weights.

Nothing of peft runs: names and formulas are those of its folders.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmseg_siglip.weights.checkpoint import load_checkpoint_file
from mmseg_siglip.weights.finite import refuse_not_finite
from mmseg_siglip.weights.json_file import read_object

CONFIG = 'adapter_config.json'
WEIGHTS = ('adapter_model.safetensors', 'adapter_model.bin')
PREFIX = 'base_model.model.'
READ = dict(
    peft_type='LORA',
    use_dora=False,
    use_qalora=False,
    fan_in_fan_out=False,
    layer_replication=None,
)
STARTS = (True, False, None, 'gaussian', 'orthogonal', 'eva')
"""Values of ``init_lora_weights`` under which training begins at the base's own weights; the others
(PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) take a part out of them first."""
MOST_ALPHA = 1e6
LORA = re.compile(r'^(.+)\.lora_([AB])\.weight$')


@dataclass(frozen=True)
class Adapters:
    """A folder of adapters.

    Attributes:
        folder: Where they lie.
        base: Folder or Hub id of the weights that they belong to.
        revision: Commit of that id.
    """

    folder: Path
    base: str
    revision: str | None

    @classmethod
    def of(cls, folder: Path) -> Adapters | None:
        """The adapters of a folder that holds no weights of its own, else None.

        Raises:
            ValueError: They are of no LoRA, or do not say what they belong to.
        """
        if not (folder / CONFIG).is_file() or (folder / 'config.json').is_file():
            return None
        config = read_object(folder / CONFIG)
        for name, expected in READ.items():
            if config.get(name, expected) not in (expected, None):
                raise ValueError(
                    f'{folder / CONFIG}: expected {name} {expected}, found {config[name]!r}; merge '
                    'these adapters with peft first'
                )
        if config.get('init_lora_weights') not in STARTS:
            raise ValueError(
                f'{folder / CONFIG}: expected init_lora_weights that leaves the base as it is, '
                f'found {config["init_lora_weights"]!r}; merge these adapters with peft first'
            )
        base, revision = config.get('base_model_name_or_path'), config.get('revision')
        if not isinstance(base, str) or not base:
            raise ValueError(
                f'{folder / CONFIG}: expected base_model_name_or_path to name the checkpoint that '
                f'the adapters belong to, found {base!r}'
            )
        return cls(folder, base, revision if isinstance(revision, str) else None)

    @torch.no_grad()
    def merge(self, model: nn.Module) -> None:
        """Add them to a model's weights, in place: W + scale * B A.

        Raises:
            ValueError: The weights are missing, or some belong to no matrix of the model.
        """
        config = read_object(self.folder / CONFIG)
        path = next((self.folder / n for n in WEIGHTS if (self.folder / n).is_file()), None)
        if path is None:
            raise ValueError(f'{self.folder}: expected {WEIGHTS[0]} beside {CONFIG}, found none')
        state = load_checkpoint_file(path)
        named = (isinstance(n, str) and isinstance(v, Tensor) for n, v in state.items())
        strange = [name for name, fine in zip(state, named, strict=True) if not fine]
        if strange:
            raise ValueError(f'{path}: expected tensors by name, found {strange[0]!r}')
        refuse_not_finite(state, path)
        weights, pairs = dict(model.named_parameters()), {}
        for name, value in state.items():
            match = LORA.match(name.removeprefix(PREFIX))
            if match is None or f'{match[1]}.weight' not in weights or value.ndim != 2:
                raise ValueError(
                    f'{path}: expected lora_A and lora_B of matrices of a {type(model).__name__}, '
                    f'found {name} {tuple(value.shape)}'
                )
            pairs.setdefault(match[1], {})[match[2]] = value
        if not pairs:
            raise ValueError(f'{path}: expected adapters, found no tensors')
        for name, pair in pairs.items():
            weight = weights[f'{name}.weight']
            whole = pair.keys() == {'A', 'B'} and len(pair['A']) > 0
            if not whole or _product(pair) != weight.shape:
                shapes = ' and '.join(f'lora_{k} {tuple(v.shape)}' for k, v in pair.items())
                raise ValueError(
                    f'{path}: expected lora_A and lora_B of {name}.weight {tuple(weight.shape)}, '
                    f'found {shapes}'
                )
            scale = _scale(config, name, len(pair['A']), path)
            weight += scale * (pair['B'].to(weight) @ pair['A'].to(weight))


def _product(pair: Mapping[str, Tensor]) -> tuple[int, int] | None:
    a, b = pair['A'], pair['B']
    return (b.shape[0], a.shape[1]) if a.shape[0] == b.shape[1] else None


def _scale(config: Mapping[str, Any], name: str, rank: int, path: Path) -> float:
    """alpha / rank, or alpha / sqrt(rank) of rank-stabilised adapters."""
    where = path.parent / CONFIG
    alpha, patterns = config.get('lora_alpha'), config.get('alpha_pattern') or {}
    if not isinstance(patterns, dict):
        raise ValueError(f'{where}: expected alpha_pattern by names, found {patterns!r}')
    for ending, value in patterns.items():
        if not re.fullmatch(r'[\w.]+', ending):  # a stranger's expression could run for ever
            raise ValueError(f'{where}: expected names in alpha_pattern, found {ending!r}')
        if f'.{name}'.endswith(f'.{ending}'):
            alpha = value
            break
    if type(alpha) not in (int, float) or not abs(alpha) < MOST_ALPHA:
        raise ValueError(f'{where}: expected a number as lora_alpha, found {alpha!r}')
    return alpha / (math.sqrt(rank) if config.get('use_rslora') else rank)
