"""Questions about CAT-Seg's data flow that a port has to get right, and what answers each."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAD = 'tests/models/decode_heads/test_cat_seg_head.py'
MODEL = 'tests/models/segmentors/test_cat_seg.py'
CONFIG = 'tests/configs/test_cat_seg_configs.py'
COCO = 'tests/datasets/test_coco_stuff.py'
LOAD = 'tests/datasets/transforms/test_loading.py'
SIGLIP = 'tests/models/backbones/test_siglip.py'
TRACE = 'tests/cli/test_trace.py'


class Answer:
    """A question, what holds here, and the tests or files that show it."""

    def __init__(self, question: str, answer: str, *shown_by: str) -> None:
        self.question, self.answer, self.shown_by = question, answer, shown_by


ANSWERS = {
    'S1': Answer(
        'a mask is',
        'a grey PNG of class indices',
        LOAD + '::test_image_and_labels',
    ),
    'S2': Answer(
        'cat is',
        "id 17, value 16 in COCO-Stuff's file, class 15",
        COCO + '::test_cat_is_17_in_the_registry_16_in_the_file_and_15_for_the_model',
        COCO + '::test_unconverted_files_are_refused',
    ),
    'S3': Answer(
        'names come from',
        "the coco_stuff_catseg vocabulary, equal to the data set's",
        COCO + '::test_names_are_mmsegs_in_order_and_those_of_the_vocabulary',
    ),
    'S4': Answer(
        'the map of values',
        'exposed both ways',
        COCO + '::test_the_maps_are_inverse_and_complete',
    ),
    'S5': Answer(
        'order of the classes',
        "dataset_meta['classes']",
        COCO + '::test_names_are_mmsegs_in_order_and_those_of_the_vocabulary',
        CONFIG + '::test_words_fit_the_data_set',
    ),
    'S6': Answer(
        'the loader maps values',
        "not converted files; labels='raw' does",
        COCO + '::test_converted_and_raw_files_give_the_same',
    ),
    'S7': Answer(
        '"COCO-Stuff 10k"',
        'training is on 164k',
        'configs/_base_/datasets/coco_stuff_train.py',
    ),
    'S8': Answer(
        'image and mask are a pair',
        'by name; a missing mask is an error that names it',
        LOAD + '::test_missing_file_and_folder',
    ),
    'S9': Answer(
        'paths',
        'data_root, data_prefix, layout',
        'tests/datasets/test_two_layouts.py::test_both_layouts_give_the_same_classes',
    ),
    'S10': Answer(
        'example files',
        'written by shapes_layout.py',
        'tests/configs/test_datasets.py::test_builds_and_loads_what_was_written',
    ),
    'S11': Answer(
        'channels',
        'loaded BGR, turned to RGB once; EXIF orientation is not applied, as to masks',
        CONFIG + '::test_the_published_schedule',
        LOAD + '::test_exif_is_ignored_for_annotated_images_and_refused_on_request',
    ),
    'S12': Answer(
        'resize, crop, flip, colour',
        'as published',
        CONFIG + '::test_the_published_schedule',
    ),
    'S13': Answer(
        'image',
        '(3, H, W) uint8 up to the preprocessor',
        TRACE + '::test_stages_and_shapes',
    ),
    'S14': Answer(
        'mask',
        '(1, H, W) int64',
        TRACE + '::test_stages_and_shapes',
    ),
    'S15': Answer(
        'padding',
        'to 384 x 384, after normalisation, mask 255',
        CONFIG + '::test_the_published_schedule',
    ),
    'S16': Answer(
        'a sample',
        'SegDataSample; training and testing have pipelines of their own',
        CONFIG + '::test_the_published_protocol',
    ),
    'S17': Answer(
        'entry',
        "CATSegSegmentor(mode='tensor'/'loss'/'predict')",
        MODEL + '::test_any_size_gives_four_times_its_grid',
    ),
    'S18': Answer(
        'normalised',
        "once, by the checkpoint's mean and deviation",
        TRACE + '::test_images_are_normalised_once',
    ),
    'S19': Answer(
        'resized for the encoder',
        'encoder_size, interpolation, antialias',
        MODEL + '::test_resizing_equals_the_image_processors',
    ),
    'S20': Answer(
        'processor',
        'its constants, on the device, on tensors',
        TRACE + '::test_images_are_normalised_once',
        MODEL + '::test_resizing_equals_the_image_processors',
    ),
    'S21': Answer(
        'batch',
        'any',
        'tests/contracts/segmentor.py',
        MODEL,
    ),
    'S22': Answer(
        'patches',
        "transformers' SigLIP, SigLIP 2 of fixed size and NaFlex",
        SIGLIP + '::test_pooled_and_raw_equal_transformers',
        SIGLIP + '::test_naflex_equals_transformers',
    ),
    'S23': Answer(
        'tokens',
        'as many as the grid has places, no CLS',
        SIGLIP + '::test_no_patch_is_dropped',
    ),
    'S24': Answer(
        'width',
        'from the encoder',
        MODEL + '::test_siglip_features_are_the_pooling_head_on_each_patch',
    ),
    'S25': Answer(
        'get_image_features',
        'one vector an image: encode_image',
        SIGLIP + '::test_pooled_and_raw_equal_transformers',
    ),
    'S26': Answer(
        'dense features',
        'from the last hidden state, through the pooling head',
        MODEL + '::test_siglip_features_are_the_pooling_head_on_each_patch',
    ),
    'S27': Answer(
        'tokens to grid',
        'row by row',
        MODEL + '::test_siglip_features_are_the_pooling_head_on_each_patch',
    ),
    'S28': Answer(
        '"(1, 768) to (1, 768, 14, 14)"',
        'impossible: a pooled vector has no places; it is (1, 196, 768)',
        'tools/trace.py',
    ),
    'S29': Answer(
        'words',
        'lower case, padded to 64, as wide as image features',
        SIGLIP + '::test_text_equals_transformers',
    ),
    'S30': Answer(
        'text features',
        'kept while weights and words stay; any number of templates; synonyms',
        MODEL + '::test_text_follows_the_weights',
        MODEL + '::test_classes_change_at_run_time_and_text_is_kept',
        MODEL + '::test_every_synonym_counts_for_its_class',
        HEAD + '::test_several_prompts',
    ),
    'S31': Answer(
        'head',
        'the published formulas',
        HEAD + '::test_equals_the_plain_formulas_on_any_grid',
    ),
    'S32': Answer(
        'logits',
        'four times the grid; at the grid with decoder=False',
        MODEL + '::test_any_size_gives_four_times_its_grid',
        HEAD + '::test_without_a_decoder_logits_come_at_the_grid',
    ),
    'S33': Answer(
        'mask out',
        'at the original size',
        MODEL + '::test_slide_and_global_equal_the_published_protocol',
    ),
    'S34': Answer(
        'loss',
        "binary cross-entropy at the mask's size",
        HEAD + '::test_loss_is_binary_cross_entropy_at_the_size_of_the_labels',
        'tests/models/losses/test_dense_bce.py',
    ),
    'S35': Answer(
        'result',
        'pred_sem_seg, and seg_logits if asked for',
        MODEL + '::test_labels_need_no_full_size_probabilities',
    ),
    'S36': Answer(
        'inference',
        'whole, slide, slide and global',
        MODEL + '::test_slide_and_global_equal_the_published_protocol',
        MODEL + '::test_whole_takes_the_sigmoid_before_it_resizes',
    ),
    'S37': Answer(
        'registration',
        'mmseg_siglip/datasets, tools/dataset_converters',
        COCO + '::test_cat_is_17_in_the_registry_16_in_the_file_and_15_for_the_model',
        COCO + '::test_unconverted_files_are_refused',
        'tests/datasets/test_two_layouts.py::test_both_layouts_give_the_same_classes',
        'tests/tools/dataset_converters',
    ),
    'S38': Answer(
        'mapper',
        'configs/_base_/datasets/coco_stuff_train.py',
        CONFIG + '::test_the_published_schedule',
    ),
    'S39': Answer(
        'model',
        'mmseg_siglip/models/segmentors/cat_seg.py',
        MODEL,
    ),
    'S40': Answer(
        'head, loss',
        'mmseg_siglip/models/decode_heads/cat_seg_*.py, models/losses/dense_bce.py',
        HEAD,
    ),
    'S41': Answer(
        'trace',
        'tools/trace.py CONFIG',
        TRACE,
    ),
}


@pytest.mark.parametrize('number', ANSWERS)
def test_what_shows_an_answer_is_there(number):
    shown_by = ANSWERS[number].shown_by
    assert shown_by
    for place in shown_by:
        file, _, test = place.partition('::')
        assert (ROOT / file).exists(), place
        if test:
            tree = ast.walk(ast.parse((ROOT / file).read_text()))
            assert test in {one.name for one in tree if isinstance(one, ast.FunctionDef)}, place


def test_all_questions_are_answered():
    assert list(ANSWERS) == [f'S{number}' for number in range(1, 42)]
