import sys

from mmseg_siglip.cli.trace import main

if __name__ == '__main__':
    sys.exit(main())
