"""``python -m mmseg_siglip.vlm`` is ``mmseg-siglip ask``."""

import sys

from mmseg_siglip.cli.common import leave
from mmseg_siglip.cli.main import main

if __name__ == '__main__':
    leave(main(['ask', *sys.argv[1:]]))
