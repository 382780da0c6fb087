import math

import pytest
import torch
from torch.nn.functional import normalize

from mmseg_siglip.text.template_ranking import (
    TemplateStatistics,
    entropy_of,
    expert_text,
    experts_of,
    read_ranking,
)


def maps(*sizes, templates=3, classes=4):
    generator = torch.Generator().manual_seed(0)
    for size in sizes:
        logits = 3 * torch.randn(templates, classes, *size, generator=generator)
        yield logits.softmax(1)


def test_statistics_equal_the_loops_over_all_images():
    sizes = [(5, 7), (3, 3), (8, 2)]
    statistics, seen = TemplateStatistics(3, 4), {}
    for image in maps(*sizes):
        for template, probabilities in enumerate(image):
            statistics.add(template, probabilities)
            for pixel in probabilities.flatten(1).T.tolist():
                entropy = -sum(p * math.log(p + 1e-10) for p in pixel)
                key = template, max(range(4), key=pixel.__getitem__)
                seen.setdefault(key, []).append(entropy)
    for (template, index), entropies in seen.items():
        assert statistics.pixels[template, index] == len(entropies)
        assert statistics.entropy[template, index] == pytest.approx(sum(entropies), rel=1e-5)
    means = {key: sum(values) / len(values) for key, values in seen.items()}
    for index, order in enumerate(statistics.best()):
        found = [template for template in range(3) if (template, index) in seen]
        assert order == sorted(found, key=lambda template: means[template, index])


def test_what_a_template_never_finds_is_not_ranked_and_the_first_wins_a_tie():
    statistics = TemplateStatistics(3, 3)
    sure = torch.tensor([1.0, 0.0, 0.0])[:, None]
    for template in (2, 0):
        statistics.add(template, sure)
    statistics.add(1, torch.tensor([0.2, 0.5, 0.3])[:, None])
    assert statistics.best() == [[0, 2], [1], []]


def test_entropy_by_hand():
    p = torch.tensor([[1.0, 0.5], [0.0, 0.5]])
    torch.testing.assert_close(entropy_of(p), torch.tensor([0.0, math.log(2)]))


def test_experts_are_the_first_templates_and_classes_without_them_have_none():
    ranking = dict(sky=[4, 1, 0], cat=[], road=[2], other=[99])
    assert experts_of(ranking, ('road', 'cat', 'sky', 'dog'), 5, 2) == {0: [2], 2: [4, 1]}


def test_expert_is_the_mean_of_its_templates():
    bank = normalize(torch.randn(3, 5, 8), dim=-1)
    mean = (bank[:, 4] + bank[:, 1]) / 2
    torch.testing.assert_close(expert_text(bank, [4, 1]), mean / mean.norm(dim=1, keepdim=True))


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{', 'expected JSON'),
        ('[1]', 'expected lists of different template indices'),
        ('{"cat": [1, 1]}', 'expected lists of different'),
        ('{"cat": [-1]}', 'expected lists of different'),
        ('{"cat": "ab"}', 'expected lists of different'),
    ],
)
def test_bad_files(tmp_path, text, message):
    path = tmp_path / 'r.json'
    path.write_text(text)
    with pytest.raises(ValueError, match=f'r.json: {message}'):
        read_ranking(path)


def test_rankings_that_do_not_fit():
    with pytest.raises(ValueError, match='expected a ranking of templates for cat, found one for'):
        experts_of(dict(dog=[1]), ['cat'], 5, 4)
    with pytest.raises(ValueError, match='names template 7, expected 0 to 4'):
        experts_of(dict(cat=[7]), ['cat'], 5, 4)
