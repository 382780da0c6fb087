import pytest
import torch

from mmseg_siglip.models.postprocessors.context import Context


@pytest.mark.parametrize('name', ['pixels', 'features', 'text'])
def test_what_is_asked_for_is_made_once_and_nothing_else(name):
    made = []

    def maker(part):
        return lambda: made.append(part) or [torch.zeros(1)]

    parts = {part: maker(part) for part in ('pixels', 'features', 'text')}
    context = Context(query_to_class=(0, 1), logit_scale=10.0, **parts)
    assert made == [] and (context.query_to_class, context.logit_scale) == ((0, 1), 10.0)
    assert getattr(context, name) is getattr(context, name)
    assert made == [name]
