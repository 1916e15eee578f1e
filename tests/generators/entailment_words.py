"""Words of the generated entailment task: names, things by kind, actions, places. All written for this project."""

from __future__ import annotations

NAMES = (
    "Ada", "Ben", "Cara", "Dev", "Elif", "Femi", "Greta", "Hugo", "Ines", "Jonas", "Kofi", "Lena", "Marek",
    "Nina", "Omar", "Petra", "Rosa", "Sami", "Tara", "Ulla", "Viktor", "Wanda", "Yusuf", "Zoe",
)  # fmt: skip

# Hypernym -> its kinds. Every plural takes an s.
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

SIGHTINGS = (  # base, past
    ("see", "saw"), ("draw", "drew"), ("photograph", "photographed"), ("notice", "noticed"),
    ("mention", "mentioned"), ("paint", "painted"), ("sketch", "sketched"), ("recognise", "recognised"),
)  # fmt: skip
SPOTS = ("in the park", "near the harbour", "behind the station", "at the fair", "outside the museum",
         "by the lake")  # fmt: skip
