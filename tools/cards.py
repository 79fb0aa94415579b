"""Draw the two pictures of the front page from benchmarks/results/cards.json: `python tools/cards.py`."""
import json
from pathlib import Path

import numpy as np
import pandas as pd

from ser_nb.more.summary import plot_card

ROOT = Path(__file__).resolve().parent.parent
PICTURES = {"tess.png": ("tess-classic", "the classic network"), "tess-default.png": ("tess-none", "three networks, without the encoder")}


def main():
    cards = json.loads((ROOT / "benchmarks/results/cards.json").read_text(encoding="utf-8"))
    for name, (key, title) in PICTURES.items():
        card = pd.DataFrame(cards[key]["card"])
        protocol = card["line"].where(~card["line"].str.match("unseen [A-Z]")).ffill()
        card = card.assign(protocol=protocol, between_seeds=np.nan, by_seed=[{}] * len(card)).set_index("line")
        plot_card(card, 7, f"{cards[key]['about']}: {title}").savefig(ROOT / "nbs/images" / name, dpi=160)


if __name__ == "__main__":
    main()
