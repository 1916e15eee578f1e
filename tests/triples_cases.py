"""Outputs and references of our own, and what the official programs print of them.

The programs: microsoft/LoRA c4593f0 `gpt2_decode.py --tokenize --lower --ref_num 6` and its `eval.py`, with multi-bleu-detok.perl
of WebNLG/GenerationEval 8067849, NLTK and pyter3 0.3; `evaluation.py` and `run_eval_on_dart.sh` of Yale-LILY/dart bb644b1, with
their multi-bleu.perl, Unidecode 1.4.0 and tercom 7.25; METEOR 1.5's jar.
"""

from __future__ import annotations

LONG = (
    "The Sable Viaduct , which opened in 1934 and which Ruth Abara designed for the town of Marrowdale , is made of brick and "
    "granite from the quarries of Quillby , has a length of 610 metres , carries two tracks over the river , and was the longest "
    "of all bridges in the county until the Wren Crossing near Port Lindow was opened in 1961 by Tomas Reuk ."
)
CASES: list[tuple[str, list[str]]] = [
    ("The Amber Bridge, opened in 1970, is 95.5 metres long.",
     ["The Amber Bridge is 95.5 metres long and opened in 1970.", "Opened in 1970, the Amber Bridge measures 95.5 metres."]),
    ('The ensemble "Raven & Co." isn\'t far from Velmar; it cannot be missed.',
     ['"Raven & Co." is not far from Velmar and can not be missed.', "You can't miss \"Raven & Co.\", an ensemble near Velmar."]),
    ("Café Señor–Zoë lies in İzmir, Türkiye (½ km from the coast).",
     ["The Cafe Señor-Zoë is in İzmir in Türkiye, ½ km from the coast.", "Café Señor–Zoë lies in Izmir, Turkey (√2 km away)."]),
    ("Leif Sandoz leads the Heron Players.",
     ["The Heron Players have a conductor: Leif Sandoz.", "Heron Players, an orchestra, is led by Leif Sandoz.",
      "Conductor of the orchestra is Leif Sandoz.", "Leif Sandoz leads Heron Players.", "They are led by Leif Sandoz.",
      "Sandoz leads them.", "The leader is Leif Sandoz.", "Leif Sandoz leads the Heron Players."]),
    ("Barley stew.", ["The Juniper Stew, a main course of Hesket, is made with barley and leek."]),
    ("", ["The Otter Pie comes from Tarn Hollow.", "Otter Pie is a dish of Tarn Hollow."]),
    ("Piet Vanloo of the Wren Players was preceded by Ines Calloway.",
     ["Ines Calloway was the predecessor of Piet Vanloo of the Wren Players.",
      "The predecessor of Piet Vanloo f the Wren Players was Ines Calloway."]),
    ("In 1934 the brick and granite viaduct of Marrowdale , which is 610 metres long , opened near Quillby .", [LONG]),
    ("Thistle_Star sails from Port_Lindow under Hugh Tallis, launched in 1898.",
     ["Thistle_Star, launched in 1898, sails from Port_Lindow.", "Hugh Tallis commands the Thistle_Star of Port_Lindow.",
      "The ferry was launched in 1898 and sails under Hugh Tallis."]),
    (LONG,
     ["Ruth Abara designed the Sable Viaduct of Marrowdale , the longest until Tomas Reuk opened the Wren Crossing in 1961 ."]),
    ("The comet returns every 33 years. It was discovered by Mira Konstan. Mira Konstan discovered the comet in 1907.",
     ["Discovered in 1907 by Mira Konstan, the comet returns every 33 years.",
      "Mira Konstan discovered the comet, which returns every 33 years, in 1907."]),
]  # fmt: skip
# (BLEU in per cent, METEOR, TER) that the programs print for all the cases, and for every second one from the first on.
EXPECTED = {
    "paper": ((32.12, 0.32442509713856, 0.7385524692026239), (53.04, 0.41242091232567446, 0.5266552504942598)),
    "webnlg": ((31.86, 0.32183229628153504, 0.8551068883610451), (53.88, 0.41671793851577255, 0.5595238095238095)),
    "dart": ((31.60, 0.3196710974425314, 0.8578199052132701), (54.04, 0.41242091232567446, 0.5680473372781065)),
}
BLANK_LINE_TER = 0.7603397634357386  # of all, by eval.py, where the files end in an empty line
