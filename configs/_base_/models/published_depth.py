"""A depth model as published: the command line names it after the config."""

model = dict(type='PublishedDepthEstimator', backbone=dict(pretrained=None))
