"""CACE-Net's modules in the detector: co-guidance of streams by its formulas, the contrast clip by clip, and the switches."""

import numpy as np
import pytest
import torch
from contract import DENSE, EARLY, LATE, build, losses, random_batch

from pipeline.methods.cace_net_dense.guidance import StreamCoGuidance

WIDTH = 8


def softmax(x):
    share = np.exp(x - x.max(-1, keepdims=True))
    return share / share.sum(-1, keepdims=True)


@pytest.mark.parametrize("context", ["time", "none"])
@pytest.mark.parametrize("scale", ["sqrt", "none"])
def test_co_guidance_is_its_formulas(context, scale):
    torch.manual_seed(0)
    network = StreamCoGuidance(WIDTH, context, scale, beta=0.4, psi=0.3, dropout=0.2).double().eval()
    w = {name: value.numpy() for name, value in network.state_dict().items()}
    rng = np.random.default_rng(0)
    visual, audio = rng.normal(size=(2, 7, WIDTH))
    visual[5:], audio[5:] = 0, 0
    mask = np.arange(7) < 5

    def lin(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def attention(asking, asked, name):
        by = np.sqrt(WIDTH // 4) if scale == "sqrt" else 1.0
        scores = lin(asking, f"{name}.query") @ lin(asked, f"{name}.key").T / by
        return softmax(np.where(mask, scores, -np.inf)) @ lin(asked, f"{name}.value")

    def normed(x, name):
        gap = x - x.mean(-1, keepdims=True)
        return gap / np.sqrt((gap**2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def refined(name):
        return normed(visual + (attention(visual, visual, name) if context == "time" else lin(visual, name)), "visual_norm")

    query = np.maximum(lin(audio, "channels.audio"), 0) * np.maximum(lin(visual, "channels.visual"), 0)
    gate = sigmoid(lin(np.maximum(lin(query, "channels.gate.0"), 0), "channels.gate.2"))
    expected_visual = visual * (1 + gate) * (1 + 0.4 * sigmoid(refined("refine")))
    refined_audio = normed(audio + attention(audio, audio, "refine_audio"), "audio_norm")
    expected_audio = audio * (1 + 0.3 * sigmoid(attention(refined("refine_for_audio"), refined_audio, "ask_audio")))
    with torch.no_grad():
        found = network(*(torch.from_numpy(values)[None] for values in (visual, audio, mask)))
    np.testing.assert_allclose(found[0][0], expected_visual * mask[:, None], atol=1e-12)
    np.testing.assert_allclose(found[1][0], expected_audio * mask[:, None], atol=1e-12)


def method_of(**settings):
    return build("cace_net_dense", {**DENSE, "dependency_width": 0, "drop_path": 0.0, "guidance_dropout": 0.0, "crop": 1.0, **settings})


def test_the_contrast_is_the_mean_of_clips_with_background():
    """Events lie strictly inside; by hand over the encoded steps, without noise, for clips with and without background."""
    method = method_of(contrast_noise=0.0).double().train()
    batch, truth = random_batch()
    truth = truth.double()
    truth.dense.spans[1] = torch.tensor([-1.0, 7.0])  # all of the clip: no background
    batch.visual, batch.audio = batch.visual.double(), batch.audio.double()
    found = losses(method, batch, truth)["contrast"].item()
    with torch.no_grad():
        levels = method.levels(*method.streams(batch))
        encoded = torch.nn.functional.normalize(method.contrast_encoder(levels[0].fused), dim=-1).numpy()
    expected = []
    for rows, ((start, end),) in zip(encoded, truth.dense.spans.tolist(), strict=True):
        event = [start - 0.5 < step < end - 0.5 for step in range(6)] * 2
        both = np.concatenate([rows, rows])
        if all(event):
            continue
        terms = []
        for i in range(12):
            others = [j for j in range(12) if j != i]
            positive = [j for j in others if (event[j] if event[i] else j % 6 == i % 6)]
            total = sum(np.exp(both[i] @ both[j] / 0.1) for j in others)
            terms.append(-np.log(sum(np.exp(both[i] @ both[j] / 0.1) for j in positive) / total / len(positive)))
        expected.append(np.mean(terms))
    assert len(expected) == 3
    assert found == pytest.approx(np.mean(expected))


def test_the_rows_of_table_s3():
    """Without AVCA and BECE the parameters are the detector's; each adds its own."""
    baseline = method_of(avca="none", bece=False)
    plain = build("unav", {**DENSE, "dependency_width": 0})
    assert baseline.detector.state_dict().keys() == plain.detector.state_dict().keys()
    names = {name.partition(".")[0] for name, _ in baseline.named_parameters()}
    assert names == {"detector"}
    assert {name.partition(".")[0] for name, _ in method_of(bece=False).named_parameters()} == {"detector", "guidance"}
    assert {name.partition(".")[0] for name, _ in method_of().named_parameters()} == {"detector", "guidance", "contrast_encoder"}


@pytest.mark.parametrize("heads", ["both", "regression", "classification"])
def test_enhanced_features_reach_the_heads_that_are_named_once_the_contrast_has_started(heads):
    method, (batch, truth) = method_of(bece_heads=heads, avca="none"), random_batch()
    assert losses(method, batch, truth, EARLY)["contrast"] == 0
    method.eval()
    with torch.no_grad():
        levels = method.levels(*method.streams(batch))
        before = method.found(levels)
        losses(method.train(), batch, truth, LATE)
        after = method.eval().found(levels)
    changed = {"classification": (before.logits != after.logits).any(), "regression": (before.sides != after.sides).any()}
    assert changed == {part: heads in (part, "both") for part in changed}
