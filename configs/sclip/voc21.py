_base_ = [
    '../_base_/datasets/voc21.py',
    '../_base_/models/sclip_clip_b16.py',
    '../_base_/default_runtime.py',
]
model = dict(
    vocabulary='voc21_sclip', logit_scale=65, prob_thd=0.1, area_thd=0.1, background_index=0
)
