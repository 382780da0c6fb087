from mmseg_siglip.cli.common import leave
from mmseg_siglip.cli.train import main

if __name__ == '__main__':
    leave(main())
