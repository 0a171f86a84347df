"""What all tests share: Hypothesis does not judge how long an example takes."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is no bug of the product. Where time matters there is a bench.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
