"""Words of the generated similarity task: concepts in families, each concept with its wordings. All written for this project.

Two wordings of one concept mean the same; two concepts of one family are near, those of two families are far.
"""

from __future__ import annotations

Concept = tuple[str, ...]
Family = tuple[Concept, ...]

# Every plural takes an s.
AGENTS: tuple[Family, ...] = (
    (("doctor", "physician"), ("nurse",), ("surgeon",), ("pharmacist", "chemist")),
    (("driver", "motorist"), ("cyclist",), ("tourist", "holidaymaker"), ("commuter",)),
    (("author", "writer"), ("painter", "artist"), ("singer", "vocalist"), ("actor",)),
    (("builder", "construction worker"), ("cook", "chef"), ("tailor",), ("plumber",)),
    (("teacher", "schoolteacher"), ("student", "pupil"), ("professor",), ("librarian",)),
    (("soldier",), ("sailor", "seafarer"), ("pilot",), ("police officer", "constable")),
)
OBJECTS: tuple[Family, ...] = (
    (("car", "automobile"), ("lorry", "truck"), ("bicycle", "bike"), ("motorcycle", "motorbike")),
    (("sofa", "couch"), ("wardrobe",), ("carpet", "rug"), ("bookcase", "bookshelf")),
    (("telephone", "phone"), ("television", "TV set"), ("fridge", "refrigerator"), ("radio",)),
    (("photograph", "photo"), ("map", "chart"), ("poster", "placard"), ("postcard",)),
    (("coat", "overcoat"), ("hat", "cap"), ("suitcase", "travel bag"), ("scarf", "shawl")),
)
# "past base" of actions with an agent and a thing; the past is the participle, too.
ACTIONS: tuple[Family, ...] = (
    (("repaired repair", "fixed fix", "mended mend"), ("cleaned clean",), ("polished polish",), ("repainted repaint",)),
    (("damaged damage",), ("destroyed destroy", "wrecked wreck"), ("burned burn",), ("scratched scratch",)),
    (("inspected inspect", "examined examine"), ("measured measure",), ("described describe",)),
    (("bought buy", "purchased purchase"), ("sold sell",), ("borrowed borrow",), ("ordered order",)),
    (("hid hide", "concealed conceal"), ("found find", "discovered discover"), ("lost lose", "mislaid mislay")),
)  # fmt: skip
PARTICIPLES = {"hid": "hidden", "gave": "given"}  # those that differ from the past
# The same for actions with a receiver: "gave the car to the nurse".
TRANSFERS: tuple[Family, ...] = (
    (("gave give",), ("donated donate",), ("offered offer",)),
    (("sold sell",), ("lent lend", "loaned loan"), ("rented out rent out", "hired out hire out")),
    (("sent send", "dispatched dispatch"), ("delivered deliver", "brought bring"), ("returned return",)),
)
PLACES: tuple[Family, ...] = (
    (("at the railway station", "at the train station"), ("at the airport",), ("at the bus stop",)),
    (("near the harbour", "close to the port"), ("on the beach", "on the seashore"), ("by the lake",)),
    (("in the city centre", "downtown"), ("in the suburbs", "on the edge of town"), ("in the old town",)),
    (
        ("opposite the church", "across from the church"),
        ("behind the supermarket",),
        ("in front of the bank",),
    ),
)
TIMES: tuple[Family, ...] = (
    (("on Friday",), ("on Monday",), ("at the weekend", "on Saturday and Sunday")),
    (("at noon", "at midday"), ("at midnight", "in the middle of the night"), ("at dawn", "at daybreak")),
    (("last autumn", "last fall"), ("last winter",), ("two years ago", "the year before last")),
)
NUMBERS = ("", "two ", "three ", "four ", "five ", "six ", "seven ", "eight ", "nine ")
