import sys

from mmseg_siglip.cli.patch_stats import main

if __name__ == '__main__':
    sys.exit(main())
