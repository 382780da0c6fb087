import pytest

from mmseg_siglip.web.label_config import LabelTag, read_label_config
from mmseg_siglip.web.limits import Refusal

CONFIG = """<View>
  <Image name="img" value="$photo" zoom="true"/>
  <Choices name="c" toName="img"><Choice value="x"/></Choices>
  <BrushLabels name="tag" toName="img">
    <Label value="sky &amp; clouds" background="#f00"/><Label value=" "/><Label value="cat"/>
  </BrushLabels>
</View>"""


def test_the_tag_that_labels_an_image():
    expected = LabelTag('brushlabels', 'tag', 'img', 'photo', ('sky & clouds', 'cat'))
    assert read_label_config(CONFIG) == expected
    polygons = CONFIG.replace('BrushLabels', 'PolygonLabels')
    assert read_label_config(polygons).kind == 'polygonlabels'


@pytest.mark.parametrize(
    'text',
    [
        '',
        '<View/>',
        CONFIG.replace('toName="img"', 'toName="other"'),
        CONFIG.replace('<Label ', '<Lab '),
        'x' * (2**16 + 1),
        None,
        ['<View>'],
        CONFIG.replace('BrushLabels', 'RectangleLabels'),
    ],
)
def test_others_are_refused(text):
    with pytest.raises(Refusal, match='label_config: expected'):
        read_label_config(text)


def test_entities_are_not_expanded():
    bomb = '<!DOCTYPE x [<!ENTITY a "bbbb"><!ENTITY b SYSTEM "file:///etc/passwd">]>' + CONFIG
    config = read_label_config(bomb.replace('cat', '&a;&b;'))
    assert config.labels[1] == '&a;&b;'
