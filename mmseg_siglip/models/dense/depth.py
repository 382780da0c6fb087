"""Which block of an encoder stands for one of the twelve that methods were published on."""

PUBLISHED_DEPTH = 12


def scaled_block(block: int, count: int) -> int:
    """The block, of `count`, at the depth of `block` of twelve; always before the last one."""
    return min(round(block * count / PUBLISHED_DEPTH), count - 2)
