"""The content of official splits, by hash, and which splits of a run are others.

The hashes are those of the rows (each task's own `rows_sha256`), so the same for any form of the file. E2E, WebNLG and DART have
theirs beside their readers, which refuse any other content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sized

# task -> split -> number of rows -> sha256 of the rows. None: the official split has as many rows, but no copy was at hand.
# Splits that are not listed were never at hand. Smaller numbers are of copies whose captions say so: SAMSum's CSV release,
# WikiSQL's training part as rebuilt from its queries, and a part of MNLI.
ROWS: Mapping[str, Mapping[str, Mapping[int, str | None]]] = {
    "cola": {
        "train": {8551: "35ea7024b9e5430c4b2296619cb776f7f33b8c73ead237d5b7366d0e94b148ee"},
        "dev": {1043: "9c87a672ffe1e9f968cdde073595292da01dd91fcc852a5d29250e3318e55e57"},
    },
    "mrpc": {
        "train": {3668: "df2748660d8605cbbce8fb688a054d8d766ebfca4e8b1ce6925558721077709e"},
        "dev": {408: "40f253fb6c9181dfcc6005cf83334c4d538dcb52fff02452578593ec04bf9b8d"},
    },
    "rte": {
        "train": {2490: "7056c193dabc41f1434664447bdab86d584b481a4bea211e1828c833dcca09da"},
        "dev": {277: "21e637ae325acab8c953a40be8536241291948e5d952366f8ea5e93c2be96caf"},
    },
    "sst2": {
        "train": {67349: "b54f6f4c421291bae351d942847f1fd90d259a3e7687d84a64dca090f6b25efa"},
        "dev": {872: "75226d41bb70a424d57e43fd4c1024548fde9a146627a35a5ac63d4fcddd97c6"},
    },
    "stsb": {
        "train": {5749: "6f2022e280b2a22650f70c3db64309597b90a885dd119715165b1aa7ba05ac49"},
        "dev": {1500: "06fb689aeea50b9ce35c5b6291f239bceba26857ffcad509a7d4b771ac29546a"},
    },
    "mnli_text": {
        "train": {20000: "ae7c2e27db232c542c2ba530cf7d6bb18967dacee3cef84ad22a31bbc7eba12c", 392702: None},
        "matched": {5000: "c63f9afbbcf02be39c9c26e157937b9566628f99e24675f6eb2977d197eac9b4", 9815: None},
    },
    "samsum": {
        "train": {14731: "667acd94ba07bf992daea0804c6ec14444b9f50d0a21de1a677c75fb3c366e4f", 14732: None},
        "dev": {818: "30195b174318ea5788ab417ce6985814657fdab597202f42e6c54b61fdac654c"},
        "test": {819: "93e4fa874853006a5326a0188a1b39979115b807672b097cf7f881be6a8859b8"},
    },
    "wikisql": {
        "train": {56317: "1204005d5a34e7d1e3b5c2dc5b604046f706a4fe04eb865e6317e0216564fac6", 56355: None},
        "dev": {8421: "15e5f3d7b956bc9e74a54522c0c5ebb1fffda3730bf231ef107a8a7c9ea6d848"},
        "test": {15878: "36ac7162bd080be714c8d33fdeaf39670aaa6e1ecc348237e0b1f3f9a57e1b22"},
    },
}


def others(task: str, rows: Mapping[str, Sized], hashes: Mapping[str, str]) -> tuple[str, ...]:
    """The splits whose rows are known not to be the official ones. hashes: `<task>/rows/<split>` -> sha256 of the rows."""
    found = []
    for split, known in ROWS.get(task, {}).items():
        if split in rows and known.get(len(rows[split]), "") not in (None, hashes[f"{task}/rows/{split}"]):
            found.append(split)
    return tuple(found)


def marked(caption: str, splits: tuple[str, ...]) -> str:
    """A caption, with the splits that are not the official ones in its bracket, if there are any."""
    return f"{caption.removesuffix(')')}; not the official {' and '.join(splits)})" if splits else caption
