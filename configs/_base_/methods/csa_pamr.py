"""SCLIP refined by PAMR."""

attention = 'csa'
postprocessor = dict(type='PAMRPostProcessor')
