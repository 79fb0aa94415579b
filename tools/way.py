"""Draw the way from a recording to a figure, once plain and once for each chapter with its step lit: `python tools/way.py`."""
from pathlib import Path

IMAGES = Path(__file__).resolve().parent.parent / "nbs" / "images"
STEPS = [("00", "recordings", "who said what, how"), ("01", "frames", "numbers every 20 ms"), ("02", "split", "who may be learnt from"),
         ("03", "network", "an LSTM over frames"), ("04", "training", "until it understands"), ("05", "figure", "how far to trust it"),
         ("06", "answer", "on your recording")]
WIDE, HIGH, GAP = 118, 62, 16


def box(i, step, lit):
    "One step of the way, with an arrow to the next."
    number, name, about = step
    x, fill, ink = 8 + i * (WIDE + GAP), "#1a5aa8" if lit else "#eef3f9", "#ffffff" if lit else "#1b2a3a"
    arrow = f'<path d="M{x - GAP + 2} 39h{GAP - 6}m-4 -4l4 4l-4 4" fill="none" stroke="#5b6b7b" stroke-width="1.6"/>' if i else ""
    return (f'{arrow}<rect x="{x}" y="8" width="{WIDE}" height="{HIGH}" rx="6" fill="{fill}" stroke="#1a5aa8"/>'
            f'<text x="{x + WIDE / 2}" y="34" fill="{ink}" font-size="15" font-weight="bold">{number} {name}</text>'
            f'<text x="{x + WIDE / 2}" y="54" fill="{ink}" font-size="10.5">{about}</text>')


def drawing(lit):
    "The whole way as svg, with the step `lit` filled."
    width, height = 8 + len(STEPS) * (WIDE + GAP), HIGH + 16
    boxes = "".join(box(i, step, step[0] == lit) for i, step in enumerate(STEPS))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'font-family="sans-serif" text-anchor="middle"><rect width="{width}" height="{height}" fill="#ffffff"/>{boxes}</svg>\n')


if __name__ == "__main__":
    for lit in ("", *(number for number, _, _ in STEPS)):
        (IMAGES / f"way{lit and f'-{lit}'}.svg").write_text(drawing(lit), encoding="utf-8")
