"""Write `distillation_losses.json`: losses on made-up outputs as PyTorch computes them, in float64.

    python tests/golden/distillation_losses.py   # needs torch

What is written here is each paper's loss in the form that its published code has, for a batch at once: for DIST that of
hunto/DIST_KD, for logit standardisation that of sunshangquan/logit-standardization-KD, and for FitNets, attention transfer, RKD and
CRD that of HobbitLong/RepDistiller. Inputs are normal numbers of NumPy by seed, which `tests/losses/test_published.py` draws again;
a gradient is that with respect to the student's outputs, multiplied with two such inputs.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
BATCH, CLASSES, EXAMPLES, NEGATIVES, WIDTH = 6, 5, 9, 4, 3


def made(seed, *shape):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


def maps_of(seed, channels, size):
    """As features behind ReLU: many are zero."""
    return made(seed, BATCH, size, size, channels).clamp(min=0).permute(0, 3, 1, 2)


def dist(z_s, z_t, beta, gamma, tau):
    def correlation(a, b):
        a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
        return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-8)

    y_s, y_t = (z_s / tau).softmax(1), (z_t / tau).softmax(1)
    inter = 1 - correlation(y_s, y_t).mean()
    intra = 1 - correlation(y_s.T, y_t.T).mean()
    return tau**2 * (beta * inter + gamma * intra)


def standardise(z):
    return (z - z.mean(-1, keepdim=True)) / (1e-7 + z.std(-1, keepdim=True))


def kd_standardised(z_s, z_t, tau):
    log_p, q = F.log_softmax(standardise(z_s) / tau, 1), F.softmax(standardise(z_t) / tau, 1)
    return F.kl_div(log_p, q, reduction="none").sum(1).mean() * tau**2


def attention(f_s, f_t, power):
    def maps(f):
        return F.normalize(f.pow(power).mean(1).view(len(f), -1))

    s, t = f_s.shape[2], f_t.shape[2]
    if s > t:
        f_s = F.adaptive_avg_pool2d(f_s, (t, t))
    elif s < t:
        f_t = F.adaptive_avg_pool2d(f_t, (s, s))
    return (maps(f_s) - maps(f_t)).pow(2).mean()


def rkd(f_s, f_t, distance, angle):
    def distances(e):
        squares = e.pow(2).sum(1)
        found = (squares[:, None] + squares[None] - 2 * e @ e.T).clamp(min=1e-12).sqrt()
        found = found * (1 - torch.eye(len(e)))
        return found / found[found > 0].mean()

    def angles(e):
        units = F.normalize(e[None] - e[:, None], p=2, dim=2)
        return torch.bmm(units, units.transpose(1, 2)).view(-1)

    f_s, f_t = f_s.flatten(1), f_t.flatten(1)
    return distance * F.smooth_l1_loss(distances(f_s), distances(f_t)) + angle * F.smooth_l1_loss(
        angles(f_s), angles(f_t)
    )


def projector(source, target):
    s, t = source.shape[2], target.shape[2]
    channels = source.shape[1], target.shape[1]
    if s == 2 * t:
        return torch.nn.Conv2d(*channels, 3, stride=2, padding=1)
    if 2 * s == t:
        return torch.nn.ConvTranspose2d(*channels, 4, stride=2, padding=1)
    return torch.nn.Conv2d(*channels, 1 + s - t)


def fitnets(f_s, f_t, seed):
    convolution, norm = projector(f_s, f_t), torch.nn.BatchNorm2d(f_t.shape[1])
    transposed = isinstance(convolution, torch.nn.ConvTranspose2d)
    size = convolution.weight.shape[2]
    kernel = made(seed, size, size, f_s.shape[1], f_t.shape[1])
    with torch.no_grad():
        # A transposed convolution adds what a convolution with the turned kernel collects.
        convolution.weight.copy_(kernel.flip((0, 1)).permute(2, 3, 0, 1) if transposed else kernel.permute(3, 2, 0, 1))
        norm.weight.copy_(made(seed + 1, f_t.shape[1]))
        norm.bias.copy_(made(seed + 2, f_t.shape[1]))
    return F.mse_loss(norm(convolution(f_s)), f_t)


class Contrast:
    """CRD: both embeddings, both memories, and Z of both directions, which the first batch sets."""

    def __init__(self, seed, inputs, temperature, momentum):
        self.layers = [torch.nn.Linear(size, WIDTH) for size in inputs]
        for number, layer in enumerate(self.layers):
            with torch.no_grad():
                layer.weight.copy_(made(seed + number, layer.in_features, WIDTH).T)
                layer.bias.copy_(made(seed + 2 + number, WIDTH))
        self.memory = [0.5 * made(seed + 4 + number, EXAMPLES, WIDTH) for number in (0, 1)]
        self.scale = [None, None]
        self.temperature, self.momentum = temperature, momentum

    def __call__(self, features, ids, negatives):
        own = [F.normalize(layer(x)) for layer, x in zip(self.layers, features, strict=True)]
        rows = torch.cat([ids[:, None], negatives], 1)
        loss = 0.0
        for i in (0, 1):
            scores = torch.exp((self.memory[1 - i][rows] * own[i][:, None]).sum(-1) / self.temperature)
            if self.scale[i] is None:
                self.scale[i] = scores.mean().item() * EXAMPLES
            scores = scores / self.scale[i]
            noise = (rows.shape[1] - 1) / EXAMPLES
            hit = torch.log(scores[:, 0] / (scores[:, 0] + noise + 1e-7)).sum()
            missed = torch.log(noise / (scores[:, 1:] + noise + 1e-7)).sum()
            loss = loss - (hit + missed) / len(ids)
        with torch.no_grad():
            for i in (0, 1):
                kept = self.momentum * self.memory[i][ids] + (1 - self.momentum) * own[i]
                self.memory[i][ids] = kept / kept.norm(dim=1, keepdim=True)
        return loss


def told(loss, x):
    """{"loss", "along"}: the loss, and the product of its gradient with respect to x with two directions."""
    (slope,) = torch.autograd.grad(loss, x)
    slope = slope if slope.ndim < 4 else slope.permute(0, 2, 3, 1)
    return {"loss": loss.item(), "along": [(slope * made(seed, *slope.shape)).sum().item() for seed in (1000, 1001)]}


def main():
    z_s, z_t = (3 * made(0, BATCH, CLASSES)).requires_grad_(), 3 * made(1, BATCH, CLASSES)
    found = {"torch": torch.__version__}
    found["dist"] = [
        {"beta": b, "gamma": g, "tau": t, **told(dist(z_s, z_t, b, g, t), z_s)} for b, g, t in ((2, 1, 1), (0.5, 3, 4))
    ]
    found["kd_standardised"] = [{"tau": t, **told(kd_standardised(z_s, z_t, t), z_s)} for t in (1, 2, 4)]

    found["maps"] = []
    for number, (size_s, size_t) in enumerate(((4, 4), (8, 4), (4, 8), (7, 3))):
        f_s = maps_of(10 + number, 3, size_s).requires_grad_()
        f_t = maps_of(20 + number, 5, size_t)
        case = {"sizes": [size_s, size_t], "fitnets": told(fitnets(f_s, f_t, 100 + 10 * number), f_s)}
        case["at"] = [{"power": p, **told(attention(f_s, f_t, p), f_s)} for p in (2, 3)]
        found["maps"].append(case)

    v_s, v_t = made(40, BATCH, 7).requires_grad_(), made(41, BATCH, 4)
    found["rkd"] = [
        {"distance": d, "angle": a, **told(rkd(v_s, v_t, d, a), v_s)} for d, a in ((25, 50), (1, 0), (0, 1))
    ]

    contrast, rng, steps = Contrast(50, (7, 4), 0.07, 0.5), np.random.default_rng(58), []
    for number in range(3):
        ids, negatives = rng.permutation(EXAMPLES)[:BATCH], rng.integers(0, EXAMPLES, (BATCH, NEGATIVES))
        v_s, v_t = made(60 + number, BATCH, 7).requires_grad_(), made(70 + number, BATCH, 4)
        loss = contrast((v_s, v_t), torch.tensor(ids), torch.tensor(negatives))
        steps.append({"ids": ids.tolist(), "negatives": negatives.tolist(), **told(loss, v_s)})
    end = {"scale": contrast.scale, "memory": [memory.tolist() for memory in contrast.memory]}
    found["crd"] = {"steps": steps, "end": end}
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
