# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Methods side by side
#
# Training-free methods differ in what they do to the last attention. Here some of
# [all of them](../methods.md) label the same scenes, with the small SigLIP that ships along. On a
# model trained on photographs the order is another: see [what is measured](../family.md).

# %%
import matplotlib.pyplot as plt
import numpy as np

from mmseg_siglip.api import OpenVocabSegmenter
from mmseg_siglip.datasets.shapes_world.scene import CLASSES, generate, scene_seed

scenes = [generate(scene_seed('test', index), size=(128, 192)) for index in range(3)]
methods = ['vanilla', 'csa', 'naclip', dict(type='resclip', host='naclip')]
found = {}
for method in methods:
    name = method if isinstance(method, str) else ' on '.join(method.values())
    segmenter = OpenVocabSegmenter.from_pretrained('tiny_siglip_shapes', method, device='cpu')
    found[name] = segmenter([scene.image for scene in scenes], list(CLASSES))

# %% [markdown]
# Share of pixels with the right label, over the three scenes. For a benchmark with intervals,
# `mmseg-siglip benchmark --datasets shapes --methods vanilla csa naclip resclip`.

# %%
accuracy = {
    name: np.mean([(r.labels == s.classes).mean() for r, s in zip(results, scenes, strict=True)])
    for name, results in found.items()
}
assert all(0.3 < value < 1 for value in accuracy.values()), accuracy
{name: round(float(value), 3) for name, value in accuracy.items()}

# %% [markdown]
# The first scene.

# %%
figure, axes = plt.subplots(1, len(found) + 1, figsize=(15, 2.5))
pictures = {'image': scenes[0].image}
pictures |= {name: results[0].palette[results[0].labels] for name, results in found.items()}
for axis, (name, picture) in zip(axes, pictures.items(), strict=True):
    axis.imshow(picture)
    axis.set_title(name)
    axis.axis('off')
