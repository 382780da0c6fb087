"""Plain, slow, obviously right versions of what the package does fast.

Written from the formulas of the papers, on stock open_clip modules, sharing no code with the
package.
"""

import math

import torch
import torch.nn.functional as F


def embed_words(clip, tokenizer, words, templates):
    """One word at a time, every prompt at the full context length: (Q, D)."""
    rows = []
    for word in words:
        tokens = tokenizer([template.replace('{}', word) for template in templates])
        vectors = clip.encode_text(tokens)
        vectors = vectors / vectors.norm(dim=-1, keepdim=True)
        mean = vectors.mean(0)
        rows.append(mean / mean.norm())
    return torch.stack(rows)


def attend(method, q, k, v, grid):
    """q, k, v (heads, N, d) with a CLS token first."""
    s = q.shape[-1] ** -0.5
    qq = (q @ q.transpose(1, 2) * s).softmax(-1)
    kk = (k @ k.transpose(1, 2) * s).softmax(-1)
    if method == 'vanilla':
        return (q @ k.transpose(1, 2) * s).softmax(-1) @ v
    if method == 'maskclip':
        return v
    if method == 'csa':
        return (qq + kk) @ v
    if method == 'clearclip':
        return qq @ v
    n = grid[0] * grid[1]
    window = torch.zeros(n + 1, n + 1)
    for i in range(n):
        for j in range(n):
            dy, dx = i // grid[1] - j // grid[1], i % grid[1] - j % grid[1]
            window[i + 1, j + 1] = math.exp(-(dy * dy + dx * dx) / (2 * 5.0**2))
    return (k @ k.transpose(1, 2) * s + window).softmax(-1) @ v


def clip_features(clip, crop, method='csa'):
    """Unit-length joint features (D, h, w) of one crop (3, H, W), sides multiples of the patch."""
    visual = clip.visual
    p = visual.patch_size[0]
    grid = crop.shape[1] // p, crop.shape[2] // p
    x = visual.conv1(crop[None])[0].flatten(1).T
    x = torch.cat([visual.class_embedding[None], x])
    position = visual.positional_embedding
    if grid != visual.grid_size:
        side = visual.grid_size[0]
        plane = position[1:].T.reshape(1, -1, side, side)
        scale = tuple((cells + 0.1) / side for cells in grid)
        plane = F.interpolate(plane, scale_factor=scale, mode='bicubic')
        position = torch.cat([position[:1], plane[0].flatten(1).T])
    x = visual.ln_pre(x + position)
    for block in visual.transformer.resblocks[:-1]:
        x = block(x[None])[0]
    block = visual.transformer.resblocks[-1]
    heads = block.attn.num_heads
    qkv = F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)
    q, k, v = (part.unflatten(1, (heads, -1)).transpose(0, 1) for part in qkv.chunk(3, dim=1))
    y = block.attn.out_proj(attend(method, q, k, v, grid).transpose(0, 1).flatten(1))
    if method in ('vanilla', 'csa'):
        y = x + y
        y = y + block.mlp(block.ln_2(y))
    tokens = visual.ln_post(y) @ visual.proj
    tokens = tokens / tokens.norm(dim=-1, keepdim=True)
    return tokens[1:].T.unflatten(1, grid)


def slide(image, crop_size, stride, cosines_of):
    """One window after another on a full canvas: (Q, H, W) mean cosines of image (3, H, W)."""
    height, width = image.shape[1:]
    rows = max(height - crop_size + stride - 1, 0) // stride + 1
    columns = max(width - crop_size + stride - 1, 0) // stride + 1
    total, count = 0, torch.zeros(1, 1, height, width)
    for i in range(rows):
        for j in range(columns):
            y2 = min(i * stride + crop_size, height)
            x2 = min(j * stride + crop_size, width)
            y1, x1 = max(y2 - crop_size, 0), max(x2 - crop_size, 0)
            crop = image[:, y1:y2, x1:x2]
            up = F.interpolate(cosines_of(crop)[None], size=crop.shape[1:], mode='bilinear')
            border = (x1, width - x2, y1, height - y2)
            total = total + F.pad(up, border)
            count = count + F.pad(torch.ones(1, 1, *crop.shape[1:]), border)
    return (total / count)[0]


def pamr(image, mask, num_iter, dilations):
    """All neighbours side by side, (C, P, H, W): image (3, H, W), mask (C, H, W)."""

    def neighbourhood(x, centre):
        reach = max(dilations)
        padded = F.pad(x[None], (reach,) * 4, mode='replicate')[0]
        height, width = x.shape[1:]
        moved = []
        for d in dilations:
            for dy in (-d, 0, d):
                for dx in (-d, 0, d):
                    if centre or (dy, dx) != (0, 0):
                        top, left = reach + dy, reach + dx
                        moved.append(padded[:, top : top + height, left : left + width])
        return torch.stack(moved, dim=1)

    std = neighbourhood(image, centre=True).std(dim=1, keepdim=True)
    distance = (image[:, None] - neighbourhood(image, centre=False)).abs()
    weights = (-distance / (1e-8 + 0.1 * std)).mean(0).softmax(0)
    for _ in range(num_iter):
        mask = (neighbourhood(mask, centre=False) * weights).sum(1)
    return mask


def classify(cosines, query_to_class, *, scale, prob_thd=0.0, area_thd=None, background=None):
    """Cosines (Q, H, W) to class probabilities (C, H, W) and labels (H, W)."""
    p = (cosines * scale).softmax(0)
    index = torch.tensor(query_to_class)
    p = torch.stack([p[index == c].max(0).values for c in range(int(index.max()) + 1)])
    if area_thd is not None:
        labels = p.argmax(0)
        area = torch.stack([(labels == c).sum() for c in range(len(p))]).float()
        foreground = [c for c in range(len(p)) if c != background]
        for c in foreground:
            if area[c] <= area_thd * area[foreground].sum():
                p[c] = 0
    labels = p.argmax(0)
    if background is not None:
        labels[p.max(0).values < prob_thd] = background
    return p, labels
