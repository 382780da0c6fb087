"""SC-CLIP in plain float64, one image, on stock open_clip modules; SFP's test takes its parts.

Shapes: N = 1 + n tokens, C channels, grid (h, w) with n patches.
"""

import math

import torch
import torch.nn.functional as F


def outputs(clip, image, grid):
    """Of every block of a stock model, (N, C) in float64, and that model."""
    clip = clip.double()
    visual = clip.visual
    x = visual.conv1(image[None].double())[0].flatten(1).T
    x = torch.cat([visual.class_embedding[None], x])
    position = visual.positional_embedding
    plane = position[1:].T.reshape(1, -1, 4, 4)
    scale = tuple((cells + 0.1) / 4 for cells in grid)
    plane = F.interpolate(plane.float(), scale_factor=scale, mode='bicubic').double()
    x = visual.ln_pre(x + torch.cat([position[:1], plane[0].flatten(1).T]))
    found = []
    for block in visual.transformer.resblocks:
        x = block(x[None])[0]
        found.append(x)
    return found


def cosines(x):
    x = x / x.norm(dim=1, keepdim=True)
    return x @ x.T


def find(x, k, part):
    distance = torch.cdist(x, x).square()
    near = [
        sorted((j for j in range(len(x)) if j != i), key=lambda j: row[j])[:k]
        for i, row in enumerate(distance)
    ]
    reach = torch.stack([distance[i, near[i][-1]] for i in range(len(x))])
    score = torch.stack([(reach[i] / reach[near[i]]).mean() for i in range(len(x))])
    return {i for i in range(len(x)) if score[i] > score.quantile(1 - part)}


def mend(x, outliers, grid):
    h, w = grid
    fixed = x.clone()
    for i in outliers:
        around = [
            j
            for j in range(h * w)
            if j not in outliers and max(abs(i // w - j // w), abs(i % w - j % w)) <= 1
        ]
        if around:
            fixed[i] = x[around].mean(0)
    return fixed


def average(y, s, threshold):
    s = torch.where(s < threshold, 0, s)
    return s @ y / s.sum(1, keepdim=True)


def sharpen(s):
    z = 3 * (s - s.mean())
    return torch.where(z < 0, -math.inf, z).softmax(1)


def last_block(clip, u, maps):
    """Values of (N, C) mixed by a map that is shared by the heads, and some softmaxes."""
    block = clip.visual.transformer.resblocks[-1]
    qkv = F.linear(block.ln_1(u), block.attn.in_proj_weight, block.attn.in_proj_bias)
    heads = block.attn.num_heads
    q, k, v = (part.unflatten(1, (heads, -1)).transpose(0, 1) for part in qkv.chunk(3, dim=1))
    named = {
        name: (x @ x.transpose(1, 2) / x.shape[2] ** 0.5).softmax(2)
        for name, x in dict(q=q, k=k).items()
    }
    mixed = (
        torch.stack(
            [named[m] if isinstance(m, str) else m.expand(heads, -1, -1) for m in maps]
        ).mean(0)
        @ v
    )
    return block.attn.out_proj(mixed.transpose(0, 1).flatten(1))


def sc_clip(clip, image, grid, *, similar, post, levels, weight, k, part, threshold):
    x = outputs(clip, image, grid)
    before, patches = x[-2], x[-2][1:]
    outliers = find(patches, k, part)
    s = cosines(mend(x[similar][1:], outliers, grid))
    s_post = cosines(x[post][1:])
    p = average(mend(patches, outliers, grid), s, threshold)
    m = sum(x[level] for level in levels)
    y = average(last_block(clip, p, [sharpen(s), 'k']) + weight * before[0], s_post, threshold)
    y = y + average(last_block(clip, m[1:], [sharpen(s), 'k']) + weight * m[0], s_post, threshold)
    visual = clip.visual
    return (visual.ln_post(y) @ visual.proj).T.unflatten(1, grid).float()
