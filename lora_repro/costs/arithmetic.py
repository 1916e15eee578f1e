"""What a run costs, by arithmetic: floating-point operations, memory and disk. Numbers in, numbers out; no torch.

One multiply-add counts as two operations, as in Kaplan et al. 2020 (arXiv 2001.08361, Section 2.1). Only matrix products count:
norms, activations, embeddings and the optimizer are a few per cent. For one row of T positions, S of them scored:

    forward   = L (2 T N + 4 T^2 d_a) + 2 T A + 2 S H
    backward  = D (2 T N + 8 T^2 d_a) + 2 T W + 4 T A + 2 S H [D > 0] + 2 S H [head trained]

- L: blocks, of N matrix values each. D: blocks that the backward pass crosses.
- d_a: width of queries. Scores Q K^T and their product with V are 2 T^2 d_a each, with two inputs each to differentiate.
- A: values of the matrices that a method adds. H: values of the head's matrices. W: block matrix values that are trained.

Full fine-tuning has D = L and W = L N: its forward and backward passes together cost three times the forward pass. LoRA or
adapters over a frozen base have D = L and W = 0: twice the forward pass, plus three times their own part. A probe has
D = W = 0. tests/test_cost.py checks this against torch's own counter of operations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

FLOAT = 4  # bytes of a trained value, its gradient, and each of Adam's two moments
NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)  # a code; an 8-bit scale per 64 codes; a float32 per 256 scales (`backbone.nf4`)
NF4_SINGLE_BITS = 4 + 32 / 64  # without double quantisation: a float32 scale per 64 codes
MOMENTS = 2  # AdamW keeps the mean of the gradient and of its square
CHECKPOINTS = 3  # two are kept and a third is being written
PROCESS = 530 * 2**20  # bytes of Python and its libraries in main memory: 420 to 530 MiB in the published runs of MiniLM
LOADING, SCORING = 5.0, 0.05  # seconds per run, and per generated text (METEOR and the like), in published records


@dataclass(frozen=True)
class Outline:
    """The sizes of an adapted backbone, symbols as above.

    `flow`: sum of (d_in + d_out) over a block's matrices, the values it keeps for the backward pass. `kv`: width of keys.
    `vocabulary`: outputs of a language model's head, 0 for a classifier. `parameters`: all values of the adapted model, of which
    `method` and `head` are trained. `score_heads`: attention heads whose scores are stored (no fused attention), else 0, with
    `score_width` further values for each of their queries. `added_flow`: as `flow`, of all matrices that a method adds.
    `quantised`: block matrix values kept as codes, at `bits` each with their scales. `moved`: values of tensors that a method
    recomputes from others; they have a gradient though they are not trained.
    """

    layers: int
    block: int
    width: int
    flow: int
    kv: int
    head_matrix: int
    vocabulary: int
    parameters: int
    method: int
    head: int
    added: int
    weights: int
    depth: int
    head_trained: bool
    score_heads: int = 0
    quantised: int = 0
    bits: float = 8 * FLOAT
    moved: int = 0
    added_flow: int = 0
    score_width: int = 0

    @property
    def trained(self) -> int:
        return self.method + self.head


@dataclass(frozen=True)
class Work:
    """How much a run has to do. Lengths are mean positions per row, virtual tokens included; `length` includes padding, too.

    `scored`: positions that go through the head. `micro`: rows per micro-batch. `longest`: the longest row. `features`: the
    frozen body runs once over all rows, and only the head is trained on its outputs. `recompute`: blocks are run again in the
    backward pass. `new`: generated positions per input and beam, 0 for a class.
    """

    steps: int
    batch: int
    micro: int
    length: float
    scored: float
    longest: int
    train_rows: int
    dev_rows: int
    dev_length: float
    evaluations: int
    test_rows: int
    prompt: float
    new: float = 0
    most_new: int = 0
    beam: int = 1
    test_batch: int = 1
    features: bool = False
    recompute: bool = False

    @property
    def train_tokens(self) -> int:
        """Positions in the padded batches of training, as `train_tokens` of a record."""
        return round(self.steps * self.batch * self.length)


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of a run, in whole `rows` (training, validation, prompts, classes) and in single `tokens`."""

    rows: float
    tokens: float

    @property
    def total(self) -> float:
        return self.rows + self.tokens


def forward(o: Outline, positions: float, scored: float) -> float:
    """Operations of one row's forward pass, by the module's first formula."""
    return (
        o.layers * (2 * positions * o.block + 4 * positions**2 * o.width)
        + 2 * positions * o.added
        + 2 * scored * o.head_matrix
    )


def backward(o: Outline, positions: float, scored: float) -> float:
    """Operations of one row's backward pass, by the module's second formula."""
    return (
        o.depth * (2 * positions * o.block + 8 * positions**2 * o.width)
        + 2 * positions * o.weights
        + 4 * positions * o.added
        + 2 * scored * o.head_matrix * ((o.depth > 0) + o.head_trained)
    )


def flops(o: Outline, work: Work) -> Flops:
    """Operations of the whole run: training, validation, and the answers to the test inputs.

    A beam search runs each prompt once and then `beam` x `new` single tokens. Each token attends to the prompt and, on average,
    to half of the generated text.
    """
    rows = work.test_rows * forward(o, work.prompt, 1)
    validation = work.evaluations * work.dev_rows * forward(o, work.dev_length, work.scored)
    if work.features:
        body = replace(o, head_matrix=0)
        rows += work.train_rows * forward(body, work.length, 0) + work.dev_rows * forward(body, work.dev_length, 0)
        rows += work.steps * work.batch * 4 * o.head_matrix
    elif o.trained:
        step = forward(o, work.length, work.scored) + backward(o, work.length, work.scored)
        step += forward(replace(o, layers=o.depth, head_matrix=0), work.length, 0) if work.recompute else 0
        rows += work.steps * work.batch * step + validation
    context = work.prompt + work.new / 2
    token = o.layers * (2 * o.block + 4 * context * o.width) + 2 * o.added + 2 * o.head_matrix
    return Flops(rows, work.test_rows * work.beam * work.new * token)


