"""NACLIP refined by PAMR, https://arxiv.org/abs/2404.08181."""

attention = 'naclip'
postprocessor = dict(type='PAMRPostProcessor', num_iter=10, dilations=(8, 16))
