"""The command ``mmseg-siglip``: a file a sub-command, each with `add_arguments` and `run`."""
