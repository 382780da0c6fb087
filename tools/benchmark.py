from mmseg_siglip.cli.benchmark import main
from mmseg_siglip.cli.common import leave

if __name__ == '__main__':
    leave(main())
