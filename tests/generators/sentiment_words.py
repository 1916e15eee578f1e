"""Words of the generated sentiment task: what is reviewed, and opinions on it. All written for this project.

Each list of opinions is a pair (positive, negative) of equal length, so that no count of words reveals the label.
"""

from __future__ import annotations

from typing import NamedTuple

Pair = tuple[tuple[str, ...], tuple[str, ...]]


class Domain(NamedTuple):
    """A kind of thing reviewed: "film", "films", "seen" (I have seen one), "in this film", its parts with their kind."""

    whole: str
    wholes: str
    seen: str
    within: str
    parts: tuple[tuple[str, str], ...]


DOMAINS = (
    Domain("film", "films", "seen", "in this film", (
        ("plot", "story"), ("ending", "story"), ("script", "story"), ("lead actor", "stage"),
        ("soundtrack", "music"),
    )),
    Domain("play", "plays", "seen", "in this play", (
        ("opening act", "story"), ("final act", "story"), ("leading actress", "stage"), ("narrator", "stage"),
        ("closing song", "music"),
    )),
    Domain("novel", "novels", "read", "in this novel", (
        ("first chapter", "story"), ("storyline", "story"), ("love story", "story"), ("twist", "story"),
        ("epilogue", "story"),
    )),
    Domain("restaurant", "restaurants", "visited", "at this restaurant", (
        ("soup", "food"), ("curry", "food"), ("dessert", "food"), ("waiter", "staff"),
        ("dining room", "room"),
    )),
    Domain("hotel", "hotels", "visited", "at this hotel", (
        ("bedroom", "room"), ("lobby", "room"), ("bathroom", "room"), ("receptionist", "staff"),
        ("breakfast", "food"),
    )),
    Domain("phone", "phones", "owned", "on this phone", (
        ("camera", "device"), ("keyboard", "device"), ("touchscreen", "device"), ("speaker", "device"),
        ("fingerprint sensor", "device"),
    )),
    Domain("concert", "concerts", "attended", "at this concert", (
        ("opening song", "music"), ("encore", "music"), ("solo", "music"), ("conductor", "stage"),
        ("choir", "stage"),
    )),
    Domain("museum", "museums", "visited", "at this museum", (
        ("guided tour", "talk"), ("audio guide", "talk"), ("main exhibition", "talk"), ("guard", "staff"),
        ("reading room", "room"),
    )),
    Domain("course", "courses", "taken", "on this course", (
        ("opening lecture", "talk"), ("textbook", "talk"), ("workshop", "talk"), ("final session", "talk"),
        ("tutor", "staff"),
    )),
    Domain("café", "cafés", "visited", "at this café", (
        ("cheesecake", "food"), ("sandwich", "food"), ("omelette", "food"), ("barista", "staff"),
        ("terrace", "room"),
    )),
)  # fmt: skip

# What fits "the plot was ..." and "a ... plot", by kind.
ADJECTIVES: dict[str, Pair] = {
    "story": (
        ("gripping", "moving", "clever", "original", "absorbing", "witty", "touching", "surprising"),
        ("dull", "predictable", "clumsy", "muddled", "shallow", "tedious", "tiresome", "contrived"),
    ),
    "stage": (
        ("superb", "convincing", "flawless", "lively", "inspired", "captivating", "impressive", "brilliant"),
        ("wooden", "lifeless", "sloppy", "unconvincing", "dreary", "half-hearted", "mediocre", "hopeless"),
    ),
    "music": (
        ("uplifting", "powerful", "beautiful", "stirring", "enchanting", "memorable", "exquisite", "rousing"),
        ("monotonous", "tuneless", "grating", "forgettable", "tedious", "dreary", "shrill", "feeble"),
    ),
    "food": (
        ("delicious", "tasty", "superb", "excellent", "appetising", "well seasoned", "exquisite", "satisfying"),
        ("bland", "tasteless", "greasy", "inedible", "unappetising", "poorly cooked", "mediocre", "dreadful"),
    ),
    "room": (
        ("spotless", "cosy", "comfortable", "bright", "charming", "inviting", "airy", "elegant"),
        ("dirty", "cramped", "noisy", "shabby", "dingy", "uncomfortable", "gloomy", "neglected"),
    ),
    "staff": (
        ("friendly", "attentive", "helpful", "patient", "polite", "kind", "courteous", "charming"),
        ("rude", "inattentive", "unhelpful", "impatient", "careless", "grumpy", "arrogant", "indifferent"),
    ),
    "device": (
        ("reliable", "sturdy", "dependable", "well made", "well designed", "user-friendly", "accurate", "excellent"),
        ("unreliable", "flimsy", "faulty", "badly made", "badly designed", "clunky", "fragile", "useless"),
    ),
    "talk": (
        ("fascinating", "informative", "imaginative", "engaging", "well organised", "lively", "inspiring", "clear"),
        ("boring", "confusing", "dated", "chaotic", "disorganised", "uninspired", "tedious", "superficial"),
    ),
}  # fmt: skip

VERBS = (  # base, past: "the plot delighted me"
    (("delight", "delighted"), ("impress", "impressed"), ("please", "pleased"), ("charm", "charmed"),
     ("thrill", "thrilled"), ("satisfy", "satisfied")),
    (("disappoint", "disappointed"), ("annoy", "annoyed"), ("frustrate", "frustrated"), ("bore", "bored"),
     ("irritate", "irritated"), ("dismay", "dismayed")),
)  # fmt: skip
NOUNS: Pair = (
    ("a delight", "a joy", "a triumph", "a treat", "a success", "a pleasure"),
    ("a disappointment", "a chore", "a disaster", "an ordeal", "a failure", "a let-down"),
)
LIKING = (  # base, -ing
    (("love", "loving"), ("like", "liking"), ("admire", "admiring"), ("praise", "praising")),
    (("hate", "hating"), ("dislike", "disliking"), ("despise", "despising"), ("criticise", "criticising")),
)
HOPES: Pair = (("hoped",), ("feared",))
GOOD: Pair = (("good", "kind", "nice"), ("bad", "harsh", "nasty"))

INTENSIFIERS = ("truly", "really", "quite", "remarkably", "simply", "frankly", "decidedly", "surprisingly")
OPENERS = ("all in all", "in the end", "to be honest", "if you ask me", "truth be told", "as it turned out")
PEOPLE = (
    "my brother", "my sister", "a colleague", "our neighbour", "a friend of mine", "my aunt", "my flatmate",
    "a local paper",
)  # fmt: skip
SELVES = (("I", "me", "my", "was"), ("we", "us", "our", "were"))
