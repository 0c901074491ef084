"""How long hypothesis searches: the same examples in `make test`, many new ones in `make fuzz`.

`make fuzz` is `pytest -m hypothesis --hypothesis-profile=fuzz`; a test that hypothesis drives is
marked by its plugin.
"""

from hypothesis import HealthCheck, settings

# No deadline for an example: machines differ in speed.
COMMON = settings(deadline=None, print_blob=True)
USUAL = 100  # examples of a test that says nothing else


def register_profiles() -> None:
    """`ci` is the default; `fuzz` searches 50 times as long and keeps what it finds."""
    settings.register_profile("ci", COMMON, max_examples=USUAL, derandomize=True, database=None)
    settings.register_profile(
        "fuzz", COMMON, max_examples=50 * USUAL, suppress_health_check=list(HealthCheck)
    )
    settings.load_profile("ci")


def examples(usual: int) -> settings:
    """So many examples in `make test`, in proportion under another profile."""
    return settings(max_examples=max(1, usual * settings.default.max_examples // USUAL))
