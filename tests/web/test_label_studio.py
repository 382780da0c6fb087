import base64

import numpy as np
import pytest
from rle_pack import unpack

from mmseg_siglip.api import Referred, Segmentation

pytest.importorskip('gradio')

from mmseg_siglip.web.label_config import LabelTag
from mmseg_siglip.web.label_studio import label_regions

CONFIG = """<View><Image name="img" value="$photo"/><BrushLabels name="tag" toName="img">
<Label value="ring"/><Label value="grass, meadow"/><Label value="brick"/></BrushLabels></View>"""
LABELS = np.zeros((40, 60), np.int64)
LABELS[10:30, 20:50] = 1
IMAGE = np.zeros((40, 60, 3), np.uint8)


def predict(client, address, config=CONFIG):
    tasks = [dict(id=7, data=dict(photo=address))]
    return client.post('/predict', json=dict(tasks=tasks, label_config=config))


def test_it_is_up_and_knows_the_config(client):
    assert client.get('/health').json()['status'] == 'UP'
    answer = client.post('/setup', json=dict(project='1', schema=CONFIG))
    assert answer.json()['model_version'].startswith('mmseg_siglip ')
    assert client.post('/setup', json=dict(schema='<View/>')).status_code == 400
    assert client.post('/setup', content=b'[').status_code == 400


def test_brushes_are_the_labels_of_the_segmenter(client, scene, shapes_offer, media):
    (media / 'scene.png').write_bytes(scene)
    found = predict(client, '/data/local-files/?d=scene.png').json()
    (prediction,) = found['results']
    assert prediction['model_version'] == found['model_version']
    assert 0 < prediction['score'] <= 1
    answer = client.post(
        '/api/segment',
        files=dict(image=('a.png', scene)),
        data=dict(words='ring, grass, brick'),
    ).json()
    seen = {}
    for region in prediction['result']:
        assert (region['from_name'], region['to_name']) == ('tag', 'img')
        assert region['type'] == 'brushlabels' and region['value']['format'] == 'rle'
        assert (region['original_width'], region['original_height']) == (384, 256)
        mask = unpack(region['value']['rle']).reshape(256, 384, 4)
        (seen[region['value']['brushlabels'][0]],) = [mask[..., 3] == 255]
    assert (
        'grass, meadow' in seen
        and np.sum([*seen.values()], axis=0).tolist() == np.ones((256, 384)).tolist()
    )
    areas = {entry['category']: entry['area'] for entry in answer['segments']}
    assert abs(seen['brick'].sum() - areas['brick']) < 0.1 * areas['brick']


def test_images_inside_the_request(client, scene):
    address = 'data:image/png;base64,' + base64.b64encode(scene).decode()
    config = CONFIG.replace('BrushLabels', 'PolygonLabels')
    (prediction,) = predict(client, address, config).json()['results']
    assert {region['type'] for region in prediction['result']} == {'polygonlabels'}


@pytest.mark.parametrize('address', ['http://example.com/a.png', '/data/upload/../x', None])
def test_nothing_else_is_read(client, address):
    answer = predict(client, address)
    assert answer.status_code in (400, 404) and set(answer.json()) == {'error'}


@pytest.mark.parametrize('tasks', [None, {}, [1], [{}] * 9, [{'data': []}]])
def test_tasks_that_are_none(client, tasks):
    answer = client.post('/predict', json=dict(tasks=tasks, label_config=CONFIG))
    assert answer.status_code in (400, 413) and 'expected' in answer.json()['error']


def test_polygons_are_in_percent():
    tag = LabelTag('polygonlabels', 'tag', 'img', 'photo', ('a', 'b'))
    result = Segmentation(LABELS, np.full((40, 60), 0.5), ('a', 'b'), IMAGE)
    regions = [
        region for region in label_regions(result, tag) if region['value'][tag.kind] == ['b']
    ]
    (value,) = [region['value'] for region in regions]
    points = np.array(value['points']) * [0.6, 0.4]
    assert value['closed'] and np.allclose(points.min(0), [20.5, 10.5])
    assert np.allclose(points.max(0), [49.5, 29.5]) and len(points) == 4


def test_phrases_are_labels_too():
    tag = LabelTag('brushlabels', 'tag', 'img', 'photo', ('the cup',))
    (region,) = label_regions(Referred(LABELS > 0, 0.75, 'the cup', IMAGE), tag)
    assert region['value']['brushlabels'] == ['the cup'] and region['score'] == 0.75
    assert label_regions(Referred(LABELS > 9, 0.75, 'the cup', IMAGE), tag) == []