def memory(o: Outline, work: Work, size: int, process: int = PROCESS) -> int:
    """Peak bytes: the largest of loading, training and decoding. `size`: bytes of a value in a matrix product.

    - Weights: float32 as loaded; codes for a quantised matrix. With products in 16 bits the blocks' frozen matrices are kept in
      16 bits alone (`backbone.weights.round_frozen`). Trained ones have a 16-bit copy, and so has a language model's head, which
      is taken to share the embedding's values.
    - Loading: twice the float32 weights (the file and the model) in main memory. A GPU (`process` 0) gets only the result.
    - Training: the weights, 8 bytes per trained value (two moments), 8 per moved value (the recomputed value, its gradient), and
      the larger of two, since a backward pass frees activations as gradients come: the activations and three float32 copies of
      the logits, or the gradients. A trained head's gradient comes first, and is there twice where an embedding shares it.
    - Activations of a block that the backward pass crosses, per position: the outputs of its matrices, which attention and the
      activation function keep, in the products' type; the inputs of its two norms in float32; two dropout masks of a byte; and in
      the products' type the inputs of every matrix that is trained. For GPT-2 and all weights that is 46 d bytes in bf16, where
      Korthikanti et al. 2022 (arXiv 2205.05198, Eq. 2) have 34 d with norms in 16 bits. Stored attention scores take a softmax in
      float32, a mask, and what is left after dropout. With `recompute`: the d values that enter each block, and all of one.
    - Decoding: the weights, keys and values of every beam, and its logits.

    Not counted: fragmentation, workspaces (a quantised matrix as floats during a product), and the data.
    """
    matrices = o.layers * o.block - o.quantised
    trainable = min(o.weights, matrices)
    weights = FLOAT * (o.parameters - o.quantised) + o.bits * o.quantised / 8
    if size < FLOAT:
        weights += size * (trainable + (o.head_matrix if o.vocabulary else 0)) - (FLOAT - size) * (matrices - trainable)
    positions = work.micro * work.longest
    inputs = o.flow / 2 * trainable / matrices if matrices else 0
    adapter_inputs = o.added_flow / 2 / o.layers
    block_bytes = positions * (size * (o.flow / 2 + inputs + adapter_inputs) + 2 * (FLOAT + 1) * o.width)
    queries = work.micro * o.score_heads * work.longest
    block_bytes += queries * ((FLOAT + 1 + size) * work.longest + size * o.score_width)
    logits = work.micro * work.scored * o.vocabulary * 3 * FLOAT
    activations = o.depth * FLOAT * positions * o.width + block_bytes if work.recompute else o.depth * block_bytes
    head = FLOAT * o.head_matrix if o.head_trained else 0
    passing = max(activations + logits + head, FLOAT * o.trained + (head if o.vocabulary else 0))
    training = weights + MOMENTS * FLOAT * o.trained + 2 * FLOAT * o.moved + passing if o.trained else 0
    beams = work.test_batch * work.beam
    cache = beams * (work.prompt + work.most_new) * 2 * o.layers * o.kv * size if work.new else 0
    decoding = weights + cache + (beams * o.vocabulary * 3 * FLOAT if work.new else 0)
    loading = 2 * FLOAT * o.parameters if process else 0
    return process + round(max(loading, training, decoding))


def disk(o: Outline, most: float | None = None) -> tuple[int, int]:
    """(bytes kept, bytes used meanwhile).

    Kept: the trained values, unless they exceed `most` GB. Used: these, the checkpoints with moments, and the best weights.
    """
    weights = FLOAT * o.trained
    final_bytes = weights if most is None or weights <= most * 1e9 else 0
    return final_bytes, weights + CHECKPOINTS * 3 * weights + weights


def seconds(operations: Flops, speed_rows: float, speed_tokens: float, texts: int) -> float:
    """Seconds of a run at these speeds in operations per second, with loading and the scoring of `texts` generated outputs."""
    return LOADING + SCORING * texts + operations.rows / speed_rows + operations.tokens / speed_tokens


@dataclass(frozen=True)
class Limit:
    """The least bytes that training needs, by arithmetic; activations and buffers come on top."""

    weights: int
    gradients: int
    state: int
    checkpoint: int

    @property
    def above_model(self) -> int:
        """What training adds to the loaded model."""
        return self.gradients + self.state

    @property
    def training(self) -> int:
        return self.weights + self.above_model


def limit(total: int, trained: int, width: int = FLOAT, quantised: int = 0) -> Limit:
    """Bytes: weights P w, gradients T w, AdamW's moments 2 T w, checkpoint T w.

    P = `total` values of the adapted model, T = `trained` values, w = `width` bytes per value. `quantised` of the P values are in
    NF4 and take 4.127 bits each instead. Paper, Section 4.2: frozen values need no optimizer state, so training with T << P
    needs little more than the weights.
    """
    weights = (total - quantised) * width + round(quantised * NF4_BITS / 8)
    return Limit(weights, trained * width, MOMENTS * trained * width, trained * width)
