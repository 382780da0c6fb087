import pickle

import numpy as np
import pytest

from mmseg_siglip.api.results import Answer
from mmseg_siglip.api.segmentation import Referred
from mmseg_siglip.io.files import image_bytes
from mmseg_siglip.labelling.labeller import LazyRecipe, SystemLabeller
from mmseg_siglip.later import Later


class Phrases:
    """A system that finds two phrases in every image, or answers."""

    def __init__(self, gives=Referred):
        self.gives, self.asked = gives, []

    def check_prompt(self, prompt):
        if not prompt:
            raise ValueError('expected phrases')
        return prompt

    def begin(self, images, prompt, **options):
        self.asked.append((len(images), prompt, options))
        if self.gives is Answer:
            return Later.now([Answer('yes', prompt, image) for image in images])
        mask = np.eye(3, 4, dtype=bool)
        return Later.now([[Referred(mask, 0.5, one, image) for one in prompt] for image in images])


IMAGES = [np.full((3, 4, 3), value, np.uint8) for value in (1, 2)]


def test_rows_are_those_of_the_results():
    system = Phrases()
    labeller = SystemLabeller(system, ['a', 'b'], settings=dict(x=1), options=dict(threshold=0.5))
    found = [labeller.rows(each) for each in labeller.begin(IMAGES)()]
    assert system.asked == [(2, ['a', 'b'], dict(threshold=0.5))]
    assert [[row['phrase'] for row in rows] for rows in found] == [['a', 'b']] * 2
    assert found[0][0].keys() == labeller.columns.keys() == Referred.columns.keys()
    labeller = SystemLabeller(Phrases(Answer), 'really?', settings={})
    (row,) = labeller.rows(labeller.begin(IMAGES)()[0])
    assert row == dict(question='really?', answer='yes', complete=True)
    labeller = SystemLabeller(system, ['a', 'b'], settings={}, row=vars)
    one, _ = labeller.rows(labeller.begin(IMAGES)()[0])
    assert one['score'] == 0.5


def test_a_prompt_is_looked_at_once_and_images_are_rgb():
    with pytest.raises(ValueError, match='expected phrases'):
        SystemLabeller(Phrases(), [], settings={})
    labeller = SystemLabeller(Phrases(), ['a'], settings={})
    from PIL import Image

    data = image_bytes(Image.fromarray(IMAGES[1]))
    assert (labeller.decode(data, 'a.png') == IMAGES[1]).all()
    with pytest.raises(ValueError, match='a.png'):
        labeller.decode(b'no image', 'a.png')


def test_a_recipe_imports_where_it_is_used():
    recipe = pickle.loads(pickle.dumps(LazyRecipe('builtins:dict', ())))  # noqa: S301
    with pytest.raises(TypeError):
        recipe(0, 1)
    assert LazyRecipe('builtins:list', ())  # nothing is called before
    assert LazyRecipe('operator:add', ())(2, 3) == 5
    assert LazyRecipe('builtins:max', (9,))(2, 3) == 9
