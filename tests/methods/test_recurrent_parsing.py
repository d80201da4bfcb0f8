"""The AVE- and AVSDN-style parsing networks: their sizes, and forward pass and losses restated in NumPy, one clip at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from restatement import Restatement, binary, relu, scatter, sigmoid
from test_han import CLASSES, LENGTHS, example
from test_mm_pyramid import PUBLISHED, SHAPES

from pipeline.methods import Progress, create

SMALL = {"attention_width": 5, "recurrent_width": 3, "classifier_width": 4}
PARAMETERS = {"avel_parsing": 4_212_691, "avsdn_parsing": 7_214_035}
every_network = pytest.mark.parametrize("name", PARAMETERS)


class Reference(Restatement):
    """One clip -> p^a, p^v (T, C), P^a, P^v, P (C,)."""

    def __call__(self, name, visual, audio, motion):
        pooled = np.stack([self.audio_guided("attention", *each)[0] for each in zip(visual, audio, strict=True)])
        attended = np.concatenate([pooled, motion], axis=1)
        p = [sigmoid(self.head(head, x)) for head, x in zip(("audio", "visual", "both"), getattr(self, name)(audio, attended), strict=True)]
        return p[0], p[1], *(each.mean(axis=0) for each in p)

    def head(self, name, x):
        return self.linear(f"{name}_head.2", relu(self.linear(f"{name}_head.0", x)))

    def avel_parsing(self, audio, attended):
        heard, seen = self.lstm("audio_lstm", audio), self.lstm("visual_lstm", attended)
        return heard, seen, np.concatenate([heard, seen], axis=1)

    def avsdn_parsing(self, audio, attended):
        heard = self.lstm("audio_encoder", audio)
        of_audio = self.last
        seen = self.lstm("visual_encoder", attended)
        start = [
            tuple(self.fused(f"{part}_fusion", relu(a), relu(v)) for part, a, v in zip(("hidden", "cell"), *states, strict=True))
            for states in zip(of_audio, self.last, strict=True)
        ]
        return heard, seen, relu(self.lstm("decoder", np.concatenate([audio, attended], axis=1), start=start))

    def fused(self, name, audio, visual):
        streams = {"audio": audio, "visual": visual}
        u = [self.linear(f"{name}.{part}.2", np.tanh(self.linear(f"{name}.{part}.0", h))) for part, h in streams.items()]
        m = (u[0] + u[1]) / 2
        return (np.tanh(audio + m) + np.tanh(visual + m)) / 2


@every_network
def test_forward_and_losses_equal_the_numpy_restatement(name):
    batch, targets = example()
    torch.manual_seed(1)
    method = scatter(create(name, **SHAPES, **SMALL), limit=0.5)
    reference, scores, terms = Reference(method), method.predict(batch), {"audio": [], "visual": [], "clip": []}
    for clip, length in enumerate(LENGTHS):
        inputs = (stream[clip, :length].numpy() for stream in (batch.visual, batch.audio, batch.others["motion"]))
        p_audio, p_visual, *clips = reference(name, *inputs)
        np.testing.assert_allclose(scores.audio[clip, :length].detach(), p_audio, atol=1e-10)
        np.testing.assert_allclose(scores.visual[clip, :length].detach(), p_visual, atol=1e-10)
        np.testing.assert_allclose(scores.clip_audio[clip].detach(), clips[2], atol=1e-10)
        assert torch.equal(scores.clip_audio, scores.clip_visual)  # the clip's gate is that of both modalities
        for term, of_clip in zip(terms, clips, strict=True):
            terms[term] += map(binary, of_clip, targets.labels[clip, :CLASSES].tolist())
    losses = method.losses(batch, targets, Progress(0, 1))
    for term, values in terms.items():
        assert losses[term].item() == pytest.approx(np.mean(values), abs=1e-10), term
    assert losses["total"].item() == pytest.approx(sum(np.mean(values) for values in terms.values()), abs=1e-10)


@every_network
def test_parameters(name):
    with torch.device("meta"):
        method = create(name, **PUBLISHED)
    assert sum(weight.numel() for weight in method.parameters()) == PARAMETERS[name]
