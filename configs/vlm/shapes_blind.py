_base_ = './shapes.py'
model = dict(use_image=False, train=('llm',))
