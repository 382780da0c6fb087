from open_clip import OPENAI_IMAGENET_TEMPLATES
from transformers import AutoTokenizer

from mmseg_siglip.cli.main import main
from mmseg_siglip.models.backbones.siglip import SigLIPBackbone
from mmseg_siglip.text.vocabulary import BUNDLED, Vocabulary


def test_writes_an_encoder_to_train_from(tmp_path):
    out = str(tmp_path / 'tiny')
    arguments = ['--scenes', '3', '--width', '32', '--vision-layers', '1', '--image-size', '32']
    assert main(['convert', 'new-encoder', out, *arguments]) == 0
    backbone = SigLIPBackbone(config=out)
    assert backbone.image_size == (32, 32) and backbone.embed_dim == 32
    assert backbone.encode_text(['a red star', 'something else']).shape == (2, 32)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.model_max_length == backbone.context_length == 24


def test_every_bundled_class_fits_the_context_in_every_template(tmp_path):
    tokenizer = SigLIPBackbone(pretrained='tiny_siglip_shapes').tokenizer
    for path in sorted(BUNDLED.glob('*.txt')):
        queries = Vocabulary.load(path).queries
        longest = max(queries, key=lambda query: len(tokenizer.tokenize(query)))
        prompts = [template(longest) for template in OPENAI_IMAGENET_TEMPLATES]
        assert max(map(len, tokenizer(prompts).input_ids)) <= tokenizer.model_max_length
