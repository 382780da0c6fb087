_base_ = [
    '../_base_/datasets/voc21.py',
    '../_base_/models/sclip_siglip2_b16.py',
    '../_base_/default_runtime.py',
]
model = dict(vocabulary='voc21', prob_thd=0.1, area_thd=0.1)
