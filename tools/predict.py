import sys

from mmseg_siglip.cli.predict import main

if __name__ == '__main__':
    sys.exit(main())
