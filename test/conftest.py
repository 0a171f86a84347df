"""What all tests share: Hypothesis does not judge time, and what they start keeps its byte code."""

from __future__ import annotations

import os

from hypothesis import settings

# A busy machine is no bug of the product. Where time matters there is a bench.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Without byte code, as containers often have it, each of hundreds of processes would compile the
# whole project, and work out its parse tables.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
