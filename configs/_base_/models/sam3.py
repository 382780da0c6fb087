"""SAM 3, whole images at its own size. Its weights are given out on request on the Hub."""

model = dict(
    type='SAM3Segmentor',
    backbone=dict(type='SAM3Adapter', pretrained='facebook/sam3'),
)
