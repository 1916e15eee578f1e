"""Words of the embedded E2E-style data: attribute values and wordings of each. All written for this project.

Lists run from the most to the least usual wording, and `Draw.pick` prefers the front. A clause is a pair (finite,
attached): "It serves Greek food", "a pub serving Greek food".
"""

from __future__ import annotations

Clause = tuple[str, str]

TRAIN_NAMES = (
    "The Copper Kettle", "Marrow House", "Saffron Lane", "The Quiet Otter", "Lantern Yard", "Pepper & Rye",
    "The Salt Cellar", "Juniper Hall", "Tamarind Tree", "The Brass Heron", "Fennel's", "Nine Plates",
    "The Old Sluice", "Bramble and Bone", "Cardamom", "The Lucky Magpie", "Harbour Street Kitchen", "Oriel",
    "The Painted Door", "Sorrel", "Mulberry Corner", "The Tin Whistle", "Casa Verbena", "The Hungry Moth",
)  # fmt: skip
UNSEEN_NAMES = (
    "The Velvet Badger", "Thistledown", "Kestrel's Table", "The Amber Lock", "Paprika Row",
    "The Wandering Goat", "Quince & Co", "Umber",
)  # fmt: skip
TRAIN_NEAR = (
    "Weir Gallery", "the Corn Hall", "Pilgrim Books", "Station Garage", "Café Lumen", "Tiller's Bakery",
    "the Glass Museum", "Rook Theatre", "Ferry Lane Market", "Hotel Miravel",
)  # fmt: skip
UNSEEN_NEAR = ("Bellweather Arcade", "the Tram Depot", "Café Orsino", "Larkfield Baths")

TYPES = ("restaurant", "pub", "coffee shop")
FOODS = (
    "Greek", "Lebanese", "Peruvian", "Ethiopian", "Vietnamese", "Polish", "Mexican", "Turkish", "Korean",
    "Portuguese",
)  # fmt: skip
PRICES = ("cheap", "moderate", "high", "less than £20", "£20-25", "more than £30")
RATINGS = ("low", "average", "high", "1 out of 5", "3 out of 5", "5 out of 5")
AREAS = ("city centre", "riverside")
FAMILY = ("yes", "no")

NOUNS = ("place", "venue", "establishment", "eatery", "spot")  # when the MR gives no Type

# Words before the noun: slot -> value -> wordings. Values that are missing have none.
ADJECTIVES: dict[str, dict[str, tuple[str, ...]]] = {
    "price": {
        "cheap": ("cheap", "low-priced", "inexpensive", "low cost"),
        "moderate": ("moderately priced", "mid-priced", "reasonably priced"),
        "high": ("expensive", "high-priced", "pricey"),
    },
    "customer rating": {
        "low": ("low rated", "poorly rated", "low-rated"),
        "average": ("average rated", "averagely rated"),
        "high": ("highly rated", "high rated", "well rated"),
        "1 out of 5": ("one star", "1 star", "1-star"),
        "3 out of 5": ("three star", "3 star", "3-star"),
        "5 out of 5": ("five star", "5 star", "5-star"),
    },
    "family friendly": {
        "yes": ("family friendly", "family-friendly", "child friendly", "kid friendly"),
        "no": ("non family-friendly", "adults only"),
    },
    "area": {"city centre": ("city centre",), "riverside": ("riverside",)},
}

# "{v}" is the value.
AREA_PLACES = {
    "city centre": (
        "in the city centre",
        "in the city centre area",
        "in the centre of the city",
        "located in the city centre",
    ),
    "riverside": ("in the riverside area", "by the riverside", "on the riverside", "along the riverside"),
}
NEAR_PLACES = ("near {v}", "close to {v}", "next to {v}", "a short walk from {v}", "located near {v}")

_PRICE_WORDS = {"cheap": "low", "moderate": "moderate", "high": "high"}
_PRICE_SPANS = {
    "less than £20": ("less than £20", "under £20", "below £20"),
    "£20-25": ("£20-25", "between £20 and £25", "£20 to £25"),
    "more than £30": ("more than £30", "over £30", "above £30"),
}


