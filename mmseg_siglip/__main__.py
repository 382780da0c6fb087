"""``python -m mmseg_siglip`` is ``mmseg-siglip``."""

from mmseg_siglip.cli.main import main

if __name__ == '__main__':
    main()
