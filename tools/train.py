import sys

from mmseg_siglip.cli.common import leave
from mmseg_siglip.cli.main import main

if __name__ == '__main__':
    leave(main(['train', *sys.argv[1:]]))
