"""Names of the released networks' modules by those of ours; what hangs below a module is called the same in both.

Only modules that are used: the released networks register others that no forward pass reaches.
"""

from __future__ import annotations

from collections.abc import Mapping

Names = Mapping[str, str]


def at(ours: str, theirs: str, names: Names) -> dict[str, str]:
    """``names`` as they are below a module of ours and one of theirs; "" is the network itself."""
    return {".".join(filter(None, (ours, own))): ".".join(filter(None, (theirs, released))) for own, released in names.items()}


# --- localization -------------------------------------------------------------------------------------------------------------------------

GUIDE = {"audio": "affine_audio", "visual": "affine_video", "visual_score": "affine_v", "audio_score": "affine_g", "score": "affine_h"}
TWO_LAYERS = {"classifier.0": "L1", "classifier.2": "L2"}
AVEL = {**at("attention", "", GUIDE), "audio_lstm.lstm": "lstm_audio", "visual_lstm.lstm": "lstm_video"}
AVEL_ATT = {**AVEL, **TWO_LAYERS}
DMRN = {**AVEL, "fusion.audio": "U_a", "fusion.visual": "U_v", "classifier": "L2"}

PSP = {
    **at("attention", "attention", GUIDE), "audio_lstm.lstm": "lstm_a_v.lstm_audio", "visual_lstm.lstm": "lstm_a_v.lstm_video",
    **at("propagation", "psp", {
        "visual_value.0": "v_L1", "visual_key.0": "v_L2", "audio_key.0": "a_L1", "audio_value.0": "a_L2", "norm": "layer_norm",
    }),
    **TWO_LAYERS,
}  # fmt: skip
PSP_FULL = {
    **PSP, "audio_input": "fa", "visual_input": "fv", "propagation.visual_output.0": "psp.v_fc",
    "propagation.audio_output.0": "psp.a_fc",
}  # fmt: skip
PSP_WEAK = {**PSP, "visual_input": "linear_v", "temporal_weight": "W3"}

CHANNEL_SPATIAL = {
    "audio_query": "affine_audio_1", "visual_query": "affine_video_1", "down": "affine_bottleneck", "up": "affine_v_c_att",
    "position_score.position": "affine_video_2", "position_score.guide": "affine_audio_2", "position_score.score": "affine_v_s_att",
}  # fmt: skip
INTRA = {"project": "affine_matrix", "encoder": "encoder"}
CROSS = {
    "project": "affine_matrix",
    **at("", "decoder.layers.0", {
        "attention": "multihead_attn", "attention_norm": "norm1", "feedforward.0": "linear1", "feedforward.3": "linear2",
        "feedforward_norm": "norm2",
    }),
}  # fmt: skip
RELATION = {
    **at("visual_intra", "video_encoder", INTRA), **at("audio_intra", "audio_encoder", INTRA),
    **at("visual_cross", "video_decoder", CROSS), **at("audio_cross", "audio_decoder", CROSS),
}  # fmt: skip
INTERACTION = {"attention": "video_multihead", "norm": "norm1"}
TWO_HEADS = {"event_head": "localize_module.classifier", "class_head": "localize_module.event_classifier"}
SHARED = {"visual_input.0": "v_fc", **at("relation", "", RELATION)}  # by CMRAN and its heirs

CMRAN = {**SHARED, **TWO_HEADS, **at("attention", "spatial_channel_att", CHANNEL_SPATIAL), **at("interaction", "AVInter", INTERACTION)}

