"""The generated WebNLG- and DART-style sets.

Invented things with a few invented facts each, and a small grammar that puts these into words. The categories `UNSEEN` and their
relations are in the WebNLG-style test part only.
"""

from __future__ import annotations

from lora_repro.tasks.triples.files import Triple
from tests.generators.draw import Draw

Row = tuple[tuple[Triple, ...], tuple[str, ...], tuple[str, ...], str]  # triples, texts, notes, category

SEED = 20170401
TRAIN, DEV, TEST = 600, 60, 60  # entries
SIZES, SIZE_WEIGHTS = (1, 2, 3, 4), (2, 3, 3, 2)  # numbers of triples of an entry, and their weights
TEXTS = {"train": ((1, 2, 3), (1, 2, 2)), "dev": ((2, 3), (1, 1)), "test": ((1, 2, 3, 4), (1, 2, 3, 2))}

PLACES = ("Ostermouth", "Velmar", "Tarn Hollow", "Quillby", "Marrowdale", "Isenford", "Port Lindow", "Hesket", "Brannoch")
PEOPLE = ("Ines Calloway", "Tomas Reuk", "Odile Marchetti", "Piet Vanloo", "Ruth Abara", "Leif Sandoz", "Hugh Tallis")
YEARS = tuple(str(year) for year in range(1871, 2006, 9))
LENGTHS = ("120 metres", "340 metres", "1.2 kilometres", "95.5 metres", "610 metres", "2 kilometres")
FIRST = ("Amber", "Cinder", "Heron", "Juniper", "Lantern", "Mallow", "Otter", "Raven", "Sable", "Thistle", "Wren", "Yarrow")

# category -> (noun, second words of its names, {relation: (values, wordings after "it")}).
Relations = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
CATEGORIES: dict[str, tuple[str, tuple[str, ...], Relations]] = {
    "Bridge": ("bridge", ("Bridge", "Crossing", "Viaduct"), {
        "location": (PLACES, ("is in {v}", "is located in {v}", "stands in {v}", "can be found in {v}")),
        "architect": (PEOPLE, ("was designed by {v}", "was the work of {v}", "has {v} as its architect")),
        "openingYear": (YEARS, ("opened in {v}", "was opened in {v}", "has been open since {v}")),
        "length": (LENGTHS, ("is {v} long", "has a length of {v}", "measures {v}")),
        "material": (("steel", "granite", "oak", "brick"), ("is made of {v}", "was built of {v}", "is built from {v}")),
    }),
    "Orchestra": ("orchestra", ("Sinfonia", "Ensemble", "Players"), {
        "homeTown": (PLACES, ("is based in {v}", "comes from {v}", "has its home in {v}")),
        "conductor": (PEOPLE, ("is conducted by {v}", "is led by {v}", "has {v} as its conductor")),
        "foundingYear": (YEARS, ("was founded in {v}", "was formed in {v}", "dates from {v}")),
        "numberOfPlayers": (("24", "31", "48", "62", "80"), ("has {v} players", "consists of {v} players")),
        "recordLabel": (("Nightjar Records", "Tallow Discs", "Bell & Reed"), ("records for {v}", "is signed to {v}")),
    }),
    "Dish": ("dish", ("Stew", "Pie", "Broth"), {
        "region": (PLACES, ("comes from {v}", "is a dish of {v}", "is found in {v}")),
        "mainIngredient": (("barley", "leek", "trout", "plum"), ("is made with {v}", "contains {v}", "is mostly {v}")),
        "course": (("starter", "main course", "dessert"), ("is served as a {v}", "is a {v}", "is eaten as a {v}")),
        "creator": (PEOPLE, ("was created by {v}", "was first cooked by {v}", "was the invention of {v}")),
    }),
    "Ferry": ("ferry", ("Queen", "Star", "Maiden"), {
        "homePort": (PLACES, ("sails from {v}", "has its home port in {v}", "is registered in {v}")),
        "captain": (PEOPLE, ("is commanded by {v}", "has {v} as its captain", "sails under {v}")),
        "launchYear": (YEARS, ("was launched in {v}", "first sailed in {v}", "has been in service since {v}")),
        "shipLength": (LENGTHS[:4], ("is {v} long", "has a length of {v}")),
    }),
    "Comet": ("comet", ("Comet", "Wanderer"), {
        "discoverer": (PEOPLE, ("was discovered by {v}", "was first seen by {v}", "was found by {v}")),
        "discoveryYear": (YEARS, ("was discovered in {v}", "was first observed in {v}")),
        "orbitalPeriod": (("6 years", "33 years", "71 years"), ("returns every {v}", "has an orbital period of {v}")),
    }),
}  # fmt: skip
SEEN, UNSEEN = ("Bridge", "Orchestra", "Dish"), ("Ferry", "Comet")


