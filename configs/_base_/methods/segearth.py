"""SegEarth-OV, https://arxiv.org/abs/2410.01768, without its upsampler, which was trained."""

attention = 'clearclip'
score_steps = [dict(type='GlobalBias', factor=0.3)]
