"""One setting of benchmark.py in PyTorch: the networks of kd_jax, with its weights, as a good PyTorch program trains them."""

import json
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from benchmark import answer, examples, serve
from torch import nn

TEMPERATURE = 4.0  # of kd_jax's defaults, as is the weight 1 of the teacher's part


class Named(nn.Module):
    """Layers by kd_jax's names of them."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict()

    def add(self, name: str, layer: nn.Module) -> None:
        self.layers[name] = layer

    def of(self, name: str, x):
        return self.layers[name](x)

    def load(self, weights: dict[str, np.ndarray]) -> None:
        """Take kd_jax's weights: kernels [rows, columns, in, out] or [in, out], scales, biases, embeddings."""
        left = dict(weights)
        with torch.no_grad():
            for name, layer in self.layers.items():
                for theirs, ours in (
                    ("kernel", "weight"),
                    ("scale", "weight"),
                    ("embedding", "weight"),
                    ("bias", "bias"),
                ):
                    value = left.pop(f"{name}/{theirs}", None)
                    if value is None:
                        continue
                    if theirs == "kernel":
                        value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
                    getattr(layer, ours).copy_(torch.from_numpy(np.ascontiguousarray(value)))
        if left:
            raise ValueError(f"weights without a layer: {sorted(left)}")


class MLP(Named):
    def __init__(self, sizes, inputs, classes):
        super().__init__()
        widths = [inputs, *sizes, classes]
        self.count = len(widths) - 1
        for i in range(self.count):
            self.add(f"Dense_{i}", nn.Linear(widths[i], widths[i + 1]))

    def forward(self, x):
        x = x.permute(0, 2, 3, 1).flatten(1)
        for i in range(self.count):
            x = self.of(f"Dense_{i}", x)
            x = F.relu(x) if i + 1 < self.count else x
        return x


def convolution(inputs, outputs, size, stride=1):
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class CifarResNet(Named):
    """Pre-activation order, shortcuts without parameters."""

    def __init__(self, depth, channels, classes):
        super().__init__()
        self.add("stem", convolution(channels, 16, 3))
        self.blocks, width = [], 16
        for stage, outputs in enumerate((16, 32, 64)):
            for block in range((depth - 2) // 6):
                stride, name = (2 if stage and not block else 1), f"stage{stage + 1}_block{block + 1}"
                self.add(f"{name}_norm1", nn.BatchNorm2d(width))
                self.add(f"{name}_conv1", convolution(width, outputs, 3, stride))
                self.add(f"{name}_norm2", nn.BatchNorm2d(outputs))
                self.add(f"{name}_conv2", convolution(outputs, outputs, 3))
                self.blocks.append((name, stride, outputs - width))
                width = outputs
        self.add("norm", nn.BatchNorm2d(width))
        self.add("head", nn.Linear(width, classes))

    def forward(self, x):
        x = self.of("stem", x)
        for name, stride, more in self.blocks:
            y = self.of(f"{name}_conv1", F.relu(self.of(f"{name}_norm1", x)))
            y = self.of(f"{name}_conv2", F.relu(self.of(f"{name}_norm2", y)))
            x = F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, more)) + y
        return self.of("head", F.relu(self.of("norm", x)).mean((2, 3)))