def _drawn(draw: Draw, category: str) -> tuple[Triple, ...]:
    """One thing of a category with some facts about it, in WebNLG's form: blanks as underscores."""
    _, seconds, relations = CATEGORIES[category]
    name = f"{draw.uniform(FIRST)}_{draw.uniform(seconds)}"
    size = min(draw.weighted(SIZES, SIZE_WEIGHTS), len(relations))
    sample = draw.sample(list(relations), size)
    return tuple((name, relation, draw.uniform(relations[relation][0]).replace(" ", "_")) for relation in sample)


def _worded(draw: Draw, category: str, triples: tuple[Triple, ...]) -> str:
    """One text for the triples: one or more sentences, the first with the name, with clauses joined by "and"."""
    noun, _, relations = CATEGORIES[category]
    name = triples[0][0].replace("_", " ")
    clauses = [
        draw.pick(relations[relation][1]).format(v=value.replace("_", " "))
        for _, relation, value in (triples if draw.chance(0.6) else draw.shuffled(triples))
    ]
    sentences: list[str] = []
    while clauses:
        size = 2 if draw.chance(0.6) else 1
        group, clauses = clauses[:size], clauses[size:]
        subject = draw.pick((name, f"The {noun} {name}")) if not sentences else draw.pick(("It", f"The {noun}"))
        sentences.append(f"{subject} {' and '.join(group)}.")
    return " ".join(sentences)


def generate(style: str) -> dict[str, list[Row]]:
    """The rows of train, dev and test: the same for one style on every Python version.

    style: "webnlg", or "dart" with relations in upper case, blanks as they are, and no categories (so none is unseen).
    """
    draw, triple_sets = Draw(SEED + (style == "dart")), set[tuple[Triple, ...]]()
    splits: dict[str, list[Row]] = {}
    for split, size in (("train", TRAIN), ("dev", DEV), ("test", TEST)):
        splits[split] = []
        for number in range(size):
            pool = UNSEEN if style == "webnlg" and split == "test" and number % 2 else SEEN
            category = draw.uniform(pool)
            triples = _drawn(draw, category)
            while tuple(sorted(triples)) in triple_sets:
                triples = _drawn(draw, category)
            triple_sets.add(tuple(sorted(triples)))
            texts: dict[str, None] = {}  # distinct, in order
            count = draw.weighted(*TEXTS[split])
            for _ in range(8 * count):  # a single fact has few wordings
                texts[_worded(draw, category, triples)] = None
                if len(texts) == count:
                    break
            splits[split].append(_entry(style, category, triples, tuple(texts)))
    return splits


def _entry(style: str, category: str, triples: tuple[Triple, ...], texts: tuple[str, ...]) -> Row:
    if style == "dart":
        plain = tuple((name.replace("_", " "), relation.upper(), value.replace("_", " ")) for name, relation, value in triples)
        return plain, texts, ("generated",) * len(texts), ""
    return triples, texts, ("good",) * len(texts), category
