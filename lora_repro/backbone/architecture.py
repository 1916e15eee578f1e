"""The only table of where each architecture keeps its parts.

GPT-2 fuses query, key and value into one Conv1D (`attn.c_attn`), Llama shares keys and values between heads and has no
biases, a BERT layer has its output projections in two places. Everything else in the project asks for query, key, value,
output, MLP, LayerNorms, layers and head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

KINDS = ("query", "key", "value", "output", "mlp")


@dataclass(frozen=True)
class Architecture:
    """Where one family of models keeps its parts, as attribute paths.

    `query`, `key`, `value`: (path in a layer, part index); the index counts equal thirds of a fused matrix and is None for a
    matrix of its own. `mlp`: its matrices in forward order; the last one writes to the residual.
    `residuals`: the modules whose outputs are added to the residual stream, after attention and after the MLP: the dropout behind
    the matrix or, without one, the matrix.
    `layer_norms`: in forward order. With `post_norm` each follows a residual addition; the last one follows the MLP's and gives
    the block's output. Without it they come before attention and MLP, and none follows the MLP.
    `classifier`: the modules outside the body that turn features into class scores, in order; all of them are new for a task.
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
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "bert": _BERT,
    "roberta": replace(_BERT, classifier=("classifier",), picks_first=True, after_padding=True),
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
