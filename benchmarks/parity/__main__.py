"""How far our dense methods are from recorded outputs of the published code, as one table.

    python benchmarks/parity --golden FOLDER

Exits with 1 where a case is further off than it may be.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from golden import Golden, all_cases, compare

from mmseg_siglip.io.files import write_csv


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--golden', type=Path, required=True, help='folder of recorded outputs')
    parser.add_argument('--methods', nargs='+', metavar='NAME', help='only these')
    parser.add_argument('--out', type=Path, metavar='CSV', help='the table as a file')
    args = parser.parse_args()

    golden, rows = Golden(args.golden), []
    print('| method | case | largest difference | tolerance | rows beyond it | allowed | |')
    print('|---|---|--:|--:|--:|--:|---|')
    with torch.no_grad():
        for case in all_cases(golden):
            if args.methods and case.method not in args.methods:
                continue
            rows.append(row := compare(case, golden))
            print(
                f'| {row["method"]} | {row["case"]} | {row["largest"]:.1e} | '
                f'{row["tolerance"]:.0e} | {row["strays"]:.2%} | {row["allowed"]:.2%} | '
                f'{"equal" if row["equal"] else "DIFFERS"} |',
                flush=True,
            )
    if args.out:
        write_csv(rows, args.out)
    sys.exit(not all(row['equal'] for row in rows))


if __name__ == '__main__':
    main()
