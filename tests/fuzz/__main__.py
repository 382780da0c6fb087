"""Damaged inputs of every kind, and what becomes of them.

    python -m tests.fuzz                                   # all, as many as each kind says
    python -m tests.fuzz --kinds images archives --count 50
    python -m tests.fuzz --kinds 'image TIFF' --show found # keep the inputs that show a fault

A damaged input must be read, or refused by one line that names it. Anything else is a fault, and
so is more memory than the kind allows, no answer in time, and code of the input that is executed.
Exits with 1 where there is one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent / 'tools/dataset_converters')]
os.environ |= dict(
    CUDA_VISIBLE_DEVICES='',
    HF_HUB_OFFLINE='1',
    HF_HUB_DISABLE_PROGRESS_BARS='1',
    OMP_NUM_THREADS='1',
    TOKENIZERS_PARALLELISM='false',
    TRANSFORMERS_OFFLINE='1',
    TRANSFORMERS_VERBOSITY='error',
)

from fuzz.command import modules_of, search_module  # noqa: E402
from fuzz.report import faults, table  # noqa: E402

from mmseg_siglip.engine.workers import end_with  # noqa: E402


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--kinds',
        nargs='+',
        metavar='WORD',
        help='modules of tests/fuzz, or how names of kinds begin',
    )
    parser.add_argument('--count', type=int, help='damaged inputs of each kind')
    parser.add_argument('--seed', type=int, default=0, help='[%(default)s]')
    parser.add_argument('--seconds', type=float, default=30.0, help='patience [%(default)s]')
    parser.add_argument('--jobs', type=int, default=1, help='searches at a time [%(default)s]')
    parser.add_argument('--show', type=Path, metavar='DIR', help='keep what shows a fault there')
    return parser.parse_args()


def main() -> int:
    args = parse()
    with (
        tempfile.TemporaryDirectory(prefix='fuzz-') as folder,
        ProcessPoolExecutor(
            args.jobs,
            mp_context=get_context('spawn'),
            max_tasks_per_child=1,
            initializer=end_with,
            initargs=(os.getpid(),),
        ) as pool,
    ):
        parts = [
            pool.submit(search_module, name, args, Path(folder, name))
            for name in modules_of(args.kinds)
        ]
        rows = [row for part in parts for row in part.result()]
    if not rows:
        raise SystemExit(f'error: no kind begins with {" or ".join(args.kinds)}')
    print(table(rows))
    print(faults(rows))
    return 0 if all(row.sound for row in rows) else 1


if __name__ == '__main__':
    sys.exit(main())
