"""The loss against Eq. 9 written out in plain float64 Python, its gradients, half precision, and several processes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import distributed, multiprocessing
from torch.nn.functional import normalize

from pipeline.contrastive.loss import info_nce

pytestmark = pytest.mark.processor


def by_hand(visual, audio, tau, groups=None):
    """Eq. 9, term by term."""
    rows, total = range(len(visual)), 0.0
    for i in rows:
        scores = [
            sum(v * a for v, a in zip(visual[i], audio[j], strict=True)) / tau
            for j in rows
            if groups is None or j == i or groups[j] != groups[i]
        ]
        own = sum(v * a for v, a in zip(visual[i], audio[i], strict=True)) / tau
        total -= math.log(math.exp(own) / math.fsum(math.exp(score) for score in scores))
    return total / len(visual)


def pairs(count, seed=0, dtype=torch.float64, width=6):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(count, width, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", range(1, 9))
def test_the_loss_is_equation_9(count, dtype):
    visual, audio = (normalize(rows, dim=1) for rows in pairs(count, seed=count))
    v, a = visual.tolist(), audio.tolist()
    groups = [0, 1, 0, 2, 1, 3, 0, 4][:count]
    for tau in (0.07, 0.2, 1.0):
        forth, back = by_hand(v, a, tau), by_hand(a, v, tau)
        rows = (visual.to(dtype), audio.to(dtype))
        assert float(info_nce(*rows, tau)) == pytest.approx(forth, rel=1e-6, abs=1e-6)
        assert float(info_nce(*rows, tau, symmetric=True)) == pytest.approx((forth + back) / 2, rel=1e-6, abs=1e-6)
        grouped = info_nce(*rows, tau, groups=torch.tensor(groups))
        assert float(grouped) == pytest.approx(by_hand(v, a, tau, groups), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("groups", [None, [0, 1, 1, 2]])
def test_gradients(symmetric, groups):
    visual, audio = (rows.requires_grad_() for rows in pairs(4, seed=9))
    tau = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    numbers = None if groups is None else torch.tensor(groups)
    assert torch.autograd.gradcheck(lambda v, a, t: info_nce(v, a, t, groups=numbers, symmetric=symmetric), (visual, audio, tau))


@pytest.mark.fault(32)
def test_a_batch_of_one_has_no_negative_no_loss_and_no_gradient():
    visual, audio = (rows.requires_grad_() for rows in pairs(1))
    tau = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    loss = info_nce(visual, audio, tau, symmetric=True)
    loss.backward()
    assert loss.item() == 0
    assert all(torch.equal(tensor.grad, torch.zeros_like(tensor)) for tensor in (visual, audio, tau))


@pytest.mark.fault(32)
def test_a_batch_of_one_group_has_no_negative_either():
    visual, audio = (rows.requires_grad_() for rows in pairs(3))
    loss = info_nce(visual, audio, 0.2, groups=torch.zeros(3, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(visual.grad, torch.zeros_like(visual))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.fault(36)
def test_half_precision_neither_overflows_nor_loses_the_sum(dtype):
    """Dot products of 65,536 at tau = 0.01 overflow float16 and exp alike; the loss is computed from float32."""
    visual = torch.tensor([[256.0, 0], [0, 256]], dtype=dtype, requires_grad=True)
    audio = torch.tensor([[256.0, 0], [256, 0]], dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = info_nce(visual, audio, 0.01)
    loss.backward()
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(math.log(2), rel=1e-6)  # both rows see two equal scores
    assert torch.isfinite(visual.grad).all()


def in_one_process(rank, port, visual, audio, groups, out):
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    half = len(visual) // 2
    v, a = (rows[rank * half : (rank + 1) * half].clone().requires_grad_() for rows in (visual, audio))
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    loss = info_nce(v, a, tau, groups=groups[rank * half : (rank + 1) * half], symmetric=True)
    loss.backward()
    torch.save({"loss": loss.detach(), "visual": v.grad, "audio": a.grad, "tau": tau.grad}, f"{out}/{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.fault(35)
def test_two_processes_of_half_a_batch_equal_one_of_the_whole(tmp_path, free_port):
    visual, audio = pairs(6, seed=4)
    groups = torch.tensor([0, 1, 2, 1, 3, 0])  # a clip's other row lies in the other process
    arguments = (free_port, visual, audio, groups, str(tmp_path))
    multiprocessing.start_processes(in_one_process, arguments, nprocs=2, start_method="fork")
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    visual.requires_grad_(), audio.requires_grad_()
    whole = info_nce(visual, audio, tau, groups=groups, symmetric=True)
    whole.backward()
    torch.testing.assert_close((parts[0]["loss"] + parts[1]["loss"]) / 2, whole.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close((parts[0]["tau"] + parts[1]["tau"]) / 2, tau.grad, rtol=1e-12, atol=1e-12)
    for name, rows in (("visual", visual), ("audio", audio)):  # halved, as DistributedDataParallel averages
        torch.testing.assert_close(torch.cat([part[name] for part in parts]) / 2, rows.grad, rtol=1e-12, atol=1e-12)
