"""Any system over any number of images, by any number of processes and machines.

A shard is the unit of work, and its whole output object the only commit: who is killed when leaves
an object whole or not at all, and what is there says what is done.
"""
