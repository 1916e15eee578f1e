"""Frames of the generated sentiment task: sentences whose label depends on how the opinion words are combined.

A field ending in `same` is filled with an opinion of the label's own polarity, one ending in `other` with the
opposite. Both labels use the same frames, so no function word and no length reveals the label.

- s, t: two parts reviewed ("the plot"); n, an: a bare noun, with article.
- x..: article and adjective ("a dull"); a..: article, adjective and noun.
- v, b: verb in the past, base; o: noun phrase of opinion; l, ling: like or hate; h: hoped or feared; g: good or bad.
"""

from __future__ import annotations

# The opinion words agree with the label.
DIRECT = (
    "{s} was {very} {same}",
    "{s} was {same}, and {t} was {very} {same_t}",
    "{s} {v_same} {me} straight away",
    "{s} was {o_same} from start to finish",
    "{i} thought that {s} was {very} {same}",
    "{s} was so {same} that {i} told all {my} friends",
    "everybody {i} know called {s} {same}",
    "with {a_same} and {a_same_t}, {whole} {v_same} {me}",
    "the {same} {n} made {whole} {o_same}",
    "few {wholes} have {an} as {same} as this one",
    "{i} have rarely {seen} {a_whole} with {an} as {same} as this",
    "{s} was every bit as {same} as {i} had {h_same}",
    "{i} expected {s} to be {same}, and {i} {i_was} right",
    "the reviews called {s} {same}, and they were right",
    "{who} called {s} {same}, and {i} could not agree more",
    "everybody had a {g_same} word to say about {s}",
    "{i} wanted to {l_same} {s}, and {i} did",
    "it would be right to call {s} {same}",
    "{s} was not exactly {same}, but {t} was {very} {same_t}",
    "what stays with {me} is the {same} {n}",
)
# They are of the opposite polarity, and a negation or a surprise reverses them.
FLIPPED = (
    "{s} was not at all {other}",
    "{s} was not {other}, and {t} was not {other_t} either",
    "there was nothing {other} about {s}",
    "{s} was anything but {other}",
    "{s} was far from {other}",
    "{s} was not nearly as {other} as {i} had {h_other}",
    "nobody {i} know called {s} {other}",
    "{i} cannot say that {s} {v_other} {me}",
    "{s} did not {b_other} {me} at all",
    "{i} wanted to {l_other} {s}, and {i} could not",
    "{i} tried hard to {l_other} {s} and failed",
    "{i} expected {s} to be {other}, and {i} {i_was} wrong",
    "the reviews called {s} {other}, and they were wrong",
    "{s} could easily have been {other}, and was not",
    "{who} called {s} {other}, and {i} could not agree less",
    "nobody had a {g_other} word to say about {s}",
    "it would be wrong to call {s} {other}",
    "if {s} was {other}, {i} did not notice",
)
# One of each polarity: the main clause, or the clause after "but", decides.
MIXED = (
    "{s} was {other}, but {t} was {same_t}",
    "{s} was {other}, but {whole} {v_same} {me}",
    "{s} was {very} {other}, yet {whole} was {o_same}",
    "although {s} was {other}, {whole} was {o_same}",
    "{whole} {v_same} {me}, although {s} was {other}",
    "despite {a_other}, {whole} {v_same} {me}",
    "{whole} was {o_same} despite {a_other}",
    "{i} expected {a_other} and got {x_same} one",
    "{s} was {same} rather than {other}",
    "{s} was not {other} but {same}",
    "{s} was {same}, not {other}",
    "{i} expected to {l_other} {s} and ended up {ling_same} {whole}",
    "{who} called {s} {other}; {i} would say {same}",
    "{s} may have been {other}, but {t} was {same_t}, and that is what {i} remember",
    "the {other} {n} could not stop {whole} from being {o_same}",
    "{i} had been told to expect {a_other}, and {s} was {o_same}",
)

FRAMES = DIRECT + FLIPPED + MIXED