class ResNet18(Named):
    """For small images: a 3x3 stem without pooling."""

    def __init__(self, channels, classes):
        super().__init__()
        self.add("stem", convolution(channels, 64, 3))
        self.add("stem_norm", nn.BatchNorm2d(64))
        self.blocks, width = [], 64
        for stage in range(4):
            for block in range(2):
                stride, outputs = (2 if stage and not block else 1), 64 * 2**stage
                name = f"stage{stage + 1}_block{block + 1}"
                self.add(f"{name}_conv1", convolution(width, outputs, 3, stride))
                self.add(f"{name}_norm1", nn.BatchNorm2d(outputs))
                self.add(f"{name}_conv2", convolution(outputs, outputs, 3))
                self.add(f"{name}_norm2", nn.BatchNorm2d(outputs))
                if width != outputs:
                    self.add(f"{name}_shortcut", convolution(width, outputs, 1, stride))
                    self.add(f"{name}_shortcut_norm", nn.BatchNorm2d(outputs))
                self.blocks.append((name, width != outputs))
                width = outputs
        self.add("head", nn.Linear(width, classes))

    def forward(self, x):
        x = F.relu(self.of("stem_norm", self.of("stem", x)))
        for name, changes in self.blocks:
            y = F.relu(self.of(f"{name}_norm1", self.of(f"{name}_conv1", x)))
            y = self.of(f"{name}_norm2", self.of(f"{name}_conv2", y))
            x = F.relu(y + (self.of(f"{name}_shortcut_norm", self.of(f"{name}_shortcut", x)) if changes else x))
        return self.of("head", x.mean((2, 3)))


