"""Settings of all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# A gate must give the same verdict on the same commit; searching goes on at every developer's desk.
settings.register_profile("gate", derandomize=True, deadline=None)
settings.register_profile("desk", deadline=None)
settings.register_profile("nightly", deadline=None, print_blob=True)
usual = "gate" if os.environ.get("CI") == "true" else "desk"
settings.load_profile(os.environ.get("HIPPO_TEST_PROFILE", usual))
