from pathlib import Path

import yaml

from mmseg_siglip.api.model_card import CardFacts, Measured, write_card
from mmseg_siglip.api.origins import Origin
from mmseg_siglip.api.system_folder import SystemFolder


def card(folder: Path, facts: CardFacts, origins: dict[str, Origin]) -> tuple[dict, str]:
    saved = SystemFolder(folder, 'segment', dict(type='CATSegSegmentor'), origins, '', {})
    write_card(saved, 'OpenVocabSegmenter', 'words', facts)
    head, text = (folder / 'README.md').read_text().split('---\n', 2)[1:]
    return yaml.safe_load(head), text


def test_what_is_known_is_told(tmp_path):
    facts = CardFacts(
        name='cat-seg',
        licence='apache-2.0',
        data=['COCO-Stuff'],
        results=[Measured('ADE20K val', dict(mIoU=31.25, aAcc=70), 'test.py')],
        limits=['It reads no text in pictures.'],
    )
    head, text = card(
        tmp_path, facts, {'backbone.pretrained': Origin('hub', 'google/siglip2', 'abc')}
    )
    assert head['base_model'] == ['google/siglip2']
    assert head['license'] == 'apache-2.0'
    assert head['datasets'] == ['COCO-Stuff']
    (result,) = head['model-index'][0]['results']
    assert {metric['type']: metric['value'] for metric in result['metrics']} == dict(
        mIoU=31.25, aAcc=70.0
    )
    assert '- `backbone.pretrained`: google/siglip2 at abc' in text
    assert '| ADE20K val | mIoU | 31.25 | `test.py` |' in text
    assert '- It reads no text in pictures.' in text


def test_what_is_not_known_is_said(tmp_path):
    head, text = card(tmp_path / 'my_model', CardFacts(), {})
    assert 'model-index' not in head and 'license' not in head
    assert '# my_model' in text
    assert text.count('Not stated.') == 3 and 'Nothing yet.' in text