class RoBERTa(Named):
    def __init__(self, depth, width, vocabulary, positions, classes, dropout=0.1):
        super().__init__()
        self.depth, self.heads, self.dropout = depth, width // 64, dropout
        self.add("tokens", nn.Embedding(vocabulary, width))
        self.add("positions", nn.Embedding(positions + 2, width))
        self.add("types", nn.Embedding(1, width))
        self.add("embedding_norm", nn.LayerNorm(width, 1e-5))
        for i in range(1, depth + 1):
            for part in ("query", "key", "value", "attention_out"):
                self.add(f"layer{i}_{part}", nn.Linear(width, width))
            self.add(f"layer{i}_intermediate", nn.Linear(width, 4 * width))
            self.add(f"layer{i}_output", nn.Linear(4 * width, width))
            self.add(f"layer{i}_attention_norm", nn.LayerNorm(width, 1e-5))
            self.add(f"layer{i}_output_norm", nn.LayerNorm(width, 1e-5))
        self.add("head_dense", nn.Linear(width, width))
        self.add("head_out", nn.Linear(width, classes))

    def drop(self, x):
        return F.dropout(x, self.dropout, self.training)

    def forward(self, x):
        # All texts here have the full length, so there is no mask.
        places = torch.arange(2, 2 + x.shape[1], device=x.device)
        y = self.of("tokens", x) + self.of("positions", places) + self.layers["types"].weight[0]
        y = self.drop(self.of("embedding_norm", y))
        for i in range(1, self.depth + 1):
            q, k, v = (
                self.of(f"layer{i}_{part}", y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                for part in ("query", "key", "value")
            )
            z = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            y = self.of(f"layer{i}_attention_norm", y + self.drop(self.of(f"layer{i}_attention_out", z)))
            z = self.of(f"layer{i}_output", F.gelu(self.of(f"layer{i}_intermediate", y)))
            y = self.of(f"layer{i}_output_norm", y + self.drop(z))
        y = self.drop(torch.tanh(self.of("head_dense", self.drop(y[:, 0]))))
        return self.of("head_out", y)


def network(name: str, setting: dict) -> Named:
    """Return the twin of a network of kd_jax."""
    classes = setting["classes"]
    if setting["kind"] == "texts":
        depth, width = {"roberta_base": (12, 768), "roberta_medium": (8, 512), "roberta_small": (4, 512)}[name]
        return RoBERTa(depth, width, setting["vocabulary"], setting["length"], classes)
    if name.startswith("mlp_"):
        return MLP([int(w) for w in name[4:].split("x")], setting["side"] ** 2 * setting["channels"], classes)
    if name == "resnet18_small":
        return ResNet18(setting["channels"], classes)
    return CifarResNet(int(name.removeprefix("resnet")), setting["channels"], classes)


def main(setting: dict) -> None:
    device = torch.device("cuda" if setting["platform"] in ("gpu", "cuda") else "cpu")
    torch.backends.cudnn.benchmark = True
    is_image, batch, side = setting["kind"] == "images", setting["batch"], setting.get("side")
    x, y = examples(setting)
    if is_image:
        mean = x.reshape(-1, x.shape[-1]).mean(0, dtype=np.float64)
        std = x.reshape(-1, x.shape[-1]).std(0, dtype=np.float64)
        mean, std = (torch.tensor(of, dtype=torch.float32, device=device) for of in (mean, std))
    x = torch.from_numpy(x if is_image else x.astype(np.int32)).to(device)
    y = torch.from_numpy(y.astype(np.int64)).to(device)
    weights = np.load(setting["weights"]) if setting["weights"] else None
    nets = {}
    for arm in ("student", "teacher"):
        if setting[arm]:
            of = network(setting[arm], setting)
            if weights is not None:  # without, nothing is compared, but compilers' caches are filled
                of.load({name.split(":", 1)[1]: weights[name] for name in weights.files if name.startswith(f"{arm}:")})
            nets[arm] = of.to(device).to(memory_format=torch.channels_last) if is_image else of.to(device)
    student, teacher = nets["student"], nets.get("teacher")
    if teacher is not None:
        teacher.eval().requires_grad_(False)

    def clean(rows):
        images = (x[rows].to(torch.float32) - mean) / std
        return images.permute(0, 3, 1, 2)  # channels last in memory, as the data are

    def view(rows):
        if not is_image:
            return x[rows]
        if setting["augment"] == "none":
            return clean(rows)
        images = F.pad(clean(rows), (4, 4, 4, 4))
        steps = torch.arange(side, device=device)
        down, right = (torch.randint(0, 9, (len(rows), 1), device=device) for _ in range(2))
        last = x.shape[2] - 1
        flips = torch.rand(len(rows), 1, device=device) < 0.5
        columns = torch.where(flips, last - steps, steps) + right
        index = torch.arange(len(rows), device=device)[:, None, None]
        picked = images.permute(0, 2, 3, 1)[index, (steps + down)[:, :, None], columns[:, None, :]]
        return picked.permute(0, 3, 1, 2)

    def loss_of(inputs, labels):
        logits = student(inputs).float()
        if teacher is None:
            return F.cross_entropy(logits, labels)
        with torch.no_grad():
            targets = F.softmax(teacher(inputs).float() / TEMPERATURE, dim=-1)
        return TEMPERATURE**2 * F.cross_entropy(logits / TEMPERATURE, targets)

    # The same loss as kd_jax's, in float32, before the arithmetic that is timed.
    student.train(is_image)
    torch.backends.cudnn.allow_tf32 = False
    rows = torch.arange(batch, device=device)
    with torch.no_grad():
        # The running statistics that this moves are not read by a network in training.
        first = float(loss_of(clean(rows) if is_image else x[rows], y[rows]))
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("high")

    student.train()
    if is_image:
        optimizer = torch.optim.SGD(
            student.parameters(), 0.01, 0.9, weight_decay=5e-4, nesterov=True, fused=device.type == "cuda" or None
        )
    else:
        optimizer = torch.optim.AdamW(
            student.parameters(), 2e-5, weight_decay=0.01, fused=device.type == "cuda" or None
        )
    lower = setting["precision"] == "bfloat16"

    def objective(rows):
        with torch.autocast(device.type, torch.bfloat16, enabled=lower):
            return loss_of(view(rows), y[rows])

    if setting["compile"]:
        objective = torch.compile(objective, mode="reduce-overhead")
    order, at = torch.randperm(len(y), device=device), 0

    def run(steps: int) -> int:
        nonlocal order, at
        for _ in range(steps):
            if at + batch > len(y):
                order, at = torch.randperm(len(y), device=device), 0
            loss = objective(order[at : at + batch])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            at += batch
        return steps

    def block():
        if device.type == "cuda":
            torch.cuda.synchronize()

    began = time.perf_counter()
    run(1)
    block()
    compiled = time.perf_counter() - began
    run(4)  # CUDA graphs are recorded after a warm-up
    block()
    began = time.perf_counter()
    run(2)
    block()
    compiled -= (time.perf_counter() - began) / 2
    answer(
        compile_seconds=compiled,
        first_loss=first,
        device=torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        torch=torch.__version__,
        peak_bytes=torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
    )
    serve(run, block)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
