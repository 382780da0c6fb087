_base_ = './rsrefseg_b.py'
model = dict(sam=dict(checkpoint='facebook/sam-vit-large'))
