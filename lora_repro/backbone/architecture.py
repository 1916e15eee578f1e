"""The only table of where each architecture keeps its parts.

GPT-2 fuses query, key and value into one Conv1D (`attn.c_attn`), Llama shares keys and values between heads and has no
biases, a BERT layer has its output projections in two places. Everything else in the project asks for query, key, value,
output, MLP, LayerNorms, layers and head. A model type is added by its entry here and a tiny shape of it in tests/conftest.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from lora_repro.errors import UserError

KINDS = ("query", "key", "value", "output", "mlp")


@dataclass(frozen=True)
class Architecture:
    """Where one family of models keeps its parts, as attribute paths.

    `body`: where in transformers' base model the module is that the head's model calls. Other paths start there or in a layer.
    `query`, `key`, `value`: (path in a layer, part index); the index counts the parts [query; key; value] of a fused matrix and
    is None for a matrix of its own. `by_head`: the path of a fused matrix whose rows are grouped by head instead, [q_1; k_1; v_1;
    q_2; ...]; `weights.HeadwiseMatrix` replaces it. `mlp`: its matrices in forward order; the last one writes to the residual.
    `residuals`: the modules whose outputs are added to the residual stream, after attention and after the MLP: the dropout behind
    the matrix or, without one, the matrix.
    `layer_norms`: in forward order. With `post_norm` each follows a residual addition; the last one follows the MLP's and gives
    the block's output. Without it they come before attention and MLP, and none follows the MLP.
    `classifier`: the modules outside the body that turn features into class scores, in order; all of them are new for a task.
    `relu` is the function, where it is no module of the model.
    `head_dropout`: the setting of the classifier's own dropout, if it has one.
    `pooling`: its features are the hidden state of the `first` or the `last` real position. `picks_first`: the first of these
    modules takes (B, T, d) and picks the first position itself.
    `packs`: transformers can exchange its attention, which is plain (no window, no position bias), so that rows may be packed
    (`backbone.packed`). `after_padding`: position ids start after the padding token's id.
    """

    layers: str
    query: tuple[str, int | None]
    key: tuple[str, int | None]
    value: tuple[str, int | None]
    output: str
    mlp: tuple[str, ...]
    residuals: tuple[str, str]
    layer_norms: tuple[str, ...]
    embedding: str
    heads: dict[str, str]
    dropouts: tuple[str, ...] = ()
    post_norm: bool = False
    classifier: tuple[str, ...] = ("score",)
    head_dropout: str | None = None
    pooling: str = "last"
    picks_first: bool = False
    packs: bool = False
    after_padding: bool = False
    by_head: str | None = None
    body: str = ""


_BERT = Architecture(
    layers="encoder.layer",
    query=("attention.self.query", None),
    key=("attention.self.key", None),
    value=("attention.self.value", None),
    output="attention.output.dense",
    mlp=("intermediate.dense", "output.dense"),
    residuals=("attention.output.dropout", "output.dropout"),
    layer_norms=("attention.output.LayerNorm", "output.LayerNorm"),
    embedding="embeddings.word_embeddings",
    heads={"classification": "classifier"},
    dropouts=("hidden_dropout_prob", "attention_probs_dropout_prob"),
    post_norm=True,
    classifier=("dropout", "classifier"),
    head_dropout="classifier_dropout",
    pooling="first",
    packs=True,
)

_LLAMA = Architecture(
    layers="layers",
    query=("self_attn.q_proj", None),
    key=("self_attn.k_proj", None),
    value=("self_attn.v_proj", None),
    output="self_attn.o_proj",
    mlp=("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
    residuals=("self_attn.o_proj", "mlp.down_proj"),
    layer_norms=("input_layernorm", "post_attention_layernorm"),
    embedding="embed_tokens",
    heads={"lm": "lm_head", "classification": "score"},
    dropouts=("attention_dropout",),
    packs=True,
)

# Gemma-2 and later normalise what attention and MLP add to the residual, too, and let some layers see a window only.
_GEMMA2 = replace(
    _LLAMA,
    residuals=("post_attention_layernorm", "post_feedforward_layernorm"),
    layer_norms=("input_layernorm", "pre_feedforward_layernorm"),
    packs=False,
)

_ROBERTA = replace(_BERT, classifier=("classifier",), picks_first=True, after_padding=True)

ARCHITECTURES: dict[str, Architecture] = {
    "gpt2": Architecture(
        layers="h",
        query=("attn.c_attn", 0),
        key=("attn.c_attn", 1),
        value=("attn.c_attn", 2),
        output="attn.c_proj",
        mlp=("mlp.c_fc", "mlp.c_proj"),
        residuals=("attn.resid_dropout", "mlp.dropout"),
        layer_norms=("ln_1", "ln_2"),
        embedding="wte",
        heads={"lm": "lm_head", "classification": "score"},
        dropouts=("embd_pdrop", "attn_pdrop", "resid_pdrop"),
        packs=True,
    ),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "smollm3"), _LLAMA),
    "gemma2": _GEMMA2,
    "gemma3_text": _GEMMA2,
    "olmo2": replace(
        _LLAMA,
        residuals=("post_attention_layernorm", "post_feedforward_layernorm"),
        layer_norms=("post_attention_layernorm", "post_feedforward_layernorm"),
    ),
    "phi": replace(
        _LLAMA,
        output="self_attn.dense",
        mlp=("mlp.fc1", "mlp.fc2"),
        residuals=("self_attn.dense", "mlp.fc2"),
        layer_norms=("input_layernorm",),
        dropouts=("embd_pdrop", "resid_pdrop", "attention_dropout"),
    ),
    "phi3": replace(
        _LLAMA,
        query=("self_attn.qkv_proj", 0),
        key=("self_attn.qkv_proj", 1),
        value=("self_attn.qkv_proj", 2),
        mlp=("mlp.gate_up_proj", "mlp.down_proj"),
        residuals=("resid_attn_dropout", "resid_mlp_dropout"),
        dropouts=("embd_pdrop", "resid_pdrop", "attention_dropout"),
    ),
    "gpt_neox": replace(
        _LLAMA,
        query=("attention.query_key_value.matrix", 0),
        key=("attention.query_key_value.matrix", 1),
        value=("attention.query_key_value.matrix", 2),
        output="attention.dense",
        mlp=("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
        residuals=("post_attention_dropout", "post_mlp_dropout"),
        embedding="embed_in",
        dropouts=("attention_dropout", "hidden_dropout"),
        by_head="attention.query_key_value",
    ),
    "opt": replace(
        _LLAMA,
        output="self_attn.out_proj",
        mlp=("fc1", "fc2"),
        residuals=("self_attn.out_proj", "fc2"),
        layer_norms=("self_attn_layer_norm", "final_layer_norm"),
        dropouts=("dropout", "attention_dropout"),
        packs=False,  # it counts positions from a mask (B, T)
        body="decoder",
    ),
    "bert": _BERT,
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert"), _ROBERTA),
    "electra": replace(_BERT, classifier=("classifier",), picks_first=True),
    "distilbert": replace(
        _BERT,
        layers="transformer.layer",
        query=("attention.q_lin", None),
        key=("attention.k_lin", None),
        value=("attention.v_lin", None),
        output="attention.out_lin",
        mlp=("ffn.lin1", "ffn.lin2"),
        residuals=("attention.out_lin", "ffn.dropout"),
        layer_norms=("sa_layer_norm", "output_layer_norm"),
        dropouts=("dropout", "attention_dropout"),
        classifier=("pre_classifier", "relu", "dropout", "classifier"),
        head_dropout="seq_classif_dropout",
    ),
    "modernbert": replace(
        _BERT,
        layers="layers",
        query=("attn.Wqkv", 0),
        key=("attn.Wqkv", 1),
        value=("attn.Wqkv", 2),
        output="attn.Wo",
        mlp=("mlp.Wi", "mlp.Wo"),
        residuals=("attn.out_drop", "mlp.Wo"),
        layer_norms=("mlp_norm",),
        embedding="embeddings.tok_embeddings",
        dropouts=("embedding_dropout", "attention_dropout", "mlp_dropout"),
        post_norm=False,
        classifier=("head", "drop", "classifier"),
        packs=False,
    ),
    # Its attention adds a learned bias by relative position, one table for all layers. Like positions, no method trains it.
    "mpnet": replace(
        _BERT,
        query=("attention.attn.q", None),
        key=("attention.attn.k", None),
        value=("attention.attn.v", None),
        output="attention.attn.o",
        residuals=("attention.dropout", "output.dropout"),
        layer_norms=("attention.LayerNorm", "output.LayerNorm"),
        classifier=("classifier",),
        head_dropout=None,  # the body's
        picks_first=True,
        packs=False,
        after_padding=True,
    ),
    "deberta-v2": replace(
        _BERT,
        query=("attention.self.query_proj", None),
        key=("attention.self.key_proj", None),
        value=("attention.self.value_proj", None),
        classifier=("pooler", "dropout", "classifier"),
        head_dropout="cls_dropout",
        picks_first=True,
        packs=False,
    ),
}


# Why a model type cannot have an entry.
SHARED = "its layers share their weights, so none can be adapted by itself"
REFUSED = {"albert": SHARED}


def unknown(kind: object) -> str:
    """What to tell of a model type without an entry."""
    names = ", ".join(ARCHITECTURES)
    place = "ARCHITECTURES in lora_repro/backbone/architecture.py"
    return f"unknown architecture {kind} (known: {names}): add where its layers keep query, key, value, output and MLP to {place}"


def table_of(config: Any) -> Architecture:
    """The entry of a model's configuration. Raises UserError, before anything is built, for a model that has none."""
    kind = str(getattr(config, "model_type", "") or type(config).__name__)
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(f"{kind} is an encoder-decoder: only decoders (GPT-2, Llama) and encoders (BERT) can be adapted here")
    if kind in REFUSED:
        raise UserError(f"{kind} cannot be adapted here: {REFUSED[kind]}")
    if kind not in ARCHITECTURES:
        raise UserError(unknown(kind))
    if getattr(config, "do_layer_norm_before", True) is False:
        raise UserError(f"this {kind} has its LayerNorms after the residual additions (OPT-350m): ARCHITECTURES has no entry")
    return ARCHITECTURES[kind]


@dataclass(frozen=True)
class Projection:
    """One weight matrix: rows [start, start + size) of the output of the linear map at `parent.attribute`."""

    parent: nn.Module
    attribute: str
    start: int
    size: int

    @property
    def module(self) -> nn.Module:
        return getattr(self.parent, self.attribute)  # type: ignore[no-any-return]

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.size)

    def replace(self, module: nn.Module) -> None:
        """Put `module` in place of the projection's module."""
        setattr(self.parent, self.attribute, module)
