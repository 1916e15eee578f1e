"""Forgetting: a model's loss on general text, which is in no task here, before and after training.

"LoRA learns less and forgets less" (Biderman et al. 2024, arXiv 2405.09673) compares the rise of this loss with the loss on the
task. The text is twelve passages of different kinds, written for this project and far from restaurants and triples. It is read
without a separator; a method's virtual tokens come before it, as before any input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_repro.train.precision import autocast

if TYPE_CHECKING:
    import torch

    from lora_repro.backbone.model import Backbone
    from lora_repro.methods.base import AbstractMethod
    from lora_repro.objectives.base import Objective

PASSAGES = (
    "Rivers rarely run straight. Where the bank is soft, the faster water on the outside of a bend eats into it, while the "
    "slower water on the inside drops its sand. Over centuries the bend grows until its two ends meet. The river then takes "
    "the short way, and the old loop is left behind as a lake in the shape of a crescent.",
    "The letter came on a Tuesday. Marta put it on the kitchen table and made tea before she opened it, because she already "
    "knew whose hand had written the address. Her brother had been at sea for eleven years. He wrote that he was well, that "
    "he had a dog now, and that he would be home before the first snow.",
    "To repot a plant, water it the day before. Turn the pot on its side, hold the stem between two fingers and tap the rim "
    "until the roots come free. Loosen them gently, cut away what is brown or soft, and set the plant into a pot one size "
    "larger. Fill in fresh soil up to the old mark, press it down lightly, and keep it out of the sun for a week.",
    "def largest(numbers):\n    best = numbers[0]\n    for number in numbers[1:]:\n        if number > best:\n            "
    "best = number\n    return best\n\nprint(largest([3, 9, 4]))  # prints 9",
    "The council voted on Thursday to close the old bridge to cars. From next spring it will be open to people on foot and "
    "on bicycles only. Shop owners on the north bank fear that they will lose customers. A spokeswoman for the city said "
    "that a new bus line would cross the river every ten minutes, and that the plan would be looked at again after a year.",
    "A triangle has three angles, and in the plane they always add up to 180 degrees. To see why, draw a line through one "
    "corner that is parallel to the opposite side. The two angles that it makes with the other sides are equal to the two "
    "remaining angles of the triangle, and together with the angle between them they fill half a turn.",
    "\"Did you lock the door?\" she asked.\n\"I thought you did.\"\n\"I had both hands full.\"\nHe sighed, put down the bags "
    "and walked back up the stairs. When he came down again he was holding her umbrella. \"It was open,\" he said, \"and it "
    "is going to rain.\"",
    "Dear Sir or Madam, I am writing about the washing machine that I bought in your shop on 3 March. It has stopped working "
    "twice in four weeks. As it is still under guarantee, I would like to have it repaired at no cost, or to have my money "
    "back. Please let me know when your technician could come. Yours faithfully, J. Hall",
    "The heart is a muscle of about the size of a fist. Its right side sends blood to the lungs, where it takes up oxygen; "
    "its left side sends that blood to the rest of the body. Four valves keep it from flowing back. At rest it beats some "
    "seventy times a minute, which makes about a hundred thousand beats a day.",
    "In the autumn of that year the harvest failed for the second time. Grain was brought from the south, but the roads were "
    "bad and the price in the northern towns rose to three times what it had been. Many families sold their animals and left "
    "for the coast, where there was work in the harbours. The villages that they left were never as large again.",
    "Sound is slower than light. That is why we see a flash of lightning before we hear the thunder, and why we can tell how "
    "far away the storm is: count the seconds between the two and divide by three to get the distance in kilometres.",
    "The second movement is the quietest. The strings play a long, simple melody that seems to have no end, and above it a "
    "single flute answers, always a little too late. Nothing happens for six minutes, and one could listen to it for an "
    "hour. Then the drums come in, and everything that was certain is gone.",
)  # fmt: skip


BATCH = 2  # passages at a time, so that their logits never set a run's peak memory


def general_loss(
    backbone: Backbone, objective: Objective, dtype: torch.dtype | None, method: AbstractMethod | None = None
) -> float | None:
    """Mean negative log-likelihood of `PASSAGES` in nats per token, without each passage's first token; None for a model that
    generates no text.

    dtype: of autocast, None without. method: the method in the model, if any. Leaves the model in evaluation mode.
    """
    slots, positions = (method.virtual_tokens, method.positions) if method else ((0, 0), 0)
    rows = objective.plain(PASSAGES, backbone, slots, positions - sum(slots))
    if not rows:
        return None
    backbone.model.eval()
    with autocast(backbone.device, dtype):
        return objective.validate(backbone, rows, BATCH)["dev_loss"]
