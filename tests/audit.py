"""Known vulnerabilities of the tested versions, by pip-audit.

    python tests/audit.py

Says how many pins could be looked up: where no database answers, none. Exits with 1 where one is
vulnerable.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PINS = Path(__file__).resolve().parents[1] / 'requirements/constraints.txt'
OPTIONS = ['--no-deps', '--disable-pip', '--progress-spinner', 'off', '--format', 'json']


def pins_of(path: Path) -> list[str]:
    """``name==version`` of each line."""
    lines = path.read_text(encoding='utf-8').splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def look_up(path: Path) -> list[dict[str, Any]]:
    """What pip-audit says of each pin: ``vulns``, or ``skip_reason``; nothing without a network."""
    command = [sys.executable, '-m', 'pip_audit', '--requirement', str(path), *OPTIONS]
    told = subprocess.run(command, capture_output=True, text=True).stdout
    try:
        return json.loads(told)['dependencies']
    except ValueError:
        return []


def sum_up(pins: Sequence[str], found: Sequence[dict[str, Any]]) -> tuple[str, bool]:
    """A text, and whether there is a vulnerability."""
    checked = [entry for entry in found if 'vulns' in entry]
    lines = [
        f'{entry["name"]} {entry["version"]}: {flaw["id"]}, mended in '
        f'{", ".join(flaw["fix_versions"]) or "no version"}'
        for entry in checked
        for flaw in entry['vulns']
    ]
    lines.append(f'{len(checked)} of {len(pins)} pins checked, vulnerabilities: {len(lines)}')
    return '\n'.join(lines), len(lines) > 1


if __name__ == '__main__':
    text, vulnerable = sum_up(pins_of(PINS), look_up(PINS))
    print(text)
    sys.exit(1 if vulnerable else 0)
