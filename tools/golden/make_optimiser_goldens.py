#!/usr/bin/env python3
"""Makes tests/golden/optimiser/optimiser.safetensors: ten steps of torch.optim on two small tensors
with given gradients, computed with PyTorch in float64 and rounded to f32 once.

    apt-get install --no-install-recommends python3-torch python3-numpy
    /usr/bin/python3 tools/golden/make_optimiser_goldens.py

For each case, named in metadata "cases" with its attributes: "<case>/weight" (4, 9) and
"<case>/bias" (5) before the first step, "<case>/weight_gradients" (10, 4, 9) and
"<case>/bias_gradients" (10, 5) as given to each step, "<case>/weights" (10, 4, 9) and
"<case>/biases" (10, 5) after it, "<case>/norms" (10), the norm of the gradients before clipping.
The bias does not decay. Gradients have outliers, so that adaptive steps and clipping matter.
Schedules, under "schedule/<name>" (40): the factor of the base rate at each step."""

import json
import pathlib

import torch

from oracle import Values, save

FILE = (pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "optimiser"
        / "optimiser.safetensors")
STEPS = 10
CASES = {
    "sgd": {"kind": "sgd", "rate": 0.05},
    "sgd_momentum": {"kind": "sgd", "rate": 0.02, "momentum": 0.99},
    "sgd_nesterov_l2": {"kind": "sgd", "rate": 0.02, "momentum": 0.9, "nesterov": True,
                        "weight_decay": 0.1},
    "sgd_clipped": {"kind": "sgd", "rate": 0.1, "momentum": 0.9, "clip_norm": 2.0},
    "adam": {"kind": "adam", "rate": 0.01},
    "adam_l2": {"kind": "adam", "rate": 0.01, "beta1": 0.8, "beta2": 0.95, "weight_decay": 0.2},
    "adamw_clipped": {"kind": "adamw", "rate": 0.02, "eps": 1e-4, "weight_decay": 0.3,
                      "clip_norm": 3.0},
}


def optimiser_of(case, weight, bias):
    groups = [{"params": [weight], "weight_decay": case.get("weight_decay", 0)},
              {"params": [bias], "weight_decay": 0}]
    if case["kind"] == "sgd":
        return torch.optim.SGD(groups, lr=case["rate"], momentum=case.get("momentum", 0),
                               nesterov=case.get("nesterov", False))
    make = torch.optim.Adam if case["kind"] == "adam" else torch.optim.AdamW
    return make(groups, lr=case["rate"], eps=case.get("eps", 1e-8),
                betas=(case.get("beta1", 0.9), case.get("beta2", 0.999)))


def run(name, case, values, tensors):
    weight = values.normal(4, 9).requires_grad_()
    bias = values.normal(5).requires_grad_()
    tensors[f"{name}/weight"], tensors[f"{name}/bias"] = weight.detach().clone(), bias.detach().clone()
    gradients = values.normal(STEPS, 4, 9), values.normal(STEPS, 5)
    gradients[0][3, 1, 2] = 50
    tensors[f"{name}/weight_gradients"], tensors[f"{name}/bias_gradients"] = gradients
    optimiser = optimiser_of(case, weight, bias)
    weights, biases, norms = [], [], []
    for step in range(STEPS):
        weight.grad, bias.grad = gradients[0][step].clone(), gradients[1][step].clone()
        limit = case.get("clip_norm", float("inf"))
        norms.append(torch.nn.utils.clip_grad_norm_([weight, bias], limit))
        optimiser.step()
        weights.append(weight.detach().clone())
        biases.append(bias.detach().clone())
    tensors[f"{name}/weights"], tensors[f"{name}/biases"] = torch.stack(weights), torch.stack(biases)
    tensors[f"{name}/norms"] = torch.stack(norms)


def schedule(make, steps=40):
    optimiser = torch.optim.SGD([torch.zeros(1, dtype=torch.float64)], lr=1.0)
    scheduler, factors = make(optimiser), []
    for _ in range(steps):
        factors.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return torch.tensor(factors, dtype=torch.float64)


def main():
    torch.set_default_dtype(torch.float64)
    values, tensors = Values(1), {}
    for name, case in CASES.items():
        run(name, case, values, tensors)
    lr = torch.optim.lr_scheduler
    tensors["schedule/cosine"] = schedule(
        lambda o: lr.CosineAnnealingLR(o, T_max=40, eta_min=0.1))
    tensors["schedule/step"] = schedule(lambda o: lr.StepLR(o, step_size=7, gamma=0.5))
    tensors["schedule/warm_cosine"] = schedule(
        lambda o: lr.SequentialLR(o, [lr.LinearLR(o, 1 / 6, 1, total_iters=5),
                                      lr.CosineAnnealingLR(o, T_max=35)], milestones=[5]))
    FILE.parent.mkdir(parents=True, exist_ok=True)
    save(FILE, tensors, {"cases": json.dumps(CASES)})


if __name__ == "__main__":
    main()
