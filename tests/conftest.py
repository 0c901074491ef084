"""Settings for all tests: no deadline for a hypothesis example, since machines differ in speed."""

from hypothesis import settings

settings.register_profile("mlfsic", deadline=None)
settings.load_profile("mlfsic")
