"""Table 16 of the paper on MNLI: a decoder trained on few pairs, every method beside the paper's values of GPT-3 175B."""

from dataclasses import replace

from experiments import low_data

TABLE = replace(
    low_data.TABLE,
    title="Few training pairs of MNLI",
    remarks=(
        "Accuracy in per cent; the prediction is the likeliest of three words. The paper's model is a thousand times larger.",
        "The checkpoint with the lowest dev loss is scored. Each method has one learning rate for all numbers of pairs.",
    ),
)
