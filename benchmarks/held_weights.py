"""What casting the weights in every forward costs, and what holding them cast saves.

    python benchmarks/held_weights.py

The vision tower of CLIP ViT-B/16 with random weights in bfloat16, a batch of one window of 224 x
224 pixels, where casts weigh most. Operations are counted as they reach a device, on a GPU one
kernel or none each; times are those of a CPU.
"""

from __future__ import annotations

import torch
from measure import machine, measure
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmseg_siglip.models.backbones import CLIPBackbone
from mmseg_siglip.models.held_weights import HeldWeights, hold_weights
from mmseg_siglip.precision import autocast

CPU = torch.device('cpu')


class Operations(TorchDispatchMode):
    """Counts operations, those that cast a weight, and the bytes that these read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.all = self.casts = self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        is_cast = func is torch.ops.aten._to_copy.default and isinstance(args[0], nn.Parameter)
        self.all += 1
        self.casts += is_cast
        self.bytes += is_cast and args[0].nbytes + found.nbytes
        return found


def main() -> None:
    backbone = CLIPBackbone(arch='ViT-B-16-quickgelu').eval()
    held, window = HeldWeights().eval(), torch.randn(1, 3, 224, 224)
    hold_weights(held)

    @torch.no_grad()
    def run(context) -> torch.Tensor:
        with context():
            return backbone.dense(window)

    ways = dict(
        autocast=lambda: autocast('bf16', CPU), held=lambda: held.autocast(backbone, 'bf16', CPU)
    )
    expected = run(ways['autocast'])
    print(f'{machine()}\n')
    print('| weights | operations | of them casts | MB cast | cpu s | of autocast |')
    print('|---|--:|--:|--:|--:|--:|')
    seconds = {}
    for name, context in ways.items():
        assert torch.equal(run(context), expected)
        with Operations() as count:
            run(context)
        seconds[name] = measure(lambda context=context: run(context), repeat=5).cpu
        share = seconds[name] / seconds['autocast']
        print(
            f'| {name} | {count.all} | {count.casts} | {count.bytes / 1e6:.0f} | '
            f'{seconds[name]:.2f} | {share:.2f} |'
        )
    own = sum(weight.nbytes for weight in backbone.layers_of('vision').parameters())
    kept = sum(each.held.nbytes for each in held._held.values() if each.held is not None)
    print(f'\n{own / 1e6:.0f} MB of weights in its layers, {kept / 1e6:.0f} MB held beside them')


if __name__ == '__main__':
    main()
