import asyncio
import os

import pytest

from mmseg_siglip.web.limits import WRONG, Limits, Refusal
from mmseg_siglip.web.menu import Menu
from mmseg_siglip.web.service import Question, Service, trim


@pytest.fixture(scope='module')
def service(shapes_offer):
    return Service(Menu([shapes_offer]), Limits())


def ask(service, data, **fields):
    question = Question('segment', **(dict(given='ring, grass') | fields))
    return asyncio.run(service.ask(question, data, 'a.png', lambda answered: answered))


def test_an_answer_tells_its_time_and_model(service, scene):
    answered = ask(service, scene)
    (result,) = answered.results
    assert result.classes == ('ring', 'grass') and result.labels.shape == (256, 384)
    assert answered.model == 'shapes' and 0 < answered.seconds < 60


def test_what_goes_wrong_here_is_logged_and_not_shown(service, scene, monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError('/secret/path')

    monkeypatch.setattr(type(service.menu.find('segment').system), '_begin', fail)
    with pytest.raises(Refusal) as refused:
        ask(service, scene)
    assert str(refused.value) == WRONG and refused.value.status == 500
    assert '/secret/path' in caplog.text


def test_the_prompt_is_checked_before_the_image_is_decoded(service, monkeypatch):
    monkeypatch.setattr('mmseg_siglip.web.service.decode_upload', lambda *_: pytest.fail('decoded'))
    with pytest.raises(Refusal, match='expected words beside the image'):
        ask(service, b'', given='')


@pytest.mark.parametrize(
    ('given', 'background', 'reason'),
    [
        ('ring', ','.join(map(str, range(65))), 'background: expected at most 64, found 65'),
        ('ring', 'a' * 4001, 'background: expected at most 4000 characters, found 4001'),
        ('|'.join(map(str, range(65))), '', 'words: expected at most 64, found 65'),
    ],
)
def test_words_of_any_kind_are_counted(service, monkeypatch, given, background, reason):
    """Each costs as much as a class: those of the background, and synonyms."""
    monkeypatch.setattr('mmseg_siglip.web.service.decode_upload', lambda *_: pytest.fail('decoded'))
    with pytest.raises(Refusal, match=reason) as refused:
        ask(service, b'', given=given, settings=dict(background=background))
    assert refused.value.status == 413


def test_a_cache_is_trimmed_from_its_oldest(tmp_path):
    for age in range(5):
        file = tmp_path / f'{age}'
        file.write_bytes(bytes(10))
        os.utime(file, (1000 - age, 1000 - age))
    trim(tmp_path, 30)
    assert sorted(file.name for file in tmp_path.iterdir()) == ['0', '1', '2']
    trim(tmp_path / 'nowhere', 30)
