_base_ = './shapes.py'
test_dataloader = dict(dataset=dict(task='pairs'))
model = dict(vocabulary='shapes_pairs')
