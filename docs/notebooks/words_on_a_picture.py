# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Words on a picture
#
# A picture and some words; each pixel gets the word that its patch resembles most. The picture is a
# drawn scene and the model a small SigLIP that ships along, so that this runs anywhere. For a
# photograph, put its path in the place of `image` and `'ViT-B/16'` in the place of the model.

# %%
import matplotlib.pyplot as plt

from mmseg_siglip.api import OpenVocabSegmenter
from mmseg_siglip.datasets.shapes_world.scene import generate, scene_seed

image = generate(scene_seed('test', 0), size=(128, 192)).image
segmenter = OpenVocabSegmenter.from_pretrained('tiny_siglip_shapes', device='cpu')
found = segmenter(image, 'heart, crescent, ring, brick, grass')
found.plot(outlines=True)

# %% [markdown]
# Labels are indices into the classes, and each pixel has a probability.

# %%
area = {found.classes[index]: (found.labels == index).mean().round(3) for index in found.found}
assert set(area) <= {'heart', 'crescent', 'ring', 'brick', 'grass'}
area

# %% [markdown]
# ## Not all pixels are one of the words
#
# Words that stand for everything else, and a threshold below which a pixel becomes background.

# %%
unsure = segmenter(image, 'heart, crescent', background='brick, grass', threshold=0.3)
assert unsure.classes == ('background', 'heart', 'crescent')
unsure.plot(palette={'background': '#404040'})

# %% [markdown]
# ## What lies beneath
#
# The cosine of each patch with each word, which all of the above is made of.

# %%
words = ['heart', 'ring', 'grass']
cosines = segmenter.compute_dense_similarity(image, words)
figure, axes = plt.subplots(1, len(words), figsize=(9, 2.5))
for axis, word, plane in zip(axes, words, cosines, strict=True):
    axis.imshow(plane)
    axis.set_title(word)
    axis.axis('off')

# %% [markdown]
# ## Keep it
#
# A label map for programs, masks for tools that read COCO.

# %%
found.save('labels.png')
found.to_coco_rle()[0]['category'], found.to_coco_rle()[0]['bbox']
