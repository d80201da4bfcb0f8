"""Blocks against loops and against what padding must not do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.layers import recurrent
from pipeline.layers.audio_guided_channel_spatial import AudioGuidedChannelSpatialAttention
from pipeline.layers.audio_guided_spatial import AudioGuidedSpatialAttention
from pipeline.layers.co_guidance import UnscaledAttention
from pipeline.layers.pooling import masked_mean, max_over_time, mean_over_time, top_k_mean
from pipeline.layers.precision import at_least_float32, processor_has_lstm
from pipeline.layers.recurrent import SegmentLSTM
from pipeline.layers.relation import CrossModalRelation, Interaction, IntraModalRelation

pytestmark = pytest.mark.processor

MASK = torch.tensor([[True] * 5, [True, True, True, False, False], [True, False, False, False, False]])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_masked_mean_counts_valid_values_only():
    values = torch.tensor([[1.0, float("nan")], [5.0, 9.0]])
    assert masked_mean(values, torch.tensor([[True, False], [True, True]])) == 5.0
    assert masked_mean(values, torch.zeros(2, 2, dtype=torch.bool)) == 0.0


def test_masked_mean_gives_no_gradient_to_padding():
    values = torch.tensor([1.0, float("inf")], requires_grad=True)
    masked_mean(values, torch.tensor([True, False])).backward()
    assert values.grad.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("k", [1, 2, 4, 9])
def test_top_k_mean_max_and_mean_are_those_of_the_valid_segments(k):
    values = torch.randn(3, 5, 4, dtype=torch.float64)
    for clip, length in enumerate([5, 3, 1]):
        ranked = np.sort(values[clip, :length].numpy(), axis=0)[::-1]
        np.testing.assert_allclose(top_k_mean(values, MASK, k)[clip], ranked[:k].mean(axis=0), rtol=1e-12)
        np.testing.assert_array_equal(max_over_time(values, MASK)[clip], ranked[0])
        np.testing.assert_allclose(mean_over_time(values, MASK)[clip], ranked.mean(axis=0), rtol=1e-12)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_segment_lstm_ends_where_the_clip_ends(bidirectional):
    lstm = SegmentLSTM(3, 8, bidirectional)
    features = torch.randn(3, 5, 3)
    output = lstm(features, MASK)
    assert output.shape == (3, 5, 8)
    for clip, length in enumerate([5, 3, 1]):
        alone = lstm(features[clip : clip + 1, :length], torch.ones(1, length, dtype=torch.bool))
        torch.testing.assert_close(output[clip, :length], alone[0])


@pytest.mark.parametrize("fed", [torch.float32, torch.bfloat16])
def test_without_a_bfloat16_lstm_it_runs_in_float32_and_returns_bfloat16(fed, monkeypatch):
    lstm, features = SegmentLSTM(3, 8), torch.randn(2, 5, 3).to(fed)
    exact = lstm(features.float(), MASK[:1].expand(2, -1))
    monkeypatch.setattr(recurrent, "processor_has_lstm", lambda dtype: dtype != torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = lstm(features, MASK[:1].expand(2, -1))
        assert (features.float() @ features.float().mT).dtype == torch.bfloat16  # autocast is on again
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, exact.bfloat16())
    output.float().sum().backward()
    assert all(weight.grad.dtype == torch.float32 and weight.grad.any() for weight in lstm.parameters())


def test_the_processor_is_tested_once_without_a_random_draw_and_its_lstm_is_used():
    processor_has_lstm.cache_clear()
    before = torch.get_rng_state()
    with torch.inference_mode():
        answer = processor_has_lstm(torch.bfloat16)
    processor_has_lstm(torch.bfloat16)
    assert processor_has_lstm.cache_info().misses == 1
    assert torch.equal(torch.get_rng_state(), before)
    lstm, features = SegmentLSTM(3, 8), torch.randn(2, 5, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        if answer:
            assert torch.equal(lstm(features, MASK[:1].expand(2, -1)), lstm.lstm(features)[0])
        else:
            with pytest.raises(RuntimeError, match="LSTM"):
                lstm.lstm(features)


def test_unscaled_attention_is_softmax_of_plain_dot_products():
    attention = UnscaledAttention(3, 4, 5, 6).double()
    features, memory = torch.randn(2, 3, 3).double(), torch.randn(2, 7, 4).double()
    mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    output = attention(features, memory, mask).detach().numpy()
    for clip, length in enumerate([7, 4]):
        scores = (attention.query(features[clip]) @ attention.key(memory[clip, :length]).T).detach().numpy()
        weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(output[clip], weights @ attention.value(memory[clip, :length]).detach().numpy(), atol=1e-12)


def test_unscaled_attention_of_a_map_to_itself_projects_it_once_on_a_gpu():
    attention, features = UnscaledAttention(3, 3, 5, 6).double(), torch.randn(2, 4, 3, dtype=torch.float64)
    expected = attention.query(features), attention.key(features), attention.value(features)
    for found, value in zip(attention._projected(features), expected, strict=True):
        torch.testing.assert_close(found, value)


def test_audio_guided_attention_adds_component_n_of_the_audio_to_position_n():
    """z_n = w_h . tanh(row n of the visual score + audio component n), written as loops."""
    attention = AudioGuidedSpatialAttention(visual_width=3, audio_width=2, positions=4, hidden=5).double()
    visual, audio = torch.randn(1, 1, 4, 3).double(), torch.randn(1, 1, 2).double()
    pooled, weights = attention(visual, audio)
    state = {name: value.numpy() for name, value in attention.state_dict().items()}
    guide = state["audio_score.weight"] @ np.maximum(state["audio.weight"] @ audio[0, 0].numpy() + state["audio.bias"], 0)
    z = np.zeros(4)
    for n in range(4):
        row = state["visual_score.weight"] @ np.maximum(state["visual.weight"] @ visual[0, 0, n].numpy() + state["visual.bias"], 0)
        z[n] = sum(state["score.weight"][0, m] * np.tanh(row[m] + guide[n]) for m in range(4))
    expected = np.exp(z) / np.exp(z).sum()
    np.testing.assert_allclose(weights[0, 0].detach(), expected, atol=1e-12)
    np.testing.assert_allclose(pooled[0, 0].detach(), expected @ visual[0, 0].numpy(), atol=1e-12)


def test_channel_gate_multiplies_the_raw_map_not_the_reference():
    attention = AudioGuidedChannelSpatialAttention(visual_width=3, audio_width=2, hidden=4)
    reference, audio = torch.randn(1, 2, 5, 3), torch.randn(1, 2, 2)
    pooled, weights = attention(torch.zeros(1, 2, 5, 3), reference, audio)
    assert pooled.abs().max() == 0
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(1, 2))


def test_intra_modal_layers_start_alike():
    layers = IntraModalRelation(3, 8, 2, 16).encoder.layers
    assert len(layers) == 2
    for first, second in zip(layers[0].parameters(), layers[1].parameters(), strict=True):
        assert first is not second
        torch.testing.assert_close(first, second)


def test_cross_modal_relation_has_no_self_attention_layer():
    names = [name for name, _ in CrossModalRelation(3, 8, 2, 16).named_modules() if name.endswith("attention")]
    assert names == ["attention"]


def test_relations_ignore_padding_and_are_the_clip_alone():
    intra, cross = IntraModalRelation(3, 8, 2, 16).eval(), CrossModalRelation(3, 8, 2, 16).eval()
    interaction = Interaction(8, 2, 0.1).eval()
    features, other = torch.randn(3, 5, 3), torch.randn(3, 5, 3)

    def run(first, second, mask):
        memory = intra(second, mask)
        asked = cross(first, memory, mask)
        return interaction(asked, memory, mask)

    output = run(features, other, MASK)
    for clip, length in enumerate([5, 3, 1]):
        alone = run(features[clip : clip + 1, :length], other[clip : clip + 1, :length], torch.ones(1, length, dtype=torch.bool))
        torch.testing.assert_close(output[clip, :length], alone[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("given", "wanted"), [("float16", "float32"), ("bfloat16", "float32"), ("float64", "float64")])
def test_at_least_float32(given, wanted):
    assert at_least_float32(torch.zeros(1, dtype=getattr(torch, given))).dtype == getattr(torch, wanted)
