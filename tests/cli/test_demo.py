from __future__ import annotations

import re

import pytest

from mmseg_siglip.cli.jobs.demo.exhibits import EXHIBITS
from mmseg_siglip.cli.main import main


@pytest.mark.slow
def test_a_page_and_a_line_for_each_step(tmp_path, capsys):
    assert main(['demo', '--out', str(tmp_path), '--images', '2']) == 0
    printed = capsys.readouterr().out
    for number, exhibit in enumerate(EXHIBITS, 1):
        assert re.search(rf'^\[{number}/{len(EXHIBITS)}\] {exhibit.title} \.\.\. ', printed, re.M)
    assert f'Page: {tmp_path}/index.html\n' in printed
    page = (tmp_path / 'index.html').read_text()
    for name in re.findall(r'src="([^"]+)"', page):
        assert (tmp_path / name).is_file()


def test_no_scenes(capsys):
    with pytest.raises(SystemExit) as ended:
        main(['demo', '--images', '0'])
    assert ended.value.code == 2