AUDIO_GUIDES = {
    "attention.query": "video_query", "attention.key": "video_key", "attention.value": "video_value",
    **at("visual.channel_spatial", "", CHANNEL_SPATIAL),
    **at("visual.calibration", "", {"position": "affine_video_3", "guide": "affine_video_ave", "score": "ave_v_att"}),
}  # fmt: skip
BOTH_GUIDE = {
    **AUDIO_GUIDES,
    "attention_for_audio.query": "video_query2", "attention_for_audio.key": "video_key2", "attention_for_audio.value": "video_value2",
    "residual.norm": "v_norm", "audio.residual.norm": "a_norm",
    **at("audio.own", "", {"query": "audio_query", "key": "audio_key", "value": "audio_value"}),
    **at("audio.query", "", {"query": "v_query", "key": "vaudio_key", "value": "vaudio_value"}),
}  # fmt: skip
GATES = {
    "visual_gate": "video_gated.0", "audio_gate": "audio_gated.0", "visual_scores": "video_cas", "audio_scores": "audio_cas",
    **at("interaction.visual", "AVInter", INTERACTION), **at("interaction.audio", "VAInter", INTERACTION),
}  # fmt: skip
CMBS = {**SHARED, **at("guidance", "spatial_channel_att", {**AUDIO_GUIDES, "residual.norm": "norm"})}
CMBS_FULL = {
    **CMBS, **TWO_HEADS, **at("suppression", "", GATES), "visual_lstm.lstm": "audio_visual_rnn_layer.visual_rnn",
    "audio_lstm.lstm": "audio_visual_rnn_layer.audio_rnn",
}  # fmt: skip
# Weakly supervised each gate is called by what it was meant to scale, not by what it reads. The activations are a convolution there.
CROSSED = {"visual_gate": "audio_gated.0", "audio_gate": "video_gated.0", "activations": "CAS_model.classifier.0"}
CMBS_WEAK = {**CMBS, **at("weak_head", "", {**GATES, **CROSSED})}
CACE_NET = {
    **SHARED, **TWO_HEADS, **at("guidance", "spatial_channel_att", BOTH_GUIDE), **at("suppression", "", GATES),
    "visual_temporal.lstm": "audio_visual_rnn_layer.visual_rnn", "audio_temporal.lstm": "audio_visual_rnn_layer.audio_rnn",
    "contrast_encoder": "localize_module.encoder_q",
}  # fmt: skip

# --- parsing ------------------------------------------------------------------------------------------------------------------------------

OWN_ATTENTION = {
    "own": "self_attn", "attention_norm": "norm1", "feedforward.0": "linear1", "feedforward.3": "linear2", "feedforward_norm": "norm2",
}  # fmt: skip
HYBRID_ATTENTION = {**OWN_ATTENTION, "cross": "cm_attn"}
FRONT_END = {"audio": "fc_a", "visual": "fc_v", "motion": "fc_st", "fusion": "fc_fusion"}
HAN = {
    **at("front_end", "", FRONT_END), **at("attention", "hat_encoder.layers.0", HYBRID_ATTENTION),
    **at("pooling", "", {"classifier": "fc_prob", "over_time": "fc_frame_att", "over_modalities": "fc_av_att"}),
}  # fmt: skip
CMPAE = {
    **at("front_end", "", {ours: f"{theirs}.0" for ours, theirs in FRONT_END.items()}),  # an ELU behind each
    **at("attention", "hat_encoder.layers.0", HYBRID_ATTENTION),
    **at("pooling", "", {
        "presence": "fc_prob", "absence": "fc_prob_beta", "over_time": "fc_frame_att", "both_for_audio": "v2a", "both_for_visual": "a2v",
    }),
    **at("whole_clip", "", {"shared": "classifier1", "classifier": "classifier2"}),
}  # fmt: skip
REFERENCE = {**at("attention", "hat_encoder.layers.0", OWN_ATTENTION), "classifier": "fc_prob", "over_time": "fc_frame_att"}
# Of either branch by itself, with the layers of the front end that it sees through: their names are the same in both.
AUDIO_REFERENCE = {"audio": FRONT_END["audio"], **at("branch", "", {**REFERENCE, "class_tokens": "cls_tokens_a"})}
VISUAL_REFERENCE = {
    **{layer: FRONT_END[layer] for layer in ("visual", "motion", "fusion")},
    **at("branch", "", {**REFERENCE, "class_tokens": "cls_tokens_v"}),
}  # fmt: skip

# Modules of the released networks that no forward pass reaches, by network (those of localization are in goldens/avel_params.json).
UNUSED = {
    "han": ("audio_encoder", "visual_encoder", "cmt_encoder", "hat_encoder.norm1", "hat_encoder.norm2"),
    "jomold": ("hat_encoder.norm1", "hat_encoder.norm2"),
    "cmpae": ("hat_encoder.norm1", "hat_encoder.norm2", "fc_global"),
    "coleaf_anchor": (
        "hat_encoder.norm1", "hat_encoder.norm2", "fc_global", "hat_encoder.layers.0.cls_tokens_a", "hat_encoder.layers.0.cls_tokens_v",
    ),
    "coleaf_ref_a": ("hat_encoder.norm1", "hat_encoder.norm2", "hat_encoder.layers.0.cm_attn"),
    "coleaf_ref_v": ("hat_encoder.norm1", "hat_encoder.norm2", "hat_encoder.layers.0.cm_attn"),
}  # fmt: skip
