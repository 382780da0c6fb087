"""What each system makes of the data and weights that ship along: ``mmseg-siglip demo``."""
