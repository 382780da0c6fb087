"""CAT-Seg's head by its formulas, one class and one image after another in thought, nothing saved.

The guidance is repeated for every class, classes are padded with real tokens, and each convolution
is run as it stands. Weights carry the names of the published checkpoints
(https://github.com/cvlab-kaist/CAT-Seg), so a published head can be put in as it is.

Shapes: B images, T classes, P prompts, D joint channels, grid (h, w), C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PlainSwin(nn.Module):
    def __init__(self, dim, guidance, heads, window, shift):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = nn.Module()
        self.attn.q = nn.Linear(dim + guidance, dim)
        self.attn.k = nn.Linear(dim + guidance, dim)
        self.attn.v = nn.Linear(dim, dim)
        self.attn.proj = nn.Linear(dim, dim)
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def sees(self, h, w, device):
        """Which token of the grid sees which other, from the definition: (h*w, h*w) bool."""
        numbers = []
        for side in (h, w):
            place = torch.arange(side, device=device)
            if side <= self.window:
                numbers.append(torch.zeros_like(place))
                continue
            padded = -(-side // self.window) * self.window
            rolled = (place - self.shift) % padded
            wrapped = (place < self.shift).long()
            numbers.append(2 * (rolled // self.window) + wrapped)
        key = (numbers[0][:, None] * 1000 + numbers[1][None]).flatten()
        return key[:, None] == key[None, :]

    def forward(self, x, guidance, h, w):
        """x (M, h*w, C), guidance (M, h*w, G): attention over the whole grid, windows by a mask."""
        u = self.norm1(x)
        both = torch.cat([u, guidance], dim=-1)
        q, k, v = self.attn.q(both), self.attn.k(both), self.attn.v(u)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        scores = scores.masked_fill(~self.sees(h, w, x.device), -torch.inf)
        y = scores.softmax(-1) @ v
        x = x + self.attn.proj(y.transpose(1, 2).flatten(2))
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x))))

    def forward_windows(self, x, guidance, h, w):
        """The same cut into windows, where the window divides the grid; for timing."""
        m, _, c = x.shape
        side, s = min(self.window, h), self.shift if h > self.window else 0

        def cut(t):
            t = t.view(m, h, w, -1).roll((-s, -s), (1, 2))
            t = t.view(m, h // side, side, w // side, side, -1).permute(0, 1, 3, 2, 4, 5)
            return t.reshape(-1, side * side, t.shape[-1])

        u = cut(torch.cat([self.norm1(x), guidance], dim=-1))
        q, k, v = self.attn.q(u), self.attn.k(u), self.attn.v(u[..., :c])
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        if s:
            numbers = torch.zeros(1, h, w, 1)
            wrapped = (torch.arange(h) < s).float()
            numbers = numbers + 2 * wrapped[None, :, None, None]
            wrapped = (torch.arange(w) < s).float()
            numbers = (numbers + wrapped[None, None, :, None]).expand(m, h, w, 1)
            region = cut(numbers)[: (h // side) * (w // side), :, 0]
            mask = (region[:, :, None] != region[:, None, :]).float() * -100
            scores = scores.view(m, -1, *scores.shape[1:]) + mask[None, :, None]
            scores = scores.flatten(0, 1)
        y = self.attn.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        y = y.view(m, h // side, w // side, side, side, c).permute(0, 1, 3, 2, 4, 5)
        y = y.reshape(m, h, w, c).roll((s, s), (1, 2)).view(m, h * w, c)
        x = x + y
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x))))


class PlainSpatial(nn.Module):
    def __init__(self, dim, guidance, heads, window):
        super().__init__()
        self.block_1 = PlainSwin(dim, guidance, heads, window, 0)
        self.block_2 = PlainSwin(dim, guidance, heads, window, window // 2)
        self.guidance_norm = nn.LayerNorm(guidance)

    def forward(self, x, guidance, windows=False):
        """x (B, C, T, h, w), guidance (B, G, h, w)."""
        b, c, t, h, w = x.shape
        x = x.permute(0, 2, 3, 4, 1).reshape(b * t, h * w, c)
        g = guidance[:, None].expand(-1, t, -1, -1, -1).reshape(b * t, -1, h * w).transpose(1, 2)
        g = self.guidance_norm(g)
        for block in (self.block_1, self.block_2):
            x = block.forward_windows(x, g, h, w) if windows else block(x, g, h, w)
        return x.view(b, t, h, w, c).permute(0, 4, 1, 2, 3)


class PlainClass(nn.Module):
    def __init__(self, dim, guidance, heads, pad_len):
        super().__init__()
        self.heads, self.pad_len = heads, pad_len
        self.attention = nn.Module()
        self.attention.q = nn.Linear(dim + guidance, dim)
        self.attention.k = nn.Linear(dim + guidance, dim)
        self.attention.v = nn.Linear(dim, dim)
        self.MLP = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, dim))
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.padding_tokens = nn.Parameter(torch.zeros(1, 1, dim))
        self.padding_guidance = nn.Parameter(torch.zeros(1, 1, guidance))

    def forward(self, x, guidance, pooling):
        """x (B, C, T, h, w), guidance (B, T, G)."""
        b, c, t, h, w = x.shape
        pooled = F.avg_pool2d(x.transpose(1, 2).flatten(0, 1), pooling)
        hp, wp = pooled.shape[-2:]
        z = pooled.view(b, t, c, hp, wp).permute(0, 3, 4, 1, 2).reshape(b * hp * wp, t, c)
        g = guidance[:, None, None].expand(-1, hp, wp, -1, -1).reshape(b * hp * wp, t, -1)
        extra = max(self.pad_len - t, 0)
        z = torch.cat([z, self.padding_tokens.expand(len(z), extra, -1)], dim=1)
        g = torch.cat([g, self.padding_guidance.expand(len(z), extra, -1)], dim=1)
        u = self.norm1(z)
        both = torch.cat([u, g], dim=-1)
        q, k, v = self.attention.q(both), self.attention.k(both), self.attention.v(u)
        q, k, v = (s.unflatten(-1, (self.heads, -1)) for s in (q, k, v))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        n = v.shape[1]
        kv = torch.einsum('nshd,nshe->nhde', k, v / n)
        norm = 1 / (torch.einsum('nlhd,nhd->nlh', q, k.sum(1)) + 1e-6)
        y = torch.einsum('nlhd,nhde,nlh->nlhe', q, kv, norm) * n
        z = z + y.flatten(2)
        z = z + self.MLP(self.norm2(z))
        z = z[:, :t].view(b, hp, wp, t, c).permute(0, 3, 4, 1, 2).flatten(0, 1)
        z = F.interpolate(z, size=(h, w), mode='bilinear', align_corners=True)
        return x + z.view(b, t, c, h, w).transpose(1, 2)


class PlainUp(nn.Module):
    def __init__(self, width, out, guidance):
        super().__init__()
        self.up = nn.ConvTranspose2d(width, width - guidance, 2, stride=2)
        self.conv = nn.Module()
        self.conv.double_conv = nn.Sequential(
            nn.Conv2d(width, out, 3, padding=1, bias=False),
            nn.GroupNorm(out // 16, out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.GroupNorm(out // 16, out),
            nn.ReLU(),
        )

    def forward(self, x, guidance):
        """x (B*T, C, h, w), classes of an image side by side; guidance (B, G, 2h, 2w)."""
        guidance = guidance.repeat_interleave(len(x) // len(guidance), dim=0)
        return self.conv.double_conv(torch.cat([self.up(x), guidance], dim=1))


class PlainAggregator(nn.Module):
    """``sem_seg_head.predictor.transformer`` of a published checkpoint."""

    def __init__(self, embed_dim=512, *, prompts=1, dim=128, heads=4, window=12, pad_len=256):
        super().__init__()
        self.pad_len = pad_len
        self.layers = nn.ModuleList(nn.Module() for _ in range(2))
        for layer in self.layers:
            layer.swin_block = PlainSpatial(dim, dim, heads, window)
            layer.attention = PlainClass(dim, dim, heads, pad_len)
        self.conv1 = nn.Conv2d(prompts, dim, 7, padding=3)
        self.guidance_projection = nn.Sequential(nn.Conv2d(embed_dim, dim, 3, padding=1), nn.ReLU())
        self.text_guidance_projection = nn.Sequential(nn.Linear(embed_dim, dim), nn.ReLU())
        self.decoder_guidance_projection = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU())
            for a, b in ((256, 32), (128, 16))
        )
        self.decoder1, self.decoder2 = PlainUp(dim, 64, 32), PlainUp(64, 32, 16)
        self.head = nn.Conv2d(32, 1, 3, padding=1)

    def forward(
        self, features: Tensor, text: Tensor, guidance: list[Tensor], pooling=1, windows=False
    ) -> Tensor:
        """(B, D, h, w), (T, P, D), and (B, 256, 2h, 2w), (B, 128, 4h, 4w) to (B, T, 4h, 4w)."""
        every = len(text)
        image, text = F.normalize(features, dim=1), F.normalize(text, dim=-1)
        text = text.expand(len(image), -1, -1, -1)
        cost = torch.einsum('bdhw,btpd->bpthw', image, text)
        kept = None
        if every > self.pad_len:
            best = cost.amax(dim=(1, 3, 4))
            kept = best.topk(self.pad_len, dim=1).indices
            text = torch.stack([words[index] for words, index in zip(text, kept, strict=True)])
            cost = torch.einsum('bdhw,btpd->bpthw', image, text)
        b, _, t, h, w = cost.shape
        x = self.conv1(cost.transpose(1, 2).flatten(0, 1))
        x = x.view(b, t, -1, h, w).transpose(1, 2)
        appearance = self.guidance_projection(features)
        words = self.text_guidance_projection(F.normalize(text.mean(2), dim=-1))
        for layer in self.layers:
            x = layer.swin_block(x, appearance, windows)
            x = layer.attention(x, words, pooling)
        x = x.transpose(1, 2).flatten(0, 1)
        projections = self.decoder_guidance_projection
        x = self.decoder1(x, projections[0](guidance[0]))
        x = self.decoder2(x, projections[1](guidance[1]))
        logits = self.head(x).view(b, t, 4 * h, 4 * w)
        if kept is None:
            return logits
        full = torch.full((b, every, 4 * h, 4 * w), -100.0)
        for row, index, values in zip(full, kept, logits, strict=True):
            row[index] = values
        return full


def plain_loss(logits: Tensor, labels: Tensor, *, ignore_as_negative: bool) -> Tensor:
    """One-hot targets and PyTorch's own binary cross-entropy."""
    logits = F.interpolate(logits, size=labels.shape[-2:], mode='bilinear', align_corners=False)
    targets = torch.zeros_like(logits)
    for index in range(logits.shape[1]):
        targets[:, index] = labels == index
    if ignore_as_negative:
        return F.binary_cross_entropy_with_logits(logits, targets)
    counted = (labels != 255)[:, None].expand_as(logits)
    return F.binary_cross_entropy_with_logits(logits[counted], targets[counted])


AGGREGATOR = 'sem_seg_head.predictor.transformer.'
CLIP = 'sem_seg_head.predictor.clip_model.'


def published_state(plain, ups, clip):
    """The state dict of an aggregator, two upsamplings and an open_clip CLIP, by the names that
    Detectron2 wrote."""
    state = {AGGREGATOR + name: value for name, value in plain.state_dict().items()}
    for i, up in enumerate(ups, 1):
        state |= {f'upsample{i}.{name}': value for name, value in up.state_dict().items()}
    for name, value in clip.state_dict().items():
        if name.endswith('attn.in_proj_weight'):
            for which, part in zip('qkv', value.chunk(3), strict=True):
                state[CLIP + name.replace('in_proj_weight', f'{which}_proj_weight')] = part
        else:
            state[CLIP + name] = value
    return state
