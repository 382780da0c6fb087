"""What finding new words in the text bank costs beside encoding them.

    python benchmarks/text_bank.py

The text tower of CLIP ViT-B/16 with random weights. Every change of words asks whether the tower is
the one that the kept embeddings are of: by a digest of its weights, which `remembered_digest`
computes again only where a fingerprint of them has changed.
"""

from __future__ import annotations

from measure import machine, measure

from mmseg_siglip.models.backbones import CLIPBackbone
from mmseg_siglip.text.text_bank import embed_queries
from mmseg_siglip.weights.differences import tensors_digest
from mmseg_siglip.weights.remembered_digest import fingerprint

WORDS, TEMPLATES = ['cat', 'dog', 'grass'], ['a photo of a {}.']


def main() -> None:
    backbone = CLIPBackbone(arch='ViT-B-16-quickgelu').eval()
    weights = backbone.text_parameters()
    held = sum(value.numel() * value.element_size() for value in weights.values())
    calls = {
        'three words, one template': lambda: embed_queries(backbone, WORDS, TEMPLATES),
        'digest, at every change before': lambda: tensors_digest(weights),
        'fingerprint, at every change now': lambda: fingerprint(weights),
    }
    found = {name: measure(call, repeat=5).cpu for name, call in calls.items()}
    words = found['three words, one template']
    print(f'{machine()}; {held / 2**20:.0f} MiB of weights\n')
    print('| what | cpu ms | of the words |\n|---|--:|--:|')
    for name, seconds in found.items():
        print(f'| {name} | {1000 * seconds:.0f} | {seconds / words:.2f} |')


if __name__ == '__main__':
    main()
