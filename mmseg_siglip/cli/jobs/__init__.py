"""What the commands do; a command imports its job when it runs, so that ``--help`` is quick."""
