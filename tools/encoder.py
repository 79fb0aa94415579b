"""The two lower layers of the encoder as ser_nb ships them, from the original: `python tools/encoder.py`."""
from pathlib import Path

import numpy as np

from ser_nb.data import replace_file
from ser_nb.lib import encoder


def main():
    with np.load(encoder.fetch_encoder()) as packed:
        weights = encoder.rounded({name: packed[name] for name in packed.files})
    path = Path(encoder.__file__).parents[1] / encoder.SHIPPED
    path.parent.mkdir(exist_ok=True)
    with replace_file(path) as temporary, open(temporary, "wb") as f:
        np.savez_compressed(f, **weights)
    print(path, f"{path.stat().st_size:,} bytes", encoder.weights_hash(weights))


if __name__ == "__main__":
    main()
