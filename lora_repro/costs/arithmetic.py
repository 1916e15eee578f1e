"""What a run costs, by arithmetic: floating-point operations, memory and disk. Numbers in, numbers out; no torch.

One multiply-add counts as two operations, as in Kaplan et al. 2020 (arXiv 2001.08361, Section 2.1), and only matrix products
count: norms, activations, embeddings and the optimizer are a few per cent. For one row of T positions, S of them scored:

    forward   = L (2 T N + 4 T^2 d_a) + 2 T A + 2 S H
    backward  = D (2 T N + 8 T^2 d_a) + 2 T W + 4 T A + 2 S H [D > 0] + 2 S H [head trained]

L blocks of N matrix values each; d_a the width of queries (scores Q K^T and their product with V are 2 T^2 d_a each, and each
has two inputs to differentiate); A values of the matrices that a method adds; H values of the head's matrices; D blocks that
the backward pass crosses; W block matrix values that are trained themselves. Full fine-tuning has D = L, W = L N and so three
times the forward pass; a frozen base under LoRA or adapters D = L, W = 0, twice, plus three times their own part; a probe
D = W = 0. Checked against torch's own counter of operations in tests/test_cost.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

FLOAT = 4  # bytes of a trained value, its gradient, and each of Adam's two moments
CHECKPOINTS = 3  # two are kept and a third is being written
PROCESS = 530 * 2**20  # what Python and its libraries take of main memory: 420 to 530 in the published runs of MiniLM
LOADING, SCORING = 5.0, 0.05  # seconds a run, and a generated text (METEOR and its kin), in published records


@dataclass(frozen=True)
class Outline:
    """The sizes of an adapted backbone, symbols as above.

    `flow`: sum of (d_in + d_out) over a block's matrices, what it keeps for the backward pass. `kv`: width of keys. `vocabulary`:
    outputs of a language model's head, 0 for a classifier. `parameters`: all values of the adapted model; `method` and `head`
    of them trained. `score_heads`: attention heads where scores are kept whole (no fused attention), else 0. `quantised`: values
    of the blocks' matrices that are kept in codes of `bits` each, which they take with their scales. `moved`: values of tensors
    that are used as what a method makes of them, and have a gradient though they are not trained.
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

    @property
    def trained(self) -> int:
        return self.method + self.head


@dataclass(frozen=True)
class Work:
    """How much a run has to do. Lengths are mean positions a row, virtual tokens included; `length` counts padding too.

    `scored`: of them, through the head. `micro`: rows at once. `longest`: the longest row. `features`: a frozen body is run
    once over all rows, and only the head is trained on what it says. `recompute`: blocks are run again in the backward pass.
    `new`: generated positions an input and beam, 0 for a class.
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
        """Positions of the padded batches of training: what `train_tokens` is in a record."""
        return round(self.steps * self.batch * self.length)


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of a run: `rows` at a time (training, validation, prompts, classes), or `tokens` one by one."""

    rows: float
    tokens: float

    @property
    def total(self) -> float:
        return self.rows + self.tokens


def forward(o: Outline, positions: float, scored: float) -> float:
    """Operations of one row's forward pass: the first line above."""
    return (
        o.layers * (2 * positions * o.block + 4 * positions**2 * o.width)
        + 2 * positions * o.added
        + 2 * scored * o.head_matrix
    )


def backward(o: Outline, positions: float, scored: float) -> float:
    """Operations of one row's backward pass: the second line above."""
    return (
        o.depth * (2 * positions * o.block + 8 * positions**2 * o.width)
        + 2 * positions * o.weights
        + 4 * positions * o.added
        + 2 * scored * o.head_matrix * ((o.depth > 0) + o.head_trained)
    )


def flops(o: Outline, work: Work) -> Flops:
    """Operations of the whole run: training, validation, and the answers to the test inputs.

    A beam search runs each prompt once and then `beam` x `new` single tokens, each over the prompt and, on average, half of
    what has been generated.
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
    """Peak bytes: the greatest of loading, training and decoding. `size`: bytes of a value in a matrix product.

    Weights: float32 as loaded, a quantised matrix its codes, and where products are in 16 bits a copy of the blocks' float32
    matrices in these. Loading: twice the float32 weights, the file and the model, in main memory: a GPU (`process` 0) gets what
    is loaded. Training: 12 bytes a trained value (gradient, two moments), 8 a moved one (what is made of it, its gradient), and
    activations, each matrix's input and output in the blocks that the backward pass crosses: 18 d values a position in GPT-2,
    near the 34 d bytes (17 d values) of Korthikanti et al. 2022 (arXiv 2205.05198, Eq. 2), of 4 bytes: autocast keeps norms and
    residuals in float32; with `recompute` the d values that enter each block, and all of one; logits in three copies of float32.
    Decoding: keys and values of every beam, and its logits. Fragments, workspaces (a quantised matrix's floats during a product)
    and what the data take are not counted.
    """
    weights = FLOAT * (o.parameters - o.quantised) + o.bits * o.quantised / 8
    weights += size * (o.layers * o.block - o.quantised) if size < FLOAT else 0
    positions = work.micro * work.longest
    kept = FLOAT * (positions * o.flow + 2 * work.micro * o.score_heads * work.longest**2)
    logits = work.micro * work.scored * o.vocabulary * 3 * FLOAT
    activations = o.depth * FLOAT * positions * o.width + kept if work.recompute else o.depth * kept
    training = weights + 3 * FLOAT * o.trained + 2 * FLOAT * o.moved + activations + logits if o.trained else 0
    beams = work.test_batch * work.beam
    cache = beams * (work.prompt + work.most_new) * 2 * o.layers * o.kv * size if work.new else 0
    decoding = weights + cache + (beams * o.vocabulary * 3 * FLOAT if work.new else 0)
    loading = 2 * FLOAT * o.parameters if process else 0
    return process + round(max(loading, training, decoding))


def disk(o: Outline, most: float | None = None) -> tuple[int, int]:
    """(bytes kept: what was trained, unless more than `most` GB; taken meanwhile: that, checkpoints with moments, the best)."""
    trained = FLOAT * o.trained
    kept = trained if most is None or trained <= most * 1e9 else 0
    return kept, trained + CHECKPOINTS * 3 * trained + trained


def seconds(counted: Flops, speed_rows: float, speed_tokens: float, texts: int) -> float:
    """Time of a run at speeds in operations a second, with loading and (for `texts` generated outputs) scoring."""
    return LOADING + SCORING * texts + counted.rows / speed_rows + counted.tokens / speed_tokens
