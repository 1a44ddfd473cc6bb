"""Where the checkout is, and the photo that most tests edit."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ASTRONAUT = ROOT / "examples" / "astronaut.jpg"