def food_clauses(value: str) -> tuple[Clause, ...]:
    """Clauses that say what is served."""
    return (
        (f"serves {value} food", f"serving {value} food"),
        (f"offers {value} food", f"offering {value} food"),
        (f"serves {value} cuisine", f"with {value} cuisine"),
        (f"provides {value} food", f"providing {value} food"),
        (f"has {value} dishes on the menu", f"with {value} dishes on the menu"),
        (f"specialises in {value} cooking", f"specialising in {value} cooking"),
    )


def price_clauses(value: str) -> tuple[Clause, ...]:
    """Clauses that say what it costs."""
    if value in _PRICE_WORDS:
        word = _PRICE_WORDS[value]
        adjective = ADJECTIVES["price"][value][0]
        return (
            (f"has a {word} price range", f"with a {word} price range"),
            (f"has {word} prices", f"with {word} prices"),
            (f"is {adjective}", f"in the {word} price range"),
            (f"is in the {word} price range", f"at {word} prices"),
        )
    first, second, third = _PRICE_SPANS[value]
    return (
        (f"has a price range of {first}", f"with a price range of {first}"),
        (f"has prices of {second}" if value == "£20-25" else f"costs {second}", f"for {second}"),
        (f"has a price range of {second}", f"in the {first} price range"),
        (f"charges {first}", f"with prices of {third}" if value == "£20-25" else f"with meals {third}"),
    )


def rating_clauses(value: str) -> tuple[Clause, ...]:
    """Clauses that say how customers rate it."""
    stars = ADJECTIVES["customer rating"][value]
    if value in ("low", "average", "high"):
        article = "an" if value == "average" else "a"
        return (
            (f"has {article} {value} customer rating", f"with {article} {value} customer rating"),
            (f"is {stars[0]} by customers", f"with {article} {value} rating from customers"),
            (f"has {value} customer ratings", f"with {value} customer ratings"),
            (f"has {article} {value} rating", f"with {article} {value} rating"),
        )
    return (
        (f"has a customer rating of {value}", f"with a customer rating of {value}"),
        (f"is rated {value} by customers", f"rated {value} by customers"),
        (f"has a {value} customer rating", f"with a {value} customer rating"),
        (f"has a {stars[0]} rating", f"with a {stars[1]} rating"),
    )


def family_clauses(value: str) -> tuple[Clause, ...]:
    """Clauses that say whether families are welcome."""
    if value == "yes":
        return (
            ("is family friendly", "that is family friendly"),
            ("is family-friendly", "with a family-friendly atmosphere"),
            ("is kid friendly", "that is kid friendly"),
            ("welcomes families", "where families are welcome"),
            ("is child friendly", "that is suitable for families"),
        )
    return (
        ("is not family friendly", "that is not family friendly"),
        ("is not family-friendly", "that is not family-friendly"),
        ("is not kid friendly", "that is not kid friendly"),
        ("does not welcome children", "where children are not welcome"),
        ("is for adults only", "for adults only"),
    )


CLAUSES = {
    "food": food_clauses,
    "price": price_clauses,
    "customer rating": rating_clauses,
    "family friendly": family_clauses,
}

# Whole sentences that need no subject.
SENTENCES: dict[str, dict[str, tuple[str, ...]]] = {
    "price": {
        "cheap": ("Prices are low.", "The food is cheap."),
        "moderate": ("Prices are moderate.", "The price range is moderate."),
        "high": ("Prices are high.", "The price range is high."),
        "less than £20": ("Prices are less than £20.", "Meals cost less than £20."),
        "£20-25": ("The price range is £20-25.", "Meals cost £20-25."),
        "more than £30": ("Prices are more than £30.", "Meals cost more than £30."),
    },
    "customer rating": {
        value: (f"The customer rating is {value}.", f"Its customer rating is {value}.") for value in RATINGS
    },
    "family friendly": {
        "yes": ("Families are welcome.", "Children are welcome.", "Kids are welcome here."),
        "no": ("It is not a family friendly place.", "Children are not welcome.", "No kids allowed."),
    },
}
