"""ShapesWorld by the shipped SigLIP with the method of local_attention.py."""

_base_ = 'mmseg_siglip::sclip/shapes.py'
custom_imports = dict(imports=['mmseg_siglip', 'local_attention'])
model = dict(attention=dict(type='local', radius=2))
