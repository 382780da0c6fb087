"""Answers: the same one by one, in a batch and as a stream."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from PIL import Image

from mmseg_siglip.api.load import read_config
from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.registry import MODELS, SCOPE
from mmseg_siglip.vlm import VisionChat


@pytest.fixture(scope='module')
def chat(llava_folder):
    return VisionChat.from_pretrained(llava_folder)


@pytest.fixture(scope='module')
def pictures():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((40, 30), (20, 90))]


def test_batch_equals_singles(chat, pictures):
    answers = chat(pictures, 'how many stars?', max_new_tokens=8)
    assert answers == [chat(picture, 'how many stars?', max_new_tokens=8) for picture in pictures]
    assert chat([], 'how many stars?') == []


def test_stream_is_the_answer_in_pieces(chat, pictures):
    pieces = []
    answer = chat(pictures[0], 'how many stars?', max_new_tokens=20, on_text=pieces.append)
    assert ''.join(pieces).strip() == answer
    if len(answer.split()) > 2:
        assert len(pieces) > 1


def test_weights_too_large_for_a_format_are_not_saved(llava_folder, tmp_path):
    chat = VisionChat.from_pretrained(llava_folder, precision='fp32')
    next(chat.model.parameters()).data.view(-1)[0] = 1e6
    with pytest.raises(ValueError, match='the model as float16: expected finite weights, found 1'):
        chat.save_pretrained(tmp_path / 'x', dtype='float16')
    assert not (tmp_path / 'x').exists()


def test_files(chat, pictures, tmp_path):
    Image.fromarray(pictures[0]).save(tmp_path / 'a.png')
    assert chat(tmp_path / 'a.png', 'what?', max_new_tokens=4) == chat(
        pictures[0], 'what?', max_new_tokens=4
    )


def test_depth_where_it_is_wanted_and_nowhere_else(llava_folder, pictures):
    chat = VisionChat.from_pretrained(llava_folder)
    depths = [np.full((40, 30), 2.0), np.full((10, 10), 3.0)]
    with pytest.raises(ValueError, match='this model has no depth fusion'):
        chat(pictures, 'what?', depths=depths)
    chat.model.add_depth_fusion(dict(names=('mean',)))
    found = chat(pictures, 'what?', depths=depths, max_new_tokens=4)
    assert found[1] == chat(pictures[1], 'what?', depths=depths[1], max_new_tokens=4)
    with pytest.raises(ValueError, match='expected a map for each image, this model fuses depth'):
        chat(pictures, 'what?')
    with pytest.raises(ValueError, match='depths: expected 2, found 1'):
        chat(pictures, 'what?', depths=depths[:1])


def test_bad_input(chat, pictures):
    with pytest.raises(ValueError, match='expected at most 512 tokens.* found .* and 1000 of the'):
        chat(pictures[0], 'what?', max_new_tokens=1000)
    with pytest.raises(ValueError, match='expected no <image> in it'):
        chat(pictures[0], 'what is <image>?')
    with pytest.raises(ValueError, match='expected one image to stream for, found 2'):
        chat(pictures, 'what?', on_text=print)
    with pytest.raises(ValueError, match='nowhere.jpg: no such image file'):
        chat('nowhere.jpg', 'what?')


def test_one_trained_without_images_is_asked_about_none(tmp_path):
    config = config_folder() / 'vlm' / 'shapes_blind.py'
    with DefaultScope.overwrite_default_scope(SCOPE):
        model = MODELS.build(read_config(config).model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'blind.pth')
    with pytest.raises(ValueError, match='expected a model that has seen images, found one traine'):
        VisionChat.from_config(config, tmp_path / 'blind.pth', device='cpu')
    with pytest.warns(UserWarning, match='was trained without images'):
        model.save_pretrained(tmp_path / 'llava')


def test_an_option_misspelt_gets_the_nearest():
    with pytest.raises(ValueError, match="unknown option 'encoder_tpye'; .* mean 'encoder_type'?"):
        VisionChat.from_pretrained('my_llava', encoder_tpye='siglip')


def test_an_answer_that_goes_by_what_is_no_number_is_refused(llava_folder, pictures):
    chat = VisionChat.from_pretrained(llava_folder)
    with torch.no_grad():
        chat.model.lm_head.weight[3] = float('nan')
    with pytest.raises(ValueError, match='^image 1 of 2: expected finite scores of words, found'):
        chat(pictures, 'what?', max_new_tokens=4)


def test_an_answer_says_whether_it_is_complete(llava_folder, pictures):
    chat = VisionChat.from_pretrained(llava_folder)
    cut = chat(pictures, 'what?', max_new_tokens=3)
    assert [answer.complete for answer in cut] == [False, False]
    assert cut[0].to_dict()['complete'] is False
    inputs = chat._inputs([pictures[0]], 'what?', None)
    chat.model.generation_config.eos_token_id = [
        int(chat.model.generate(**inputs, max_new_tokens=1)[0, -1])
    ]
    assert chat(pictures, 'what?', max_new_tokens=3)[0].complete


def test_depth_that_says_nothing_about_the_picture(llava_folder, pictures):
    chat = VisionChat.from_pretrained(llava_folder)
    chat.model.add_depth_fusion(dict(names=('mean',)))
    turned = [np.full((40, 30), 2.0), np.full((90, 20), 3.0)]
    with pytest.raises(ValueError, match=r'of image 2 of 2, 20 x 90 .* found 90 x 20; maps are'):
        chat(pictures, 'what?', depths=turned)
    for nothing in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match='image 1 of 1: expected some depth above 0, found no'):
            chat(pictures[0], 'what?', depths=np.full((40, 30), nothing))
