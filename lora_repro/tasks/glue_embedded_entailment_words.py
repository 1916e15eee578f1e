"""Words of the generated entailment task: people, things and what they are, actions, states. All written for this project."""

from __future__ import annotations

NAMES = (
    "Ada", "Ben", "Cara", "Dev", "Elif", "Femi", "Greta", "Hugo", "Ines", "Jonas", "Kofi", "Lena", "Marek",
    "Nina", "Omar", "Petra", "Rosa", "Sami", "Tara", "Ulla", "Viktor", "Wanda", "Yusuf", "Zoe",
)  # fmt: skip

# What each is: hypernym -> its kinds. Every plural takes an s.
LIVING = {
    "dog": ("poodle", "beagle", "terrier", "spaniel"),
    "bird": ("parrot", "heron", "sparrow", "pigeon"),
    "insect": ("wasp", "beetle", "moth", "cricket"),
    "musician": ("violinist", "drummer", "guitarist", "pianist"),
    "athlete": ("swimmer", "sprinter", "gymnast", "rower"),
    "doctor": ("surgeon", "paediatrician", "psychiatrist", "cardiologist"),
}
THINGS = {
    "boat": ("canoe", "kayak", "yacht", "raft"),
    "instrument": ("violin", "trumpet", "flute", "guitar"),
    "tool": ("hammer", "drill", "saw", "spanner"),
    "vehicle": ("van", "tractor", "motorbike", "car"),
    "flower": ("rose", "tulip", "daffodil", "orchid"),
    "tree": ("oak", "maple", "willow", "pine"),
}
KINDS = LIVING | THINGS

# Where a group is and what can be said of all of it, living or not.
GROUP_PLACES = ("in the photograph", "in the film", "near the river", "behind the house", "on the island",
                "beside the road")  # fmt: skip
LIVING_STATES = ("asleep", "thirsty", "restless", "young", "frightened")
THING_STATES = ("wet", "beautiful", "small", "covered in snow", "old")

SIGHTINGS = (  # base, past
    ("see", "saw"), ("draw", "drew"), ("photograph", "photographed"), ("notice", "noticed"),
    ("mention", "mentioned"), ("paint", "painted"), ("sketch", "sketched"), ("recognise", "recognised"),
)  # fmt: skip
SPOTS = ("in the park", "near the harbour", "behind the station", "at the fair", "outside the museum",
         "by the lake")  # fmt: skip

CROWDS = ("nurses", "students", "farmers", "tourists", "pilots", "children", "sailors", "lawyers", "bakers",
          "artists")  # fmt: skip
DEEDS = ("waited at the station", "signed the letter", "joined the choir", "missed the train",
         "attended the lecture", "won a prize", "slept on the ferry", "crossed the bridge",
         "complained about the noise", "arrived by bus")  # fmt: skip
NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip

ACTIONS = (  # base, past
    ("lock the gate", "locked the gate"), ("water the plants", "watered the plants"),
    ("feed the cat", "fed the cat"), ("call the bank", "called the bank"), ("post the parcel", "posted the parcel"),
    ("pay the bill", "paid the bill"), ("close the window", "closed the window"),
    ("read the contract", "read the contract"), ("book the tickets", "booked the tickets"),
    ("answer the letter", "answered the letter"), ("charge the battery", "charged the battery"),
    ("clean the kitchen", "cleaned the kitchen"), ("bring the map", "brought the map"),
    ("wake the children", "woke the children"), ("return the keys", "returned the keys"),
)  # fmt: skip
ONES = ("praised", "thanked", "followed", "warned", "greeted", "blamed", "interviewed", "invited", "phoned",
        "helped", "hired", "visited")  # fmt: skip
WHEN = ("after the meeting", "on Monday", "before the match", "in the morning", "during the strike",
        "last winter", "at the airport", "on the last day")  # fmt: skip
GOODS = (
    "piano",
    "bicycle",
    "camera",
    "boat",
    "lamp",
    "clock",
    "desk",
    "tent",
    "ladder",
    "coat",
    "map",
    "sofa",
)

EVENTS = (
    "the band played", "the mayor spoke", "the rain started", "the shop closed", "the bus arrived",
    "the alarm rang", "the children sang", "the lights failed", "the guests left", "the judge smiled",
    "the baby woke up", "the dog barked", "the train stopped", "the crowd cheered", "the phone rang",
)  # fmt: skip
COMPARED = (  # more, less, its plain form
    ("older", "younger", "old"), ("taller", "shorter", "tall"), ("faster", "slower", "fast"),
    ("richer", "poorer", "rich"), ("stronger", "weaker", "strong"), ("louder", "quieter", "loud"),
    ("happier", "sadder", "happy"), ("heavier", "lighter", "heavy"),
)  # fmt: skip
ROLES = ("doctor", "pilot", "judge", "dancer", "farmer", "lawyer", "singer", "waiter", "banker", "tailor",
         "student", "plumber")  # fmt: skip
ALONE = ("waved", "laughed", "resigned", "left early", "fell asleep", "apologised", "cried", "moved abroad",
         "won a prize", "missed the bus")  # fmt: skip

# Two sides of a state that excludes a middle, each with its wordings; and what can be in it.
STATES = (
    (("open",), ("closed", "shut"), ("shop", "library", "museum", "office", "gate")),
    (("awake",), ("asleep", "sleeping"), ("baby", "guard", "cat", "patient", "driver")),
    (("empty",), ("occupied", "in use"), ("meeting room", "flat", "garage", "seat", "cabin")),
    (("on time",), ("late", "delayed"), ("train", "ferry", "bus", "flight", "delivery")),
    (("dry",), ("wet", "damp"), ("towel", "path", "bench", "carpet", "coat")),
    (("absent", "away"), ("present", "there"), ("teacher", "manager", "witness", "nurse", "owner")),
)
MOMENTS = ("arrived", "called", "left", "came back", "looked again", "walked in", "asked about it")
FACTS = ("bridge is closed", "museum is free", "train is late", "lift is broken", "pool is heated", "road is icy",
         "hall is full", "bakery is open", "soup is hot", "password is wrong", "flight is cancelled",
         "key is missing")  # fmt: skip
TOUR = (
    "museum",
    "market",
    "castle",
    "zoo",
    "harbour",
    "cathedral",
    "library",
    "garden",
    "theatre",
    "lighthouse",
)
TOURING = (("visit", "visited"), ("photograph", "photographed"), ("like", "liked"), ("leave", "left"),
           ("describe", "described"), ("find", "found"))  # fmt: skip
AGES = ("old", "new", "cheap", "heavy", "broken", "famous")
COLOURS = ("red", "blue", "green", "white", "black", "yellow")
DEALS = (("buy", "bought"), ("sell", "sold"), ("borrow", "borrowed"), ("repair", "repaired"), ("lose", "lost"),
         ("hide", "hid"), ("find", "found"))  # fmt: skip
