_base_ = './shapes.py'
model = dict(decode_head=dict(prompt_mode='cascade', dense='matched'))
